"""Logs of densities on grids, and their penalised maximum likelihood.

A mixture of K components; within each the d columns are independent, and the log density of each
column stands at the points of a grid. Its third derivative is penalised (Silverman 1982, "On the
estimation of a probability density function by the maximum penalized likelihood method"): smoothed
without limit it is that of a normal law. All log densities take one Newton step at once, which is
one system with three diagonals beside its own; expectation maximisation goes on by such steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, solveh_banded
from scipy.ndimage import gaussian_filter1d

from skscore._affine import Array

Basis: TypeAlias = sparse.csr_array

POINTS = 256  # of the grid of each column
MARGIN = 0.3  # deviations that a grid goes on beyond the rows
KERNEL = 0.2  # deviations of the kernel that a fit begins with
STEPS, TOLERANCE = 60, 1e-5  # of expectation maximisation, and the gain that ends it
NEWTON_STEPS = 12
LONGEST, DEEP = 1.5, 12.0  # change of a log density in one step, unless it is that far down
FEWEST = 20  # rows of a component


def posterior(logs: Array) -> tuple[Array, Array]:
    """Return logs (n, K) as shares that sum to one, and the logs of their sums, (n,).

    SciPy's `logsumexp` takes ten times as long, as do sums along a short last axis.
    """
    shares = logs.T.copy()
    top = shares.max(axis=0)
    shares -= top
    np.exp(shares, out=shares)
    sums = shares.sum(axis=0)
    shares /= sums
    return shares.T, np.log(sums) + top


def _normalised(theta: Array) -> Array:
    """Return logs (..., points) less the log of their sum."""
    top = theta.max(axis=-1, keepdims=True)
    return theta - top - np.log(np.exp(theta - top).sum(axis=-1, keepdims=True))


class Grid:
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

    def basis(self, Z: Array) -> Basis:
        """Return (n, d * POINTS): what linear interpolation between the points multiplies."""
        n, d = Z.shape
        place = np.clip((Z - self.start) / self.step, 0, POINTS - 1)
        left = np.minimum(place.astype(int), POINTS - 2)
        where = left + POINTS * np.arange(d)
        values = np.stack([1 - (place - left), place - left], axis=-1)
        columns = np.stack([where, where + 1], axis=-1)
        rows = np.arange(0, 2 * d * n + 1, 2 * d)
        return Basis((values.ravel(), columns.ravel(), rows), (n, d * POINTS))

    def penalty_slope(self, theta: Array) -> Array:
        """Return the gradient of half the integral of the squared third derivative."""
        third = np.diff(theta, 3) / self.step[:, None] ** 5
        found = np.zeros_like(theta)
        for shift, factor in enumerate((-1, 3, -3, 1)):
            found[..., shift : shift + POINTS - 3] += factor * third
        return found


@dataclass(frozen=True)
class Seen:
    """How often rows are at each point (K, d, POINTS) in each component, and its log weight."""

    frequencies: Array
    log_weights: Array
    n_rows: int

    @classmethod
    def of(cls, basis: Basis, shares: Array) -> Seen:
        """Return what rows with posterior shares (n, K) have."""
        total = shares.sum(axis=0)
        if not total.min() >= FEWEST:
            raise LinAlgError("a component has lost its rows")
        found = (basis.T @ shares).T / total[:, None]
        return cls(found.reshape(len(total), -1, POINTS), np.log(total / len(shares)), len(shares))


@dataclass(frozen=True)
class LogSplines:
    """Logs of the probabilities (K, d, POINTS) of the points of a grid, and of the components."""

    grid: Grid
    theta: Array
    log_weights: Array

    @classmethod
    def rough(cls, grid: Grid, seen: Seen) -> LogSplines:
        """Return where to start: what was seen, under a normal kernel."""
        frequencies = np.empty_like(seen.frequencies)
        for j, width in enumerate(KERNEL / grid.step):
            frequencies[:, j] = gaussian_filter1d(seen.frequencies[:, j], width, mode="constant")
        theta = np.log(frequencies + 1e-12)
        return cls(grid, _normalised(theta), seen.log_weights)

    def logs(self, basis: Basis) -> Array:
        """Return the log of each component's part in the density of each row, (n, K)."""
        log_f = self.theta - np.log(self.grid.step)[:, None]
        return basis @ log_f.reshape(len(log_f), -1).T + self.log_weights

    def log_density(self, basis: Basis) -> Array:
        """Return the log density of rows, (n,)."""
        return posterior(self.logs(basis))[1]

    def shares(self, basis: Basis) -> tuple[Array, float]:
        """Return the posterior shares of the components (n, K), and the mean log density."""
        shares, total = posterior(self.logs(basis))
        return shares, float(total.mean())

    def improved(self, seen: Seen, smoothing: float) -> LogSplines:
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
        return LogSplines(self.grid, _normalised(theta), seen.log_weights)

    def smoothed(self, seen: Seen, smoothing: float) -> LogSplines:
        """Return the maximum of the penalised likelihood with these shares."""
        fit = self
        for _ in range(NEWTON_STEPS):
            before, fit = fit, fit.improved(seen, smoothing)
            if (np.exp(before.theta) * np.abs(fit.theta - before.theta)).sum(axis=-1).max() < 1e-4:
                break
        return fit

    def maximised(self, basis: Basis, smoothing: float, n_steps: int = STEPS) -> LogSplines:
        """Return the fit after expectation maximisation, less components that lose their rows."""
        fit, before = self, -math.inf
        for _ in range(n_steps):
            shares, likely = fit.shares(basis)
            kept = shares.sum(axis=0) >= FEWEST
            if kept.any() and not kept.all():
                left = fit.log_weights[kept]
                fit = LogSplines(fit.grid, fit.theta[kept], left - np.log(np.exp(left).sum()))
                continue
            fit = fit.improved(Seen.of(basis, shares), smoothing)
            if not abs(likely - before) > TOLERANCE:
                break
            before = likely
        return fit
