"""Chains for `sample`: blocks of rows, each with its own stream of noise.

So row i depends on the seed and on i, whatever is drawn beside it. ``eta`` is in units of the
standardised coordinates u.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from skscore import _torch
from skscore._affine import AffineMap, Array
from skscore._autodiff import ScoreFn
from skscore._base import Spread
from skscore._checks import integer, optional_callable, real
from skscore.samplers import AT_ONE_LEVEL

# eta as a share of the inverse curvature: small enough that the bias of Langevin's chain is not
# seen by a classifier; MALA corrects it and can go further.
STEP = {"langevin": 0.1, "mala": 0.3}


def run_chains(
    field: ScoreFn,
    affine: AffineMap,
    draw_start: Callable[[int, torch.Generator], Tensor],
    spread: Spread,
    sampler: str,
    n_samples: int,
    seed: int,
    device: torch.device,
    *,
    n_steps: int = 200,
    step_size: float | None = None,
    init: ArrayLike | None = None,
    callback: Callable[[int, slice, Array], None] | None = None,
    block_rows: int = _torch.BLOCK_ROWS,
) -> Array:
    """Return `n_samples` rows in the units of X, each the end of a chain.

    Parameters
    ----------
    field : callable
        The field, in coordinates u; for MALA with a method `energy`.
    affine : AffineMap
        From X to u.
    draw_start : callable
        ``draw_start(size, generator) -> (size, rank)``: where chains start, on `device` and in
        the dtype that they run in.
    spread : Spread
        Of the field over its own law.
    sampler : str
        A key of AT_ONE_LEVEL.
    n_samples, seed : int
        How many rows, and of which stream.
    device : torch.device
        Where the streams of noise are drawn.
    n_steps : int, default=200
        Steps of each chain.
    step_size : float, optional
        eta.
    init : array-like of shape (n_samples, n_features), optional
        Starting points, in the units of X.
    callback : callable, optional
        Called as ``callback(step, which, X)`` after each step of each block: `which` is the slice
        of the rows, `X` where they are, in the units of X.
    block_rows : int, default=256
        Rows of a block.
    """
    integer(1)("n_steps", n_steps)
    if step_size is None:
        step_size = STEP[sampler] / max(spread.curvature, 1e-12)
    real(high=1e30)("step_size", step_size)
    start = check_init(init, n_samples, affine)
    reach = spread.reach if start is None else max(spread.reach, 2 * _radius(start))

    def walk(u: Tensor, which: slice, **kwargs) -> Tensor:
        return AT_ONE_LEVEL[sampler](
            field,  # type: ignore[arg-type]
            u,
            step_size=step_size,
            n_steps=n_steps,
            reach=reach,
            **kwargs,
        )

    return run_blocks(
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


def run_blocks(
    walk: Callable[..., Tensor],
    affine: AffineMap,
    draw_start: Callable[[int, torch.Generator], Tensor],
    n_samples: int,
    seed: int,
    device: torch.device,
    *,
    start: Array | None = None,
    callback: Callable[[int, slice, Array], None] | None = None,
    block_rows: int = _torch.BLOCK_ROWS,
) -> Array:
    """Return `n_samples` rows in the units of X, block by block.

    Parameters
    ----------
    walk : callable
        ``walk(u, which, generator=, callback=) -> u``: a sampler, for the rows `which`.
    affine, draw_start, n_samples, seed, device, callback, block_rows
        As in `run_chains`.
    start : ndarray of shape (n_samples, rank), optional
        Starting points in coordinates u, in place of those of `draw_start`.
    """
    optional_callable("callback", callback, "a function callback(step, which, X)")
    size = block_rows
    with _torch.isolated():
        parts = []
        for block in range(-(-n_samples // size)):
            which = slice(block * size, min((block + 1) * size, n_samples))
            stream = _torch.generator(seed, device, block=block)
            u = draw_start(size, stream)
            if start is not None:
                u = _torch.to_tensor(filled(start, which, size), device, u.dtype)
            u = walk(u, which, generator=stream, callback=_watcher(callback, which, affine))
            parts.append(_torch.to_numpy(u[: which.stop - which.start]))
    return affine.inverse_transform(np.concatenate(parts))


def filled(rows: NDArray, which: slice, size: int) -> NDArray:
    """Return a block of rows, a short last one filled up: each row has its own noise."""
    index = np.arange(which.start, which.start + size)
    return rows[np.minimum(index, len(rows) - 1)]


def _watcher(
    callback: Callable[[int, slice, Array], None] | None, which: slice, affine: AffineMap
) -> Callable[[int, Tensor], None] | None:
    """Return the callback of one block: in the units of X, without the rows that fill it up."""
    if callback is None:
        return None

    def watch(step: int, points: Tensor) -> None:
        there = _torch.to_numpy(points[: which.stop - which.start])
        callback(step, which, affine.inverse_transform(there))

    return watch


def _radius(U: Array) -> float:
    return float(np.linalg.norm(U, axis=1).max())


def check_init(init: ArrayLike | None, n_samples: int, affine: AffineMap) -> Array | None:
    """Return starting points in coordinates u, or None for none."""
    if init is None:
        return None
    try:
        X = np.asarray(init).astype(np.float64, casting="same_kind")
    except (ValueError, TypeError) as error:
        raise ValueError(f"init must be an array of numbers, got {init!r}.") from error
    wanted = (n_samples, len(affine.mean))
    if X.shape != wanted or not np.isfinite(X).all():
        raise ValueError(
            f"init must be finite, of shape {wanted} (one starting point for each sample), got "
            f"shape {X.shape}{'' if np.isfinite(X).all() else ' with NaN or infinity'}."
        )
    return affine.transform(X)


def draw_rows(rows: Tensor, size: int, stream: torch.Generator) -> Tensor:
    """Draw from rows, with replacement."""
    return rows[torch.randint(len(rows), (size,), generator=stream, device=rows.device)]
