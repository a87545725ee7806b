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
from skscore._checks import integer, real, warn
from skscore._denoiser import Denoiser
from skscore.exceptions import SamplingWarning
from skscore.noise import Levels, geometric_grid, rho_grid
from skscore.samplers import FROM_NOISE, conditional, guided
from skscore.samplers._descent import NoiseScore

BEST = "dpm_solver"  # what sampler="auto" is; measured by benchmarks/sampling.py
N_STEPS = 100  # of a walk down the grid
ANNEALED_LEVELS = 50
FARTHEST = 1e3  # times the highest noise level: given values beyond are refused
FEW_LEVELS = 10  # of a ladder, at which only annealed Langevin takes enough steps
GUIDED_FROM = 0.25  # the lowest level, in deviations of the data, at which a guide leads
CORRECTED = 0.25, 1.0  # levels, likewise, that DPM-Solver corrects
ANNEALED_STEP = 0.1  # of annealed Langevin, in squared units of the noise level


def descent_params(sampler: str) -> tuple[str, ...]:
    """Return the keywords of `sample` that a sampler takes."""
    known = inspect.signature(FROM_NOISE[sampler]).parameters
    own = ("churn", "n_corrections", "step_size")
    return ("callback", "guidance", "init", "n_steps", *(name for name in own if name in known))


def run_descents(
    model: Denoiser,
    affine: AffineMap,
    noise: Levels,
    sampler: str,
    n_samples: int,
    seed: int,
    *,
    n_steps: int | None = None,
    guide: Denoiser | None = None,
    guidance: float = 1.0,
    init: ArrayLike | None = None,
    given: ArrayLike | None = None,
    callback: Callable[[int, slice, Array], None] | None = None,
    block_rows: int = _torch.BLOCK_ROWS,
    **hyper,
) -> Array:
    """Return `n_samples` rows in the units of X, walked from noise to data.

    Parameters
    ----------
    model : Denoiser
        In float32.
    affine : AffineMap
        From X to u.
    noise : Ladder or LogUniform
        The model's noise levels.
    sampler : str
        A key of FROM_NOISE.
    n_samples, seed : int
        How many rows, and of which stream.
    n_steps : int, optional
        Levels of the grid; for annealed Langevin, steps at each level.
    guide : Denoiser, optional
        One that has learnt less, which the samples are led away from.
    guidance : float, default=1.0
        How far, as in `guided`, from a quarter deviation of the data up; at 1.0 not at all.
    init : array-like of shape (n_samples, n_features), optional
        Rows at the highest level, in the units of X.
    given : array-like of shape (n_features,) or (n_samples, n_features), optional
        Values of the samples, NaN where they are to be drawn.
    callback : callable, optional
        Called as ``callback(step, which, X)`` after each step of each block.
    block_rows : int, default=256
        Rows of a block.
    **hyper
        What else the sampler takes.
    """
    known = inspect.signature(FROM_NOISE[sampler]).parameters
    for name, value in hyper.items():
        if name == "n_corrections":  # none only where that is the default
            integer(min(1, known[name].default))(name, value)
        else:
            real(high=1e30, closed=name == "churn")(name, value)
    if n_steps is not None:
        integer(1)("n_steps", n_steps)
    start = check_init(init, n_samples, affine)
    levels, hyper = _plan(sampler, noise, n_steps, hyper)
    unit = float(model.mean_variance) ** 0.5
    if "corrected" in known:
        hyper["corrected"] = tuple(share * unit for share in CORRECTED)
    device = model.basis.device
    fixed = None if given is None else _Given(given, n_samples, affine, FARTHEST * levels[0])

    score = _field(model)
    if guide is not None and guidance != 1:
        weak = _field(guide.to(model.basis))
        score = guided(score, weak, guidance, lowest=GUIDED_FROM * unit)

    def draw_start(size: int, stream: torch.Generator) -> Tensor:
        options = {"generator": stream, "device": device, "dtype": model.basis.dtype}
        return model.from_flow(torch.randn(size, affine.rank, **options), levels[0])  # type: ignore[call-overload]

    def walk(u: Tensor, which: slice, **kwargs) -> Tensor:
        if fixed is None:
            return FROM_NOISE[sampler](score, u, sigmas=levels, **hyper, **kwargs)
        values, known = fixed.tensors(which, u)
        return conditional(score, u, sigmas=levels, given=values, known=known, **hyper, **kwargs)

    X = run_blocks(
        walk,
        affine,
        draw_start,
        n_samples,
        seed,
        device,
        start=start,
        callback=callback,
        block_rows=block_rows,
    )
    return X if fixed is None else np.where(fixed.known, fixed.rows, X)


def _field(model: Denoiser) -> NoiseScore:
    """Return the field as a function of rows and a noise level."""
    at = cache(model.at)
    return lambda x, sigma: at(sigma)(x)


def warn_if_coarse(noise: Levels, what: str) -> None:
    """Warn when a ladder has too few levels to be walked down step by step."""
    if not noise.between and len(noise.sigmas) < FEW_LEVELS:
        warn(
            f"A ladder of {len(noise.sigmas)} noise levels is too coarse for {what}: use "
            f"sampler='annealed_langevin' with many n_steps, or fit with sigma=None.",
            SamplingWarning,
        )


def _plan(
    sampler: str, noise: Levels, n_steps: int | None, hyper: dict
) -> tuple[list[float], dict]:
    """Return the levels that a sampler walks down, and its own parameters."""
    high, low = noise.sigmas[0], noise.sigmas[-1]
    annealed = sampler == "annealed_langevin"
    if annealed:
        hyper = {"step_size": ANNEALED_STEP * low**2, "n_steps": n_steps or 10, **hyper}
    if noise.between:
        grid = geometric_grid if annealed else rho_grid
        return grid(high, low, ANNEALED_LEVELS if annealed else n_steps or N_STEPS), hyper
    if n_steps is not None and not annealed:
        raise ValueError(
            f"n_steps={n_steps!r} has no meaning on a ladder, which is walked down level by level: "
            f"leave it at None, or fit with sigma=None."
        )
    if not (annealed and n_steps):
        warn_if_coarse(noise, f"sampler={sampler!r}")
    return list(noise.sigmas), hyper


class _Given:
    """Known values of rows, and the projection on them in coordinates u."""

    def __init__(self, given: ArrayLike, n_samples: int, affine: AffineMap, reach: float):
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
                f"given has shape {rows.shape}{' and infinite values' if infinite else ''}: for "
                f"n_samples={n_samples} it must have shape ({d},) or ({n_samples}, {d}), one value "
                f"for each column that was fitted, finite or NaN where it is to be drawn."
            )
        self.rows = np.broadcast_to(rows, (n_samples, d))
        self.known: NDArray[np.bool_] = ~np.isnan(self.rows)
        self.affine = affine
        far = affine.bound(np.where(self.known, self.rows, affine.mean))
        if not (far <= reach).all():
            i = int(np.argmax(far.max(axis=1)))
            raise ValueError(
                f"given={self.rows[i]} is too far from the data to draw from a law given it: pass "
                f"values that could belong to the data."
            )

    def tensors(self, which: slice, like: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the known part of a block in coordinates u, and the projection on it."""
        known = filled(self.known, which, len(like))
        offsets = np.where(known, filled(self.rows, which, len(like)) - self.affine.mean, 0.0)
        if self.affine.is_diagonal:  # a column is a coordinate
            values = _torch.to_tensor(offsets * self.affine.scales, like.device, like.dtype)
            mask = _torch.to_tensor(known, like.device, like.dtype)
            return values, lambda v: v * mask
        inverse = np.linalg.inv(self.affine.matrix)[:, : self.affine.rank]
        patterns, row_of = np.unique(known, axis=0, return_inverse=True)
        inverses = np.linalg.pinv(inverse * patterns[:, :, None])
        onto = inverses @ (inverse * patterns[:, :, None])
        values = np.einsum("nij,nj->ni", inverses[row_of], offsets)
        projection = _torch.to_tensor(onto[row_of], like.device, like.dtype)

        def known_part(v: Tensor) -> Tensor:
            return torch.einsum("nij,nj->ni", projection, v)

        return _torch.to_tensor(values, like.device, like.dtype), known_part
