"""A Gaussian mixture, fitted to rows by maximum likelihood."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.linalg import LinAlgError
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skscore import _torch
from skscore._affine import Array
from skscore._mixture import Mixture

COMPONENTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)  # numbers of components that are tried
N_WORSE = 2  # of these in a row that end the search
ROWS_PER_COLUMN = 10  # in a component, at least, on average
SMALLEST = 1e-5  # variance of a component, in whitened coordinates: below, it sits on a few points
OPTIONS: dict[str, Any] = {"reg_covar": SMALLEST / 10, "tol": 1e-4}
N_STARTS, START_STEPS = 2, 3  # of each number, from other means; then the likelier goes on
STRETCH, N_STRETCHES = 10, 10  # steps of expectation maximisation
REACH = 3  # times the gain of a stretch that all later ones may gain
AT_ONCE = 4_096  # rows that a log density is computed of at once
COUNTED = 5_000  # rows that the numbers are tried on; the likelihood is that of all


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

    def back(self, g: GaussianMixture, sigma: float = 0.0) -> WeighedMixture:
        covariances = self.B @ covariances_of(g) @ self.B.T
        variances, bases = np.linalg.eigh(covariances)
        means = self.mean + g.means_ @ self.B.T
        return WeighedMixture(np.log(g.weights_), means, variances + sigma**2, bases)


def covariances_of(g: GaussianMixture) -> Array:
    """Return the covariance of each component, (K, d, d)."""
    found = np.asarray(g.covariances_)
    return found if found.ndim == 3 else np.repeat(found[None], g.n_components, axis=0)


def _fitted(Z: Array, g: GaussianMixture) -> GaussianMixture | None:
    """Return a mixture after expectation maximisation; None where a component has collapsed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            g.fit(Z)
        except (ValueError, LinAlgError):
            return None
    smallest = np.linalg.eigvalsh(covariances_of(g))[:, 0].min()
    return g if smallest > SMALLEST else None


def _counted(
    Z: Array, k: int, random: np.random.RandomState, least: float
) -> tuple[GaussianMixture | None, float]:
    """Return a mixture of k components and its criterion, infinite where it is none.

    It is given up where, as slowly as it gains, it is not expected to come down to the least one so
    far.
    """
    part = Z[:COUNTED]
    options = {"max_iter": START_STEPS, "warm_start": True, "random_state": random}
    starts = [_fitted(part, GaussianMixture(k, **OPTIONS | options)) for _ in range(N_STARTS)]
    g = max((g for g in starts if g is not None), key=lambda g: g.lower_bound_, default=None)
    criterion = math.inf if g is None else g.bic(Z)
    for _ in range(N_STRETCHES):
        if g is None or g.converged_:
            break
        before, g = criterion, _fitted(part, g.set_params(max_iter=STRETCH))  # which goes on
        criterion = math.inf if g is None else g.bic(Z)
        if criterion - least > REACH * (before - criterion):
            break
    return g, criterion


def likely_mixture(Z: Array, seed: int) -> GaussianMixture | None:
    """Return the mixture with the best Bayesian information criterion; None for one Gaussian.

    Components have covariances of their own, or, of the number that is best so, one in common.
    """
    n, d = Z.shape
    random = np.random.RandomState(seed)
    best, least, worse = None, math.inf, 0
    for k in COMPONENTS:
        if k > 1 and k * d * ROWS_PER_COLUMN > n:
            break
        g, criterion = _counted(Z, k, random, least)
        if criterion < least:
            best, least, worse = g, criterion, 0
        else:
            worse += 1
        if worse == N_WORSE:
            break
    if best is None or best.n_components == 1:
        return None
    in_common = {"covariance_type": "tied", "random_state": random}
    tied = _fitted(Z[:COUNTED], GaussianMixture(best.n_components, **OPTIONS | in_common))
    return _again(tied if tied is not None and tied.bic(Z) < least else best, Z)


def _again(g: GaussianMixture, Z: Array) -> GaussianMixture | None:
    """Return the same mixture fitted to other rows, from where it is."""
    start = {"weights_init": g.weights_, "means_init": g.means_, "precisions_init": g.precisions_}
    options = {"covariance_type": g.covariance_type, "max_iter": STRETCH * N_STRETCHES}
    return _fitted(Z, GaussianMixture(g.n_components, **OPTIONS | options | start))


@dataclass(frozen=True)
class FoundMixture:
    """A mixture as it was found, to be fitted to other rows from there; blurred at a level."""

    whitened: _Whitened
    mixture: GaussianMixture
    sigma: float

    @classmethod
    def of(cls, U: Array, sigma: float, seed: int) -> FoundMixture | None:
        """Return the mixture of rows; None where one Gaussian is as good."""
        whitened = _Whitened(U)
        found = likely_mixture(whitened.of(U), seed) if whitened.usable else None
        return None if found is None else cls(whitened, found, sigma)

    def again(self, rows: Array) -> FoundMixture | None:
        """Return the same mixture fitted to other rows; None where it has collapsed."""
        g = _again(self.mixture, self.whitened.of(rows))
        return None if g is None else replace(self, mixture=g)

    def weighed(self) -> WeighedMixture:
        """Return it as arrays, with no share yet."""
        return self.whitened.back(self.mixture, self.sigma)

    def log_density(self, rows: Array) -> Array:
        """Return the log density of blurred rows."""
        field = self.weighed().field(torch.device("cpu"), torch.float64)
        constant = 0.5 * rows.shape[1] * math.log(2 * math.pi)
        parts = torch.from_numpy(rows).split(AT_ONCE)
        return -torch.cat([field.energy(part) for part in parts]).numpy() - constant
