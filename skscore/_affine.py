"""Coordinates: the moments of the training rows, and the affine map that standardises them.

``m`` mean, ``S`` covariance (divided by n), ``c`` standard deviations, ``R`` the correlation
matrix of the non-constant columns, ``u = W (x - m)`` standardised coordinates. ``W`` is square and
invertible: its first ``r`` rows span what the data span and are modelled; each of the ``d - r``
remaining *null* coordinates (a constant column, a collinear direction) is taken as N(0, 1), which
gives a fixed, finite field there. All of it is numpy in float64: location and scale leave the
numbers here, before any cast to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skscore._shrinkage import shrinkage

Array = NDArray[np.float64]
Standardize = Literal["full", "diag"] | None

STANDARDIZE = ("full", "diag", None)
SCALES = (1e-140, 1e140)  # their squares and the squares of their inverses are finite
MIXED_SCALES = (
    "X has columns of so different scales that their products leave the float64 range: use "
    "standardize='full' or 'diag', or rescale the columns."
)
RANK_TOLERANCE = 1e-12  # eigenvalues of R below this share of the largest are collinear directions


@dataclass(frozen=True)
class Moments:
    """Mean, covariance and spread of the training rows; a constant column has exact zeros."""

    mean: Array
    covariance: Array
    scale: Array  # standard deviations, 0 for a constant column
    shrinkage: float = 0.0  # the weight of the identity in the estimate of R that whitens
    n_rows: int = 0
    atoms: bool = False  # whether single points were found to have a probability

    @property
    def varying(self) -> NDArray[np.bool_]:
        """Which columns are not constant."""
        return self.scale > 0

    @classmethod
    def of(cls, X: Array, weight: float | str = 0.0) -> Moments:
        """Compute the moments of `X` in two passes, so that a large offset costs no accuracy.

        With `weight` "auto" the shrinkage is the one that left-out rows ask for.
        """
        mean, scale, Z = standardised(X)
        covariance = (Z.T @ Z / len(X)) * np.outer(scale, scale)
        if isinstance(weight, str):
            weight = shrinkage(Z[:, scale > 0], RANK_TOLERANCE)
        return cls(mean, covariance, scale, float(weight), len(X))


def standardised(X: Array) -> tuple[Array, Array, Array]:
    """Return the means, the deviations and ``(X - mean) / deviation``.

    A constant column, up to rounding, has deviation 0 and is 0.
    """
    with np.errstate(all="ignore"):
        mean = X.mean(axis=0)
        centred = X - mean
        correction = centred.mean(axis=0)
        mean, centred = mean + correction, centred - correction
        peak = np.abs(centred).max(axis=0)
        # Scaled by the peak: the squares of 1e-200 or 1e200 would leave the float range.
        unit = np.where(peak > 0, peak, 1.0)
        scale = unit * np.sqrt(np.mean((centred / unit) ** 2, axis=0))
        noise = 10 * np.finfo(float).eps * np.abs(X).max(axis=0)
    constant = (np.ptp(X, axis=0) == 0) | (scale <= noise)
    mean = np.where(np.ptp(X, axis=0) == 0, X[0], mean)
    scale = np.where(constant, 0.0, scale)
    _refuse_scales(scale)
    return mean, scale, np.where(constant, 0.0, centred / np.where(constant, 1.0, scale))


def _refuse_scales(scale: Array) -> None:
    low, high = SCALES
    for word, wrong in (
        ("large", ~(scale <= high)),
        ("small", (scale > 0) & (scale < low)),
    ):
        if wrong.any():
            j = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"X is too {word}: column {j} has a standard deviation of {scale[j]:.3g}, and "
                f"its square or inverse square leaves the float64 range. Rescale that column."
            )


@dataclass(frozen=True)
class AffineMap:
    """Coordinates ``u = W (x - m)``, of which the first `rank` are modelled.

    Attributes
    ----------
    mean : (d,)
        m, in the units of X.
    matrix : (d, d)
        W; rows ``rank`` and later are the null coordinates.
    rank : int
        How many coordinates are modelled.
    """

    mean: Array
    matrix: Array
    rank: int

    @classmethod
    def standardising(cls, moments: Moments, kind: Standardize) -> AffineMap:
        """Whiten ("full", symmetric), scale the columns ("diag") or only centre (None)."""
        live = np.flatnonzero(moments.varying)
        c = moments.scale[live]
        R = moments.covariance[np.ix_(live, live)] / np.outer(c, c)
        eigenvalues, Q = np.linalg.eigh(R)
        kept = eigenvalues > RANK_TOLERANCE * eigenvalues[-1]
        units = np.ones_like(c) if kind is None else c
        if kind == "full":
            lam, weight = eigenvalues[kept], moments.shrinkage
            lam = (1 - weight) * lam + weight * lam.mean()
            basis = Q[:, kept] / np.sqrt(lam)
            # The symmetric root: columns keep their identity, and no sign flips between fits.
            W = (basis @ Q.T if kept.all() else basis.T) / c
        elif kept.all():
            W = np.diag(1 / units)
        else:  # orthonormal coordinates, in the chosen units, of what the data span; no null part
            _, T = np.linalg.qr((c / units)[:, None] * Q[:, kept])
            W = T @ Q[:, kept].T / c
        null = Q[:, ~kept].T / c
        return cls._assemble(moments, live, np.vstack([W, null]), int(kept.sum()))

    @classmethod
    def isotropic(cls, moments: Moments, *, scaled: bool = True) -> AffineMap:
        """Centre and scale all columns alike: for images, whose columns are one kind of thing."""
        d = len(moments.mean)
        centre = float(moments.mean.mean())
        unit = float(np.sqrt(np.mean(moments.scale**2 + (moments.mean - centre) ** 2)))
        return IsotropicMap(np.full(d, centre), np.array(1 / unit if scaled else 1.0), d)

    @classmethod
    def centring(cls, moments: Moments) -> AffineMap:
        """Centre only, and model every column that is not constant, collinear or not."""
        live = np.flatnonzero(moments.varying)
        return cls._assemble(moments, live, np.eye(len(live)), len(live))

    @classmethod
    def _assemble(cls, moments: Moments, live, W: Array, rank: int) -> AffineMap:
        d = len(moments.mean)
        matrix = np.zeros((d, d))
        matrix[: len(live), live] = W
        matrix[np.arange(len(live), d), np.flatnonzero(~moments.varying)] = 1.0
        return cls(moments.mean, matrix, rank)

    def gaussian_precision(self, moments: Moments, sigma: float = 0.0) -> Array:
        """Return the precision (rank, rank), in these coordinates, of the fitted Gaussian.

        With `sigma` that of the Gaussian blurred by N(0, sigma^2 I) in these coordinates.
        """
        white = AffineMap.standardising(moments, "full")
        try:
            inverse = np.linalg.inv(self.matrix)
        except np.linalg.LinAlgError as error:
            raise ValueError(MIXED_SCALES) from error
        half = white.matrix[: self.rank] @ inverse[:, : self.rank]
        if np.array_equal(white.matrix, self.matrix):
            half = np.eye(self.rank)  # without rounding, which would choose its eigenvectors
        P = half.T @ half
        return np.linalg.solve(np.eye(self.rank) + sigma**2 * P, P) if sigma else P

    @property
    def is_diagonal(self) -> bool:
        """Whether each coordinate is a column."""
        return self.rank == len(self.matrix) and not np.any(self.matrix - np.diag(self.scales))

    @property
    def scales(self) -> Array:
        """The diagonal of W."""
        return np.diag(self.matrix)

    @property
    def axes(self) -> Array | None:
        """The directions in the coordinates of the columns that vary; None of collinear ones."""
        every = np.linalg.inv(self.matrix)[:, : self.rank].astype(np.float64)
        vary = every.any(axis=1)
        return every[vary] if vary.sum() == self.rank else None

    @property
    def log_det(self) -> float:
        """``log |det W|``: what a log density gains on its way back to the units of X."""
        return float(np.linalg.slogdet(self.matrix)[1])

    def bound(self, X: Array) -> Array:
        """Return a bound of the modelled coordinates of rows, (n, d) to (n, rank)."""
        return np.abs(X - self.mean) @ np.abs(self.matrix[: self.rank].T)

    def transform(self, X: Array) -> Array:
        """Standardise rows: (n, d) to the (n, rank) modelled coordinates."""
        return (X - self.mean) @ self.matrix[: self.rank].T

    def inverse_transform(self, U: Array) -> Array:
        """Return modelled coordinates (n, rank) to rows (n, d), with null coordinates at zero."""
        return self.mean + U @ np.linalg.inv(self.matrix)[:, : self.rank].T

    def null(self, X: Array) -> Array:
        """Return the null coordinates (n, d - rank), which are zero on the training rows."""
        return (X - self.mean) @ self.matrix[self.rank :].T

    def pull_score(self, X: Array, score_u: Array) -> Array:
        """``s_x = W' s_u``, with ``s = -u`` in the null coordinates."""
        return score_u @ self.matrix[: self.rank] - self.null(X) @ self.matrix[self.rank :]

    def pull_energy(self, X: Array, energy_u: Array) -> Array:
        """``E_x = E_u + |null|^2 / 2``, up to a constant."""
        return energy_u + 0.5 * (self.null(X) ** 2).sum(axis=1)

    def pull_log_density(self, X: Array, log_density_u: Array) -> Array:
        """``log p_x = log p_u + log |det W|``, the null coordinates being N(0, 1)."""
        null = self.null(X)
        null_part = -0.5 * (null**2 + np.log(2 * np.pi)).sum(axis=1)
        return log_density_u + null_part + self.log_det

    def metric(self, covariance: Array) -> Array:
        """Return ``A = W S W'`` (rank, rank), the metric of the yardstick in these coordinates."""
        W = self.matrix[: self.rank]
        A = W @ covariance @ W.T
        return (A + A.T) / 2

    def null_divergence(self, covariance: Array) -> float:
        """``tr(S ds/dx)`` of the fixed field in the null coordinates."""
        N = self.matrix[self.rank :]
        return -float(np.trace(N @ covariance @ N.T))


class IsotropicMap(AffineMap):
    """Coordinates ``u = W (x - m)`` with a number W, which takes no d x d matrix.

    Attributes
    ----------
    matrix : ()
        W.
    """

    is_diagonal = True
    axes = None  # there are no directions to choose

    @property
    def scales(self) -> Array:
        """W, for each column."""
        return np.full(self.rank, float(self.matrix))

    @property
    def log_det(self) -> float:
        """``log |det W|``: what a log density gains on its way back to the units of X."""
        return self.rank * float(np.log(self.matrix))

    def bound(self, X: Array) -> Array:
        """Return the modelled coordinates of rows without their signs."""
        return np.abs(self.transform(X))

    def transform(self, X: Array) -> Array:
        """Standardise rows."""
        return (X - self.mean) * self.matrix

    def inverse_transform(self, U: Array) -> Array:
        """Return coordinates to rows."""
        return self.mean + U / self.matrix

    def null(self, X: Array) -> Array:
        """Return the null coordinates, which are none."""
        return np.zeros((len(X), 0))

    def pull_score(self, X: Array, score_u: Array) -> Array:
        """``s_x = W s_u``."""
        return score_u * self.matrix

    def metric(self, covariance: Array) -> Array:
        """Return ``A = W S W``."""
        return self.matrix**2 * covariance

    def null_divergence(self, covariance: Array) -> float:
        """Return that of no coordinates."""
        return 0.0
