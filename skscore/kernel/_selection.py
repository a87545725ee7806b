"""Bandwidth and penalty of the kernel exponential family, by its held-out objective.

Everything is compared over the same held-out rows in pairs: a gap of means counts when it is
larger than its standard error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist

from skscore.kernel._exponential_family import Array, Basis, solve

FOLDS = 5
SPLITS, SPLIT_ROWS = 3, 600  # at most so many splits, of at most so many rows together
BANDWIDTHS = np.geomspace(0.1, 3.0, 10)  # times the median distance of the points
PENALTIES = np.geomspace(1e-8, 1.0, 13)
SIMPLER = 1.0  # standard errors that a larger penalty may cost
BETTER = 2.0  # standard errors by which the Gaussian must be beaten


@dataclass(frozen=True)
class Choice:
    """What the search found.

    Attributes
    ----------
    basis : Basis
        With the bandwidth.
    penalty : float
        Of the coefficients; infinite where the Gaussian was not beaten.
    coefficients : (m,)
        Of all rows; zero where the Gaussian was not beaten.
    """

    basis: Basis
    penalty: float
    coefficients: Array


def median_distance(points: Array) -> float:
    """Return the median distance of two points, or one where they are equal."""
    distances = pdist(points)
    distances = distances[distances > 0]
    return float(np.median(distances)) if len(distances) else 1.0


def repeats(n: int) -> int:
    """Return how often rows are split: where they are few, the split decides too much."""
    return int(np.clip(SPLIT_ROWS // n, 1, SPLITS))


def fit_penalised(U: Array, metric: Array, basis: Basis, penalty: float) -> Choice:
    """Fit the coefficients to all rows."""
    G, b = (total / len(U) for total in basis.quadratic(U, metric))
    coefficients = solve(G, b, basis.gram, np.array([penalty]))[:, 0]
    return Choice(basis, penalty, coefficients)


def cross_validate(
    U: Array, metric: Array, bases: Iterable[Basis], penalties: Array, rng: np.random.Generator
) -> Choice:
    """Choose a basis and a penalty by the held-out objective, and fit them to all rows.

    The basis is the best one's; the penalty the largest that is not worse than the best by more
    than ``SIMPLER`` standard errors; and the coefficients are zero unless the Gaussian is beaten by
    ``BETTER`` standard errors. Each basis passes once over the rows: G and b of a fold are sums,
    which those of the other folds are the rest of.

    Parameters
    ----------
    U : (n, r)
        Rows in standardised coordinates.
    metric : (r, r)
        A.
    bases : iterable of Basis
        To choose from.
    penalties : (k,)
        To choose from, ascending.
    rng : numpy.random.Generator
        Draws the folds.

    Returns
    -------
    Choice
        The fit.
    """
    n = len(U)
    splits = [np.array_split(rng.permutation(n), min(FOLDS, n)) for _ in range(repeats(n))]
    folds = [fold for split in splits for fold in split]
    trials = []
    for basis in bases:
        parts = [basis.quadratic(U[fold], metric) for fold in folds]
        G, b = (sum(column) / repeats(n) for column in zip(*parts, strict=True))
        K, paths, loss = basis.gram, [], np.zeros(len(penalties))
        for fold, (G_out, b_out) in zip(folds, parts, strict=True):
            rest = n - len(fold)
            C = solve((G - G_out) / rest, (b - b_out) / rest, K, penalties)
            loss += (b_out @ C + 0.5 * (C * (G_out @ C)).sum(axis=0)) / n
            paths.append(C)
        trials.append((loss.min(), basis, G / n, b / n, paths))
    _, basis, G, b, paths = min(trials, key=lambda trial: trial[0])
    gains = np.zeros((n, len(penalties)))
    for fold, C in zip(folds, paths, strict=True):
        gains[fold] += basis.gains(U[fold], C, metric) / repeats(n)
    chosen = choose_penalty(gains)
    if chosen is None:
        return Choice(basis, np.inf, np.zeros(len(b)))
    coefficients = solve(G, b, basis.gram, penalties[chosen : chosen + 1])[:, 0]
    return Choice(basis, float(penalties[chosen]), coefficients)


def choose_penalty(gains: Array) -> int | None:
    """Return the column of the penalty, from the gain of each held-out row (n, k) at each.

    None where the Gaussian, whose gain is zero, is not beaten.
    """
    best = int(gains.mean(axis=0).argmax())
    for j in range(gains.shape[1] - 1, best, -1):
        mean, error = _mean_and_error(gains[:, best] - gains[:, j])
        if mean <= SIMPLER * error:
            best = j
            break
    mean, error = _mean_and_error(gains[:, best])
    return best if mean > BETTER * error else None


def _mean_and_error(values: Array) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / np.sqrt(max(len(values) - 1, 1)))
