"""A mixture of products of one-dimensional densities, found in rows.

Columns are independent within a component. How many components there are the likelihood of left-out
rows decides, and how smooth the densities are the objective of score matching on them.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.linalg import LinAlgError
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from skscore import _torch
from skscore._affine import Array
from skscore._products import BlurredProducts, Products
from skscore._subspace import N_ERRORS
from skscore.estimators._log_splines import FEWEST, Basis, Grid, LogSplines, Seen
from skscore.estimators._mixture import FoundMixture
from skscore.objectives import exact

COMPONENTS = (1, 2, 3, 4, 6, 8)  # numbers of components that are tried
MOST_FEATURES = 5  # of rows that more than one is tried for
COUNTED = 5_000  # rows at most, fitted and judged, that the components are counted on
# Weights of the penalty at one row, in deviations; the best ones fall as n^(-6/7) (Silverman 1982).
SMOOTHING = np.geomspace(3e-6, 3.0, 13)
COARSE, FINE = 3e-2, 1e-4  # those at which components are looked for, and counted
N_WORSE = 2  # weights that are worse than the best, beyond the errors, and end the search
N_FOLDS = 5
N_STARTS, START_STEPS = 3, 4
BEYOND, LOWEST = 64, 60.0  # points beyond a grid at many levels, and how low their logs may be
PATCHES = 12  # groups of neighbours to a component, that begin in one component or another
ROUGHLY: dict[str, Any] = {"init": "random", "n_init": 1, "max_iter": 10, "tol": 1e-2}


@dataclass(frozen=True)
class WeighedProducts:
    """A mixture of products in coordinates u, and its share in the field.

    Attributes
    ----------
    log_weights : (K,)
    coefficients : (K, d, cells, 4)
    start, step : (d,)
    axes : (d, d)
    share : float
    """

    log_weights: Array
    coefficients: Array
    start: Array
    step: Array
    axes: Array
    share: float = 0.0

    @classmethod
    def of(cls, fit: LogSplines, axes: Array) -> WeighedProducts:
        """Return a fit as cubic splines, with no share yet."""
        grid = fit.grid
        log_f = fit.theta - np.log(grid.step)[:, None]
        columns = [CubicSpline(p, log_f[:, j], axis=1).c for j, p in enumerate(grid.points)]
        coefficients = np.stack(columns)[:, ::-1].transpose(3, 0, 2, 1)
        return cls(fit.log_weights, coefficients, grid.start, grid.step, axes)

    def field(self, device: torch.device, dtype: torch.dtype) -> Products:
        """Return its score."""
        arrays = self.log_weights, self.coefficients, self.start, self.step, self.axes
        return Products(*(_torch.to_tensor(a, device, dtype) for a in arrays))


@dataclass(frozen=True)
class WeighedBlurredProducts:
    """The same for a field at many noise levels, where coordinates u are columns.

    Attributes
    ----------
    log_weights : (K,)
    atoms : (K, d, points)
    start, step, scale : (d,)
    share : float
    """

    log_weights: Array
    atoms: Array
    start: Array
    step: Array
    scale: Array
    share: float = 0.0

    @classmethod
    def of(cls, fit: LogSplines, axes: Array) -> WeighedBlurredProducts:
        """Return a fit as points, with no share yet; its parabolas go on beyond the grid."""
        theta, step = fit.theta, fit.grid.step
        beyond = np.arange(1, BEYOND + 1)
        tails = []
        for ends in (theta[..., :3], theta[..., :-4:-1]):
            first, second, third = np.moveaxis(ends, -1, 0)[..., None]
            bend = np.minimum(first - 2 * second + third, 0.0)
            rise = np.minimum(first - second, 0.0)
            tails.append(first + rise * beyond + 0.5 * bend * beyond * (beyond + 1))
        theta = np.concatenate([tails[0][..., ::-1], theta, tails[1]], axis=-1)
        # None is so unlikely that it is nothing in float32.
        theta = np.maximum(theta, theta.max(axis=-1, keepdims=True) - LOWEST)
        atoms = np.exp(theta - logsumexp(theta, axis=-1, keepdims=True))
        return cls(fit.log_weights, atoms, fit.grid.start - BEYOND * step, step, np.diag(axes))

    def field(self, device: torch.device, dtype: torch.dtype) -> BlurredProducts:
        """Return its score."""
        arrays = self.log_weights, self.atoms, self.start, self.step, self.scale
        return BlurredProducts(*(_torch.to_tensor(a, device, dtype) for a in arrays))


def _objective(fit: LogSplines, Z: Array) -> Array:
    """Return the exact objective of score matching of each row."""
    own = WeighedProducts.of(fit, np.eye(Z.shape[1]))
    field = own.field(torch.device("cpu"), torch.float64)
    parts = torch.from_numpy(np.ascontiguousarray(Z)).split(1000)
    return torch.cat([exact(field, part) for part in parts]).numpy()


def _started(Z: Array, basis: Basis, grid: Grid, k: int, seed: int) -> LogSplines:
    """Return where the search with k components begins: patches of rows dealt out at random."""
    if k == 1:
        return LogSplines.rough(grid, Seen.of(basis, np.ones((len(Z), 1)))).maximised(basis, COARSE)
    fits = []
    for start in range(N_STARTS):
        random = np.random.RandomState((seed + start) % 2**32)
        groups = KMeans(PATCHES * k, **ROUGHLY, random_state=random)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # where rows repeat
            patches = groups.fit_predict(Z)
        dealt = random.dirichlet(np.full(k, 0.3), size=PATCHES * k)
        fit = LogSplines.rough(grid, Seen.of(basis, dealt[patches]))
        fits.append(fit.maximised(basis, COARSE, START_STEPS))
    return max(fits, key=lambda fit: fit.log_density(basis).mean())


def _cut(n: int) -> tuple[int, int]:
    """Return where the rows that components are counted on are cut in two, and where they end."""
    n = min(n, COUNTED)
    return n - n // N_FOLDS, n


def _counted(Z: Array, grid: Grid, seed: int) -> tuple[LogSplines | None, Array]:
    """Return the fit with the number of components that is likeliest on left-out rows.

    With its log density there; None where no number is likelier than one Gaussian by more than two
    standard errors.
    """
    cut, n = _cut(len(Z))
    Z, d = Z[:n], Z.shape[1]
    basis, judged = grid.basis(Z[:cut]), grid.basis(Z[cut:])
    best, most = None, np.full(n - cut, -math.inf)
    for k in COMPONENTS if d <= MOST_FEATURES else COMPONENTS[:1]:
        if k * max(FEWEST, PATCHES) > cut:
            break
        try:
            fit = _started(Z[:cut], basis, grid, k, seed).maximised(basis, FINE)
        except (LinAlgError, ValueError):
            break
        found = fit.log_density(judged)
        if best is not None and not _is_more(found, most):
            break
        best, most = fit, found
    if best is None:
        return None, most
    normal = multivariate_normal(Z[:cut].mean(axis=0), np.cov(Z[:cut].T))
    return best if _is_more(most, normal.logpdf(Z[cut:])) else None, most


def _is_more(found: Array, other: Array) -> bool:
    """Tell whether numbers are greater on average, by more than two standard errors."""
    gain = found - other
    return bool(gain.mean() > N_ERRORS * gain.std() / math.sqrt(len(gain)))


def _smoothest(fit: LogSplines, Z: Array) -> float:
    """Return the smoothing with the least objective over rows left out in folds.

    The shares of the components stay as they are.
    """
    basis, fits = fit.grid.basis(Z), []
    shares, _ = fit.shares(basis)
    for fold in range(N_FOLDS):
        left_out = np.arange(len(Z)) % N_FOLDS == fold
        fits.append((fit, Seen.of(basis[~left_out], shares[~left_out]), Z[left_out]))
    tried: list[tuple[float, Array]] = []
    best, worse = 0, 0
    for smoothing in SMOOTHING:
        try:
            fits = [(own.smoothed(seen, smoothing), seen, rows) for own, seen, rows in fits]
        except LinAlgError:  # so smooth that rounding decides
            break
        objective = np.concatenate([_objective(own, rows) for own, _, rows in fits])
        if not np.isfinite(objective).all():
            break
        tried.append((float(smoothing), objective))
        if objective.mean() < tried[best][1].mean():
            best, worse = len(tried) - 1, 0
        worse += _is_more(objective, tried[best][1])
        if worse == N_WORSE:
            break
    # The smoothest that is not worse than the best by more than two standard errors.
    return max(weight for weight, found in tried if not _is_more(found, tried[best][1]))


@dataclass(frozen=True)
class FoundProducts:
    """A mixture of products as it was found, to be found again in other rows."""

    axes: Array
    fit: LogSplines
    smoothing: float
    sigma: float
    seed: int
    many: bool

    def again(self, rows: Array) -> FoundProducts | None:
        """Return as many components, as smooth, found in other rows; None where one is lost.

        From the start: from where it is, a fit remembers rows that it has seen before.
        """
        Z = _blurred(rows, self.sigma, self.seed) @ self.axes.T
        grid, k = self.fit.grid, len(self.fit.log_weights)
        basis = grid.basis(Z)
        try:
            fit = _started(Z, basis, grid, k, self.seed).maximised(basis, FINE)
            fit = fit.maximised(basis, self.smoothing)
        except (LinAlgError, ValueError):
            return None
        return replace(self, fit=fit) if len(fit.log_weights) == k else None

    def weighed(self) -> WeighedProducts | WeighedBlurredProducts:
        """Return it as arrays, with no share yet."""
        kind = WeighedBlurredProducts if self.many else WeighedProducts
        return kind.of(self.fit, self.axes)

    def log_density(self, rows: Array) -> Array:
        """Return the log density of blurred rows."""
        return (
            self.fit.log_density(self.fit.grid.basis(rows @ self.axes.T))
            + np.linalg.slogdet(self.axes)[1]
        )


def _of_rival(rival: FoundMixture, U: Array, rows: Array, axes: Array) -> Array:
    """Return the log density, along the axes, of another mixture where components are counted."""
    cut, n = _cut(len(U))
    again = rival.again(U[:cut])
    if again is None:
        return np.full(n - cut, -math.inf)
    return again.log_density(rows[cut:n]) - np.linalg.slogdet(axes)[1]


def _blurred(rows: Array, sigma: float, seed: int) -> Array:
    if not sigma:
        return rows
    return rows + sigma * np.random.default_rng((seed, 2)).standard_normal(rows.shape)


def likely_products(
    U: Array,
    axes: Array,
    sigma: float,
    seed: int,
    *,
    rival: FoundMixture | None = None,
    many: bool = False,
) -> FoundProducts | None:
    """Return the mixture of products that held-out rows ask for.

    None where it is not likelier than one Gaussian by more than two standard errors, or where its
    rival is likelier by as much.

    Parameters
    ----------
    U : ndarray of shape (n, d)
        Rows, in random order.
    axes : ndarray of shape (d, d)
        The directions of the columns; diagonal for many levels.
    sigma : float
        Noise level of the field; 0 for a field at many.
    seed : int
        Of the starts and of the noise.
    rival : FoundMixture or None, default=None
        Another mixture of these rows; it is fitted again to those that components are counted on.
    many : bool, default=False
        Whether the field is one at many levels.
    """
    rows = _blurred(U, sigma, seed)
    spread = (rows @ axes.T).std(axis=0)
    if not (np.isfinite(spread).all() and spread.min() > 0):
        return None
    axes = axes / spread[:, None]
    Z = rows @ axes.T
    grid = Grid(Z)
    try:
        fit, likely = _counted(Z, grid, seed)
        if fit is None or (rival and _is_more(_of_rival(rival, U, rows, axes), likely)):
            return None
        smoothing = _smoothest(fit, Z)
        fit = fit.maximised(grid.basis(Z), smoothing)
    except (LinAlgError, ValueError):
        return None
    return FoundProducts(axes, fit, smoothing, sigma, seed, many)
