"""A mixture of products of one-dimensional densities, fitted to rows.

Within a component the columns are independent, and the log density of each has its third derivative
penalised (Silverman 1982, "On the estimation of a probability density function by the maximum
penalized likelihood method"): smoothed without limit it is a normal one. Components are found by
expectation maximisation, with one Newton step for all log densities at once in place of a full
maximisation. Held-out rows decide how many there are, and how smooth they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.interpolate import CubicSpline
from scipy.linalg import LinAlgError, solveh_banded
from scipy.ndimage import gaussian_filter1d
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans

from skscore import _torch
from skscore._affine import Array
from skscore._products import Products
from skscore._subspace import N_ERRORS
from skscore.objectives import exact

POINTS = 256  # of the grid of each column
MARGIN = 0.3  # deviations that a grid goes on beyond the rows
COMPONENTS = (1, 2, 3, 4, 6, 8)  # numbers of components that are tried
MOST_FEATURES = 5  # of rows that more than one is tried for
COUNTED = 5_000  # rows at most, fitted and judged, that the components are counted on
# Weights of the penalty at one row, in deviations; the best ones fall as n^(-6/7) (Silverman 1982).
SMOOTHING = np.geomspace(3e-6, 3.0, 13)
COARSE, FINE = 3e-2, 1e-4  # those at which components are looked for, and counted
KERNEL = 0.2  # deviations
N_WORSE = 2  # weights in a row, worse on held-out rows, that end the search
N_FOLDS = 5
N_STARTS, START_STEPS = 3, 12
STEPS, TOLERANCE = 60, 1e-5  # of expectation maximisation, and the gain that ends it
NEWTON_STEPS = 12
LONGEST, DEEP = 1.5, 12.0  # change of a log density in one step, unless it is that far down
FEWEST = 20  # rows of a component
PATCHES = 12  # groups of neighbours to a component, that begin in one component or another


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

    def field(self, device: torch.device, dtype: torch.dtype) -> Products:
        """Return its score."""
        arrays = self.log_weights, self.coefficients, self.start, self.step, self.axes
        return Products(*(_torch.to_tensor(a, device, dtype) for a in arrays))


class _Grid:
    """Points at equal distances along each column, and the penalty on what stands at them."""

    def __init__(self, Z: Array):
        self.start = Z.min(axis=0) - MARGIN
        self.step = (Z.max(axis=0) + MARGIN - self.start) / (POINTS - 1)
        self.points = self.start[:, None] + self.step[:, None] * np.arange(POINTS)
        factors = [-1.0, 3.0, -3.0, 1.0]
        third = sparse.diags_array(factors, offsets=[0, 1, 2, 3], shape=(POINTS - 3, POINTS))
        P = (third.T @ third).tocsr()
        bands = np.stack([np.pad(P.diagonal(-shift), (0, shift)) for shift in range(4)])
        self.bands = bands[:, None, :] / self.step[:, None] ** 5  # the diagonal and three below

    def basis(self, Z: Array) -> sparse.csr_array:
        """Return (n, d * POINTS): what linear interpolation between the points multiplies."""
        n, d = Z.shape
        place = np.clip((Z - self.start) / self.step, 0, POINTS - 1)
        left = np.minimum(place.astype(int), POINTS - 2)
        where = left + POINTS * np.arange(d)
        values = np.stack([1 - (place - left), place - left], axis=-1)
        columns = np.stack([where, where + 1], axis=-1)
        rows = np.arange(0, 2 * d * n + 1, 2 * d)
        return sparse.csr_array((values.ravel(), columns.ravel(), rows), (n, d * POINTS))

    def penalty_slope(self, theta: Array) -> Array:
        """Return the gradient of half the integral of the squared third derivative."""
        third = np.diff(theta, 3) / self.step[:, None] ** 5
        found = np.zeros_like(theta)
        for shift, factor in enumerate((-1, 3, -3, 1)):
            found[..., shift : shift + POINTS - 3] += factor * third
        return found


@dataclass(frozen=True)
class _Seen:
    """How often rows are at each point (K, d, POINTS) in each component, and its log weight."""

    frequencies: Array
    log_weights: Array
    n_rows: int

    @classmethod
    def of(cls, basis: sparse.csr_array, shares: Array) -> _Seen:
        """Return what rows with posterior shares (n, K) have."""
        total = shares.sum(axis=0)
        if not total.min() >= FEWEST:
            raise LinAlgError("a component has lost its rows")
        found = (basis.T @ shares).T / total[:, None]
        return cls(found.reshape(len(total), -1, POINTS), np.log(total / len(shares)), len(shares))


@dataclass(frozen=True)
class _Fit:
    """Logs of the probabilities (K, d, POINTS) of the points of a grid, and of the components."""

    grid: _Grid
    theta: Array
    log_weights: Array

    @classmethod
    def rough(cls, grid: _Grid, seen: _Seen) -> _Fit:
        """Return where to start: what was seen, under a normal kernel."""
        frequencies = np.empty_like(seen.frequencies)
        for j, width in enumerate(KERNEL / grid.step):
            frequencies[:, j] = gaussian_filter1d(seen.frequencies[:, j], width, mode="constant")
        theta = np.log(frequencies + 1e-12)
        return cls(grid, theta - logsumexp(theta, axis=-1, keepdims=True), seen.log_weights)

    def logs(self, basis: sparse.csr_array) -> Array:
        """Return the log of each component's part in the density of each row, (n, K)."""
        log_f = self.theta - np.log(self.grid.step)[:, None]
        return basis @ log_f.reshape(len(log_f), -1).T + self.log_weights

    def log_density(self, basis: sparse.csr_array) -> Array:
        """Return the log density of rows, (n,)."""
        return logsumexp(self.logs(basis), axis=1)

    def shares(self, basis: sparse.csr_array) -> tuple[Array, float]:
        """Return the posterior shares of the components (n, K), and the mean log density."""
        logs = self.logs(basis)
        total = logsumexp(logs, axis=1, keepdims=True)
        return np.exp(logs - total), float(total.mean())

    def improved(self, seen: _Seen, smoothing: float) -> _Fit:
        """Take one Newton step for the penalised likelihood of what was seen."""
        p = np.exp(self.theta)
        # The penalty is weighed against all rows, the rows of a component against themselves.
        part = np.exp(seen.log_weights)[:, None, None]
        weight = smoothing * seen.n_rows ** (-6 / 7) / part
        slope = seen.frequencies - p - weight * self.grid.penalty_slope(self.theta)
        bands = weight * self.grid.bands[:, None]
        bands[0] += p + 1e-9
        step = solveh_banded(bands.reshape(4, -1), slope.ravel(), lower=True)
        step = step.reshape(self.theta.shape)
        # Far down in a tail a log probability may fall as it likes.
        theta = self.theta + step
        felt = np.maximum(self.theta, theta) > self.theta.max(axis=-1, keepdims=True) - DEEP
        longest = np.abs(np.where(felt, step, 0.0)).max(axis=-1, keepdims=True)
        theta = self.theta + step * np.minimum(1.0, LONGEST / longest.clip(LONGEST))
        theta -= logsumexp(theta, axis=-1, keepdims=True)
        return _Fit(self.grid, theta, seen.log_weights)

    def smoothed(self, seen: _Seen, smoothing: float) -> _Fit:
        """Return the maximum of the penalised likelihood with these shares."""
        fit = self
        for _ in range(NEWTON_STEPS):
            before, fit = fit, fit.improved(seen, smoothing)
            if (np.exp(before.theta) * np.abs(fit.theta - before.theta)).sum(axis=-1).max() < 1e-4:
                break
        return fit

    def maximised(self, basis: sparse.csr_array, smoothing: float, n_steps: int = STEPS) -> _Fit:
        """Return the fit after expectation maximisation."""
        fit, before = self, -math.inf
        for _ in range(n_steps):
            shares, likely = fit.shares(basis)
            fit = fit.improved(_Seen.of(basis, shares), smoothing)
            if not abs(likely - before) > TOLERANCE:
                break
            before = likely
        return fit

    def weighed(self, axes: Array) -> WeighedProducts:
        """Return it as arrays, with no share yet."""
        log_f = self.theta - np.log(self.grid.step)[:, None]
        columns = [CubicSpline(p, log_f[:, j], axis=1).c for j, p in enumerate(self.grid.points)]
        coefficients = np.stack(columns)[:, ::-1].transpose(3, 0, 2, 1)
        return WeighedProducts(
            self.log_weights, coefficients, self.grid.start, self.grid.step, axes
        )

    def objective(self, Z: Array) -> Array:
        """Return the exact objective of score matching of each row."""
        field = self.weighed(np.eye(Z.shape[1])).field(torch.device("cpu"), torch.float64)
        parts = torch.from_numpy(np.ascontiguousarray(Z)).split(1000)
        return torch.cat([exact(field, part) for part in parts]).numpy()


def _started(Z: Array, basis: sparse.csr_array, grid: _Grid, k: int, seed: int) -> _Fit:
    """Return where the search with k components begins: patches of rows dealt out at random."""
    fits = []
    for start in range(N_STARTS if k > 1 else 1):
        random = np.random.RandomState((seed + start) % 2**32)
        patches = KMeans(PATCHES * k, n_init=1, max_iter=20, random_state=random).fit_predict(Z)
        dealt = random.dirichlet(np.full(k, 0.3), size=PATCHES * k)
        fit = _Fit.rough(grid, _Seen.of(basis, dealt[patches]))
        fits.append(fit.maximised(basis, COARSE, START_STEPS))
    return max(fits, key=lambda fit: fit.log_density(basis).mean())


def _counted(Z: Array, grid: _Grid, seed: int) -> _Fit | None:
    """Return the fit with the number of components that is likeliest on left-out rows.

    None where no number is likelier than one Gaussian by more than two standard errors.
    """
    Z = Z[:COUNTED]
    n, d = Z.shape
    cut = n - n // N_FOLDS
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
    normal = multivariate_normal(Z[:cut].mean(axis=0), np.cov(Z[:cut].T))
    return best if best is not None and _is_more(most, normal.logpdf(Z[cut:])) else None


def _is_more(found: Array, other: Array) -> bool:
    """Tell whether numbers are greater on average, by more than two standard errors."""
    gain = found - other
    return bool(gain.mean() > N_ERRORS * gain.std() / math.sqrt(len(gain)))


def _smoothest(fit: _Fit, Z: Array) -> float:
    """Return the smoothing with the least objective over rows left out in folds.

    The shares of the components stay as they are.
    """
    basis, fits = fit.grid.basis(Z), []
    shares, _ = fit.shares(basis)
    for fold in range(N_FOLDS):
        left_out = np.arange(len(Z)) % N_FOLDS == fold
        fits.append((fit, _Seen.of(basis[~left_out], shares[~left_out]), Z[left_out]))
    tried: list[tuple[float, Array]] = []
    best = 0
    for smoothing in SMOOTHING:
        fits = [(own.smoothed(seen, smoothing), seen, rows) for own, seen, rows in fits]
        objective = np.concatenate([own.objective(rows) for own, _, rows in fits])
        tried.append((float(smoothing), objective))
        if objective.mean() < tried[best][1].mean():
            best = len(tried) - 1
        if len(tried) - best > N_WORSE:
            break
    # The smoothest that is not worse than the best by more than two standard errors.
    return max(s for s, found in tried if not _is_more(found, tried[best][1]))


@dataclass(frozen=True)
class FoundProducts:
    """A mixture of products as it was found, to be fitted to other rows from there."""

    axes: Array
    fit: _Fit
    smoothing: float
    sigma: float
    seed: int

    def again(self, rows: Array) -> WeighedProducts | None:
        """Return the same mixture fitted to other rows; None where it has collapsed."""
        basis = self.fit.grid.basis(_blurred(rows, self.sigma, self.seed) @ self.axes.T)
        try:
            return self.fit.maximised(basis, self.smoothing).weighed(self.axes)
        except (LinAlgError, ValueError):
            return None

    def weighed(self) -> WeighedProducts:
        """Return it as arrays, with no share yet."""
        return self.fit.weighed(self.axes)


def _blurred(rows: Array, sigma: float, seed: int) -> Array:
    if not sigma:
        return rows
    return rows + sigma * np.random.default_rng(seed).standard_normal(rows.shape)


def likely_products(U: Array, axes: Array, sigma: float, seed: int) -> FoundProducts | None:
    """Return the mixture of products that held-out rows ask for.

    None where it is not likelier than one Gaussian by more than two standard errors.

    Parameters
    ----------
    U : ndarray of shape (n, d)
        Rows, in random order.
    axes : ndarray of shape (d, d)
        The directions of the columns.
    sigma : float
        Noise level of the field.
    seed : int
        Of the starts and of the noise.
    """
    rows = _blurred(U, sigma, seed)
    spread = (rows @ axes.T).std(axis=0)
    if not (np.isfinite(spread).all() and spread.min() > 0):
        return None
    axes = axes / spread[:, None]
    Z = rows @ axes.T
    grid = _Grid(Z)
    try:
        fit = _counted(Z, grid, seed)
        if fit is None:
            return None
        smoothing = _smoothest(fit, Z)
        fit = fit.maximised(grid.basis(Z), smoothing)
    except (LinAlgError, ValueError):
        return None
    return FoundProducts(axes, fit, smoothing, sigma, seed)
