"""A Gaussian mixture beside the network, and the share of it that held-out rows ask for.

Where rows come from a few Gaussian groups, maximum likelihood knows their score far better than any
network; elsewhere it is far worse. The held-out objective is quadratic in the share of an average
of two fields, so that the best share is known in closed form, with its standard error.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgError
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits  # scikit-learn brings it
from torch import Tensor, nn

from skscore import _torch
from skscore._affine import Array
from skscore._mixture import Mixture
from skscore._subspace import N_ERRORS

COMPONENTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)  # numbers of components that are tried
N_WORSE = 2  # of these in a row that end the search
MOST_ROWS, MOST_FEATURES = 10_000, 64
ROWS_PER_COLUMN = 10  # in a component, at least, on average
SMALLEST = 1e-5  # variance of a component, in whitened coordinates: below, it sits on a few points
OPTIONS: dict[str, Any] = {"reg_covar": SMALLEST / 10, "tol": 1e-4, "max_iter": 100}
N_STARTS = 2  # of each number, from other means

_TURN = threading.Lock()


@dataclass(frozen=True)
class WeighedMixture:
    """A mixture in coordinates u, and its share in the field.

    Attributes
    ----------
    log_weights : (K,)
    means, variances : (K, d)
        The variances along `bases`.
    bases : (K, d, d)
    share : float
    """

    log_weights: Array
    means: Array
    variances: Array
    bases: Array
    share: float = 0.0

    def field(self, device: torch.device, dtype: torch.dtype) -> Mixture:
        """Return its score."""
        arrays = self.log_weights, self.means, self.variances, self.bases
        return Mixture(*(_torch.to_tensor(a, device, dtype) for a in arrays))


class _Whitened:
    """Coordinates z with mean 0 and covariance I, in which mixtures are fitted: ``u = m + B z``."""

    def __init__(self, U: Array):
        self.mean = U.mean(axis=0)
        covariance = np.cov(U.T).reshape(U.shape[1], -1)
        self.usable = bool(np.isfinite(covariance).all())
        variances, Q = np.linalg.eigh(np.where(self.usable, covariance, 0.0))
        self.usable &= bool(variances[0] > 0)
        self.B, self.inverse = Q * np.sqrt(variances), Q / np.sqrt(variances)

    def of(self, U: Array) -> Array:
        return (U - self.mean) @ self.inverse

    def back(self, g: GaussianMixture) -> WeighedMixture:
        covariances = self.B @ covariances_of(g) @ self.B.T
        variances, bases = np.linalg.eigh(covariances)
        return WeighedMixture(np.log(g.weights_), self.mean + g.means_ @ self.B.T, variances, bases)


def covariances_of(g: GaussianMixture) -> Array:
    """Return the covariance of each component, (K, d, d)."""
    found = np.asarray(g.covariances_)
    return found if found.ndim == 3 else np.repeat(found[None], g.n_components, axis=0)


def _fitted(Z: Array, n_components: int, **options) -> GaussianMixture | None:
    """Return a mixture by expectation maximisation; None where a component has collapsed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            g = GaussianMixture(n_components, **OPTIONS | options).fit(Z)
        except (ValueError, LinAlgError):
            return None
    smallest = np.linalg.eigvalsh(covariances_of(g))[:, 0].min()
    return g if smallest > SMALLEST else None


def likely_mixture(Z: Array, seed: int) -> GaussianMixture | None:
    """Return the mixture with the best Bayesian information criterion; None for one Gaussian.

    Components have covariances of their own, or, of the number that is best so, one in common.
    """
    n, d = Z.shape
    best, least, worse = None, math.inf, 0
    for k in COMPONENTS:
        if k > 1 and k * d * ROWS_PER_COLUMN > n:
            break
        g = _fitted(Z, k, random_state=seed, n_init=N_STARTS)
        criterion = math.inf if g is None else g.bic(Z)
        if criterion < least:
            best, least, worse = g, criterion, 0
        else:
            worse += 1
        if worse == N_WORSE:
            break
    if best is None or best.n_components == 1:
        return None
    tied = _fitted(Z, best.n_components, random_state=seed, covariance_type="tied")
    return tied if tied is not None and tied.bic(Z) < least else best


def _again(g: GaussianMixture, Z: Array) -> GaussianMixture | None:
    """Return the same mixture fitted to other rows, from where it is."""
    return _fitted(
        Z,
        g.n_components,
        covariance_type=g.covariance_type,
        weights_init=g.weights_,
        means_init=g.means_,
        precisions_init=g.precisions_,
    )


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
        ``-E A / E B``; but 0 where that is within two standard errors of it, and otherwise 1 where
        it is within two of that.
    """
    B = (4 * (first + last - 2 * middle)).flatten()
    A = (last - first).flatten() - B / 2
    if len(A) < 2 or not (torch.isfinite(A).all() and B.mean() > 0):
        return 0.0
    share = -A.mean() / B.mean()
    error = N_ERRORS * (A + share * B).std() / math.sqrt(len(A)) / B.mean()
    if not share > error:
        return 0.0
    return 1.0 if share > 1 - error else float(share)


def weigh(
    model: nn.Module,
    judge: Callable[[nn.Module, Tensor], Tensor],
    U: Array,
    train: NDArray,
    x_held_out: Tensor,
    *,
    sigma: float,
    seed: int,
) -> WeighedMixture | None:
    """Return a mixture of rows with the share that held-out rows ask for; None where it has none.

    Parameters
    ----------
    model : ScoreModel or Denoiser
        The trained model, in float32.
    judge : callable
        ``judge(model, x_held_out) -> (n,)`` or (k, n), the objective of held-out rows.
    U : ndarray of shape (n, d)
        All rows.
    train : ndarray of shape (n, d) or (k, n, d)
        The training rows of each member. What weighs the mixture is fitted to these, from the
        mixture of all rows: of the held-out rows it knows the number of components and the start.
    x_held_out : Tensor of shape (n, d) or (k, n, d)
        Held-out rows, blurred where the field is that of blurred rows.
    sigma : float
        Noise level of the field; 0 for a field at many.
    seed : int
        Of the mixture's start.
    """
    if not 1 <= U.shape[1] <= MOST_FEATURES:
        return None
    # Two threads on such small products are many times slower where the other core is busy. Their
    # number and the warning filters belong to the process: fits that overlap take turns.
    with _TURN, threadpool_limits(1), np.errstate(all="ignore"):
        return _weigh(model, judge, U, train, x_held_out, sigma, seed)


def _weigh(model, judge, U, train, x_held_out, sigma, seed) -> WeighedMixture | None:
    looked = U[np.random.default_rng(seed).permutation(len(U))[:MOST_ROWS]]
    whitened = _Whitened(looked)
    found = likely_mixture(whitened.of(looked), seed) if whitened.usable else None
    if found is None:
        return None
    parts = train if train.ndim == 3 else train[None]
    others = [_again(found, whitened.of(rows[:MOST_ROWS].astype(np.float64))) for rows in parts]
    if any(g is None for g in others):
        return None
    device, dtype = x_held_out.device, x_held_out.dtype
    fields = [whitened.back(g).field(device, dtype) for g in others]  # type: ignore[arg-type]
    own = Mixture.stacked(fields) if train.ndim == 3 else fields[0]
    rows = [
        judge(model.mixed(own.at(sigma), share), x_held_out)  # type: ignore[operator]
        for share in (0.0, 0.5, 1.0)
    ]
    share = best_share(*rows)
    if not share:
        return None
    mixture = whitened.back(found)
    return WeighedMixture(
        mixture.log_weights, mixture.means, mixture.variances + sigma**2, mixture.bases, share
    )
