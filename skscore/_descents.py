"""Samples from noise for `sample`: the grid and the steps of each sampler, and given values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from skscore import _torch
from skscore._affine import AffineMap, Array
from skscore._chains import check_init, filled, run_blocks
from skscore._denoiser import Denoiser
from skscore._validation import integer, real
from skscore.noise import geometric_grid, rho_grid
from skscore.samplers import FROM_NOISE, conditional

BEST = "dpm_solver"  # what sampler="auto" is; measured by benchmarks/sampling.py
N_STEPS = 100  # of a walk down the grid
ANNEALED_LEVELS = 50
ANNEALED_STEP = 0.1  # of annealed Langevin, in squared units of the noise level


def descent_params(sampler: str) -> tuple[str, ...]:
    """Return the keywords of `sample` that a sampler takes."""
    known = inspect.signature(FROM_NOISE[sampler]).parameters
    own = ("churn", "n_corrections", "step_size")
    return ("callback", "init", "n_steps", *(name for name in own if name in known))


def run_descents(
    model: Denoiser,
    affine: AffineMap,
    sigmas: tuple[float, ...],
    sampler: str,
    n_samples: int,
    seed: int,
    *,
    n_steps: int | None = None,
    init: ArrayLike | None = None,
    given: ArrayLike | None = None,
    callback: Callable[[int, slice, Array], None] | None = None,
    **hyper,
) -> Array:
    """Return `n_samples` rows in the units of X, walked from noise to data.

    Parameters
    ----------
    model : Denoiser
        In float32.
    affine : AffineMap
        From X to u.
    sigmas : tuple of float
        The model's noise levels: a ladder, or the ends of a range.
    sampler : str
        A key of FROM_NOISE.
    n_samples, seed : int
        How many rows, and of which stream.
    n_steps : int, optional
        Levels of the grid; for annealed Langevin, steps at each level.
    init : array-like of shape (n_samples, n_features), optional
        Rows at the highest level, in the units of X.
    given : array-like of shape (n_features,) or (n_samples, n_features), optional
        Values of the samples, NaN where they are to be drawn.
    callback : callable, optional
        Called as ``callback(step, which, X)`` after each step of each block.
    **hyper
        What else the sampler takes.
    """
    for name, value in hyper.items():
        check = integer(1) if name == "n_corrections" else real(high=1e30, closed=name == "churn")
        check(name, value)
    if n_steps is not None:
        integer(1)("n_steps", n_steps)
    start = check_init(init, n_samples, affine)
    levels, hyper = _plan(sampler, sigmas, n_steps, hyper)
    device = model.basis.device
    at = cache(model.at)
    fixed = None if given is None else _Given(given, n_samples, affine)

    def score(x: Tensor, sigma: float) -> Tensor:
        return at(sigma)(x)

    def draw_start(size: int, stream: torch.Generator) -> Tensor:
        options = {"generator": stream, "device": device, "dtype": model.basis.dtype}
        return model.from_flow(torch.randn(size, affine.rank, **options), levels[0])  # type: ignore[call-overload]

    def walk(u: Tensor, which: slice, **kwargs) -> Tensor:
        if fixed is None:
            return FROM_NOISE[sampler](score, u, sigmas=levels, **hyper, **kwargs)
        values, known = fixed.tensors(which, u)
        return conditional(score, u, sigmas=levels, given=values, known=known, **hyper, **kwargs)

    X = run_blocks(
        walk, affine, draw_start, n_samples, seed, device, start=start, callback=callback
    )
    return X if fixed is None else np.where(fixed.known, fixed.rows, X)


def _plan(
    sampler: str, sigmas: tuple[float, ...], n_steps: int | None, hyper: dict
) -> tuple[list[float], dict]:
    """Return the levels that a sampler walks down, and its own parameters."""
    high, low = sigmas[0], sigmas[-1]
    if sampler != "annealed_langevin":
        n_levels = n_steps or N_STEPS
        return list(sigmas) if len(sigmas) > 2 and not n_steps else rho_grid(
            high, low, n_levels
        ), hyper
    levels = list(sigmas) if len(sigmas) > 2 else geometric_grid(high, low, ANNEALED_LEVELS)
    return levels, {"step_size": ANNEALED_STEP * low**2, "n_steps": n_steps or 10, **hyper}


class _Given:
    """Known values of rows, and the projection on them in coordinates u."""

    def __init__(self, given: ArrayLike, n_samples: int, affine: AffineMap):
        d = len(affine.mean)
        try:
            rows = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"given must be an array of numbers, NaN where a value is to be drawn, got "
                f"{given!r}."
            ) from error
        infinite = bool(np.isinf(rows).any())
        if rows.shape not in ((d,), (n_samples, d)) or infinite:
            raise ValueError(
                f"given has shape {rows.shape}{' and infinite values' if infinite else ''}: it "
                f"must have shape ({d},) or ({n_samples}, {d}), one value for each column that "
                f"was fitted, finite or NaN where it is to be drawn."
            )
        self.rows = np.broadcast_to(rows, (n_samples, d))
        self.known: NDArray[np.bool_] = ~np.isnan(self.rows)
        self.affine = affine
        self.inverse = np.linalg.inv(affine.matrix)[:, : affine.rank]

    def tensors(self, which: slice, like: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the known part of a block in coordinates u, and the projection on it."""
        known = filled(self.known, which)
        offsets = np.where(known, filled(self.rows, which) - self.affine.mean, 0.0)
        patterns, row_of = np.unique(known, axis=0, return_inverse=True)
        inverses = np.linalg.pinv(self.inverse * patterns[:, :, None])
        onto = inverses @ (self.inverse * patterns[:, :, None])
        values = np.einsum("nij,nj->ni", inverses[row_of], offsets)
        projection = _torch.to_tensor(onto[row_of], like.device, like.dtype)

        def known_part(v: Tensor) -> Tensor:
            return torch.einsum("nij,nj->ni", projection, v)

        return _torch.to_tensor(values, like.device, like.dtype), known_part
