"""How far a sample covariance is drawn towards a multiple of the identity.

``R_w = (1 - w) R + w mean(lambda) I``. The weight is the one under which each row is likeliest as
drawn from the Gaussian of all other rows (Hoffbeck and Landgrebe 1996; Theiler 2012, "The
incredible shrinking covariance estimator", eq. 6 to 8), and 0 where its gain over the sample
covariance is within one standard error of nothing. Formulas for the weight (Ledoit and Wolf, Chen
et al.) minimise the error of ``R``; a score needs its inverse, and they shrink the small
eigenvalues of correlated columns too much.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WEIGHTS = np.concatenate([[0.0], np.geomspace(1e-5, 1.0, 21)])
HELD_OUT = 20_000  # as many rows at most are left out, one at a time


def shrinkage(Z: Array, tolerance: float) -> float:
    """Return the weight of the identity for centred rows `Z` of shape (n, d), in [0, 1].

    Eigenvalues below `tolerance` of the largest span directions without variance, and are left out.
    """
    if len(Z) < 3 or Z.shape[1] < 2:
        return 0.0
    likely = held_out_log_density(Z, WEIGHTS, tolerance)
    mean = likely.mean(axis=0)
    best = int(mean.argmax())
    if np.isfinite(mean[0]):
        gain = likely[:, best] - likely[:, 0]
        if gain.mean() <= gain.std() / np.sqrt(len(gain)):
            return 0.0
    return float(WEIGHTS[best])


def held_out_log_density(Z: Array, weights: Array, tolerance: float) -> Array:
    """Return (rows, weights): the log density of a row under the Gaussian of all others.

    Up to a constant; minus infinity where the others do not span the row. With ``k = n / (n - 1)``
    mean and covariance without row x are ``-x / (n - 1)`` and ``k R - k x x' / (n - 1)``, one rank
    from all rows' own: with ``B = (1 - w) k R + w mean(lambda) I``, ``b = (1 - w) k / (n - 1)`` and
    ``q = x' B^-1 x`` the determinant is ``|B| (1 - b q)`` and the quadratic form of the row's
    deviation ``k x`` is ``k^2 q / (1 - b q)``.
    """
    n = len(Z)
    eigenvalues, Q = np.linalg.eigh(Z.T @ Z / n)
    kept = eigenvalues > tolerance * eigenvalues[-1]
    lam = eigenvalues[kept]
    k = n / (n - 1)
    B = (1 - weights) * k * lam[:, None] + weights * lam.mean()
    b = (1 - weights) * k / (n - 1)
    q = (Z[:: -(-n // HELD_OUT)] @ Q[:, kept]) ** 2 @ (1 / B)
    rest = 1 - b * q
    spanned = rest > np.sqrt(np.finfo(float).eps)
    rest = np.where(spanned, rest, 1.0)
    log_density = -0.5 * (np.log(B).sum(axis=0) + np.log(rest) + k**2 * q / rest)
    return np.where(spanned, log_density, -np.inf)
