"""A kernel exponential family on a Gaussian base, whose Hyvarinen objective is quadratic.

``v = u / h`` rows in bandwidths, ``z`` the m points, ``t = |v - z|^2``, ``k(t)`` the kernel,
``c`` the coefficients, ``f(v) = -v' P v / 2 + sum_j c_j k(|v - z_j|^2)`` the log density up to a
constant, ``A`` the metric of the objective. The gain over the Gaussian, a mean over rows, is

    J(c) - J(0) = b' c + 1/2 c' G c,
    b_j = mean[ tr(A H_j) - v' P A g_j ],    G_jk = mean[ g_j' A g_k ],

with ``g_j = 2 k' (v - z_j)`` and ``H_j = 2 k' I + 4 k'' (v - z_j)(v - z_j)'``. G is made of two
products of n x m matrices: ``2 (v - z_j)' A (v - z_k) = t_j + t_k - |z_j - z_k|^2`` in the metric.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

JITTER = 1e-8  # times the trace of K, so that it has a Cholesky factor
BLOCK_BYTES = 2**24  # what one of the rows x points matrices of a block may take: half a dozen live


def kernel(t: Array) -> Array:
    """Return the inverse multiquadric ``k(t) = (1 + t/2)^(-3/2)``."""
    q = 1 + t / 2
    return 1 / (q * np.sqrt(q))


def derivatives(t: Array) -> tuple[Array, Array]:
    """Return k' and k''."""
    q = 1 + t / 2
    k1 = -3 / 4 / (q * q * np.sqrt(q))
    return k1, -5 / 4 * k1 / q


def blocks(n_rows: int, n_points: int) -> Iterator[slice]:
    """Cut rows into blocks whose matrices fit the memory budget."""
    size = max(1, BLOCK_BYTES // (8 * n_points))
    return (slice(i, i + size) for i in range(0, n_rows, size))


@dataclass(frozen=True)
class Basis:
    """The functions ``k(|v - z_j|^2)`` over a Gaussian; every argument and result is in ``u``.

    Attributes
    ----------
    points : (m, r)
        z, times the bandwidth.
    bandwidth : float
        h.
    precision : (r, r)
        P of the Gaussian, in u.
    """

    points: Array
    bandwidth: float
    precision: Array

    @property
    def gram(self) -> Array:
        """The matrix K of the points, with the jitter."""
        K = kernel(_squares(self._z, self._z))
        return K + JITTER * len(K) * np.eye(len(K))

    @property
    def _z(self) -> Array:
        return self.points / self.bandwidth

    def log_density(self, U: Array, c: Array) -> Array:
        """Return f at rows, (n,)."""
        with np.errstate(all="ignore"):  # far away the limit is minus infinity
            base = -0.5 * ((U @ self.precision) * U).sum(axis=1)
        return base + self._map(U, lambda v: kernel(_squares(v, self._z)) @ c)

    def score(self, U: Array, c: Array) -> Array:
        """Return the gradient of f at rows, (n, r)."""
        return -U @ self.precision + self._map(U, lambda v: self._gradient(v, c))

    def score_and_divergence(self, U: Array, c: Array, metric: Array) -> tuple[Array, Array]:
        """Return the gradient of f, and ``tr(A H)`` of its Hessian."""
        h, z = self.bandwidth, self._z

        def laplacian(v: Array) -> Array:
            k1, k2 = derivatives(_squares(v, z))
            return _trace(k1, k2, _squares(v, z, metric), metric) @ c

        trace = self._map(U, laplacian) / h / h - np.trace(self.precision @ metric)
        return self.score(U, c), trace

    def quadratic(self, U: Array, metric: Array) -> tuple[Array, Array]:
        """Return G and b as sums over the rows, not means."""
        h, z, m = self.bandwidth, self._z, len(self.points)
        apart = _squares(z, z, metric)
        G, b = np.zeros((m, m)), np.zeros(m)
        for block in blocks(len(U), m):
            v = U[block] / h
            k1, k2 = derivatives(_squares(v, z))
            t = _squares(v, z, metric)
            slope = 2 * k1
            cross = (slope * t).T @ slope
            G += 0.5 * (cross + cross.T - apart * (slope.T @ slope))
            drift = U[block] @ self.precision @ metric
            along = (drift * U[block]).sum(axis=1, keepdims=True) / h - drift @ z.T
            b += (_trace(k1, k2, t, metric) / h - slope * along).sum(axis=0) / h
        return G / h / h, b

    def gains(self, U: Array, C: Array, metric: Array) -> Array:
        """Return minus ``J(c) - J(0)`` of each row, for the columns c of C: (n, columns)."""
        h, z = self.bandwidth, self._z

        def per_row(v: Array) -> Array:
            k1, k2 = derivatives(_squares(v, z))
            trace = _trace(k1, k2, _squares(v, z, metric), metric) @ C / h / h
            base = -h * v @ self.precision @ metric
            for j, c in enumerate(C.T):
                g = self._from_slope(2 * k1, v, c)
                trace[:, j] += ((base + 0.5 * g @ metric) * g).sum(axis=1)
            return -trace

        return self._map(U, per_row)

    def _gradient(self, v: Array, c: Array) -> Array:
        return self._from_slope(2 * derivatives(_squares(v, self._z))[0], v, c)

    def _from_slope(self, slope: Array, v: Array, c: Array) -> Array:
        weighted = slope @ np.column_stack([c, c[:, None] * self._z])
        return (weighted[:, :1] * v - weighted[:, 1:]) / self.bandwidth

    def _map(self, U: Array, function) -> Array:
        v = U / self.bandwidth
        with np.errstate(all="ignore"):  # far away t is infinite, and the kernel zero
            return np.concatenate([function(v[b]) for b in blocks(len(v), len(self.points))])


def _trace(k1: Array, k2: Array, t: Array, metric: Array) -> Array:
    return 2 * k1 * np.trace(metric) + 4 * k2 * t


def _squares(v: Array, z: Array, metric: Array | None = None) -> Array:
    """Return ``(v - z)' A (v - z)``, (n, m)."""
    if metric is not None and not np.array_equal(metric, np.eye(len(metric))):
        eigenvalues, Q = np.linalg.eigh(metric)
        root = Q * np.sqrt(np.maximum(eigenvalues, 0))
        v, z = v @ root, z @ root
    return cdist(v, z, "sqeuclidean")


def solve(G: Array, b: Array, K: Array, penalties: Array) -> Array:
    """Return the minimisers of ``b'c + 1/2 c'Gc + a/2 c'Kc``, a column for each penalty a."""
    L = cholesky(K, lower=True)
    whitened = solve_triangular(L, solve_triangular(L, G, lower=True).T, lower=True)
    eigenvalues, Q = eigh(whitened, driver="evd")
    along = Q.T @ solve_triangular(L, b, lower=True)
    shrunk = -along[:, None] / (np.maximum(eigenvalues, 0)[:, None] + penalties)
    return solve_triangular(L, Q @ shrunk, lower=True, trans="T")
