"""Mixtures beside the network, and the share of them that held-out rows ask for.

Where rows come from a few Gaussian groups, or columns are independent within groups, maximum
likelihood knows their score far better than any network; elsewhere it is far worse. The held-out
objective is quadratic in the share of an average of two fields, so that the best share is known in
closed form, with its standard error.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # scikit-learn brings it
from torch import Tensor, nn

from skscore._affine import Array
from skscore.estimators._mixture import FoundMixture, WeighedMixture
from skscore.estimators._products import (
    FoundProducts,
    WeighedBlurredProducts,
    WeighedProducts,
    likely_products,
)

Weighed = WeighedMixture | WeighedProducts | WeighedBlurredProducts
Found = FoundMixture | FoundProducts

MOST_ROWS, MOST_FEATURES = 10_000, 64
FEWEST_HELD_OUT = 20  # rows, all members' together: of fewer a share's standard error says nothing
ROUNDING = 1e-9
SHARE_ERRORS = 1.5  # standard errors within which a share is none, or all

_TURN = threading.Lock()


def best_share(first: Tensor, middle: Tensor, last: Tensor) -> float:
    """Return the share of an average of two fields, from its objective at three shares.

    Parameters
    ----------
    first, middle, last : Tensor
        The objective of each held-out row at shares 0, 1/2 and 1: ``L0 + a A + a^2 B / 2``, with
        slope A and curvature B.

    Returns
    -------
    float
        ``-E A / E B``; but 0 where that is within one and a half standard errors of it, and
        otherwise 1 where it is within as much of that.
    """
    B = (4 * (first + last - 2 * middle)).flatten()
    A = (last - first).flatten() - B / 2
    if len(A) < 2 or not (torch.isfinite(A).all() and B.mean() > 0):
        return 0.0
    share = -A.mean() / B.mean()
    error = SHARE_ERRORS * (A + share * B).std() / math.sqrt(len(A)) / B.mean()
    if not share > error:
        return 0.0
    return 1.0 if share > 1 - error else float(share)


def weigh(
    model: nn.Module,
    judge: Callable[[nn.Module], Tensor],
    U: Array,
    train: NDArray,
    x_held_out: Tensor,
    *,
    axes: Array | None,
    sigma: float | None,
    seed: int,
) -> Weighed | None:
    """Return a mixture of rows with the share that held-out rows ask for; None where it has none.

    It is the likelier one, on held-out rows, of those that are found. Of fewer than twenty held-out
    rows nothing is asked.

    Parameters
    ----------
    model : ScoreModel or Denoiser
        The trained model, in float32.
    judge : callable
        ``judge(model) -> (n,)`` or (k, n), the objective of held-out rows.
    U : ndarray of shape (n, d)
        All rows.
    train : ndarray of shape (n, d) or (k, n, d)
        The training rows of each member. What weighs the mixture is fitted to these: of the
        held-out rows it knows the number of components, and the start or how smooth it is.
    x_held_out : Tensor of shape (n, d) or (k, n, d)
        Held-out rows, blurred where the field is that of blurred rows.
    axes : ndarray of shape (d, d) or None
        The directions of the columns of X; None for no products.
    sigma : float or None
        Noise level of the field; None for a field at many.
    seed : int
        Of the mixture's start.
    """
    few = math.prod(x_held_out.shape[:-1]) < FEWEST_HELD_OUT
    if few or not 1 <= U.shape[1] <= MOST_FEATURES:
        return None
    # Two threads on such small products are many times slower where the other core is busy. Their
    # number and the warning filters belong to the process: fits that overlap take turns.
    with _TURN, threadpool_limits(1), np.errstate(all="ignore"):
        # Not the stream of the split, which begins with the held-out rows.
        rows = U[np.random.default_rng((seed, 1)).permutation(len(U))[:MOST_ROWS]]
        parts = train if train.ndim == 3 else train[None]
        found, again = _likeliest(_candidates(rows, parts, axes, sigma, seed), x_held_out)
        if found is None:
            return None
        fields = [each.weighed().field(x_held_out.device, x_held_out.dtype) for each in again]
        own = type(fields[0]).stacked(fields) if train.ndim == 3 else fields[0]  # type: ignore[arg-type]
        judged = [judge(model.mixed(own, share)) for share in (0.0, 0.5, 1.0)]  # type: ignore[operator]
        share = best_share(*judged)
        return replace(found.weighed(), share=share) if share else None


def _likeliest(
    candidates: Iterator[tuple[Found, list[Found]]], x_held_out: Tensor
) -> tuple[Found | None, list[Found]]:
    """Return the candidate that is likeliest on the held-out rows of the members."""
    held_out = x_held_out.cpu().numpy().astype(np.float64)
    best: tuple[Found | None, list[Found]] = None, []
    most = -math.inf
    for found, again in candidates:
        pairs = zip(again, held_out.reshape(len(again), -1, held_out.shape[-1]), strict=True)
        likely = float(np.mean([fit.log_density(rows).mean() for fit, rows in pairs]))
        if likely > most:
            best, most = (found, again), likely
    return best


def _is_diagonal(axes: Array) -> bool:
    """Tell whether each coordinate is a column, up to rounding."""
    own = np.abs(np.diag(axes))[:, None]
    return bool(np.all(np.abs(axes - np.diag(np.diag(axes))) <= ROUNDING * own))


def _candidates(
    rows: Array, parts: NDArray, axes: Array | None, sigma: float | None, seed: int
) -> Iterator[tuple[Found, list[Found]]]:
    """Yield each mixture, and what it is when fitted to the training rows of each member."""
    many, level = sigma is None, sigma or 0.0
    gaussians = FoundMixture.of(rows, level, seed)
    again = _fitted_again(gaussians, parts)
    if gaussians is not None and again:
        yield gaussians, again
    if axes is None or (many and not _is_diagonal(axes)):
        return
    rival = gaussians if again else None  # one that has collapsed rules nothing out
    products = likely_products(rows, axes, level, seed, rival=rival, many=many)
    again = _fitted_again(products, parts)
    if products is not None and again:
        yield products, again


def _fitted_again(found: Found | None, parts: NDArray) -> list[Found]:
    """Return a mixture fitted to the rows of each member; none at all where one collapses."""
    if found is None:
        return []
    fits = [found.again(rows[:MOST_ROWS].astype(np.float64)) for rows in parts]
    again = [fit for fit in fits if fit is not None]
    return again if len(again) == len(parts) else []
