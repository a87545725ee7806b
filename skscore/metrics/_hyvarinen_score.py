"""The implicit score matching objective as a yardstick, which needs no true score.

s(x) score, J = ds/dx its Jacobian, S the metric. Per row: -(tr(S J) + 1/2 s' S s).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from skscore.metrics._checks import Array, check_rows, squared_norms


def hyvarinen_rows(
    score: ArrayLike, divergence: ArrayLike, *, covariance: ArrayLike | None = None
) -> Array:
    r"""Hyvarinen score of every row; greater is better.

    .. math:: h_i = -\Bigl[ \mathrm{tr}(S J_i) + \tfrac12 s_i' S s_i \Bigr]

    Parameters
    ----------
    score : array-like of shape (n_samples, n_features)
        Scores s_i at n points, in the units of 1 / X.
    divergence : array-like of shape (n_samples,)
        tr(S J_i), **with the same S**: the plain divergence only where covariance is None.
    covariance : array-like of shape (n_features, n_features), default=None
        Metric S, symmetric and positive semidefinite, usually the covariance of the training
        rows; None is the identity.

    Returns
    -------
    values : ndarray of shape (n_samples,)
        One value a row, for means, weights and standard errors.

    Raises
    ------
    ValueError
        If the shapes disagree, an array is not finite or S is not symmetric, or not positive
        semidefinite along these rows.

    See Also
    --------
    hyvarinen_score : Their mean.

    Examples
    --------
    >>> from skscore.metrics import hyvarinen_rows
    >>> hyvarinen_rows([[0.0, 0.0], [2.0, 0.0]], [-2.0, -3.0])
    array([2., 1.])
    """
    s = check_rows("score", score)
    try:
        trace = np.asarray(divergence, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"divergence is {divergence!r}; pass one number for each row") from error
    if trace.shape != (len(s),):
        raise ValueError(
            f"divergence has shape {trace.shape}; pass one number for each row of score, "
            f"shape {(len(s),)}"
        )
    if not np.isfinite(trace).all():
        raise ValueError("divergence contains NaN or infinity; pass finite numbers")
    return -(trace + squared_norms(s, covariance) / 2)


def hyvarinen_score(
    score: ArrayLike,
    divergence: ArrayLike,
    *,
    covariance: ArrayLike | None = None,
    reduce: Callable[[Array], float] = np.mean,
) -> float:
    r"""Hyvarinen score of a field: minus the implicit objective; greater is better.

    .. math:: -\frac1n \sum_i \Bigl[ \mathrm{tr}(S J_i) + \tfrac12 s_i' S s_i \Bigr]

    In expectation it is a constant of the data minus :func:`fisher_divergence` in the metric S,
    so that it ranks models without knowing the truth. With S the covariance of the data it is
    invariant under invertible affine maps of the data, and the true score of a Gaussian gives
    n_features / 2. Compare values only for the same rows, columns and S.

    Parameters
    ----------
    score : array-like of shape (n_samples, n_features)
        Scores s_i at n points, in the units of 1 / X.
    divergence : array-like of shape (n_samples,)
        tr(S J_i), **with the same S**: the plain divergence only where covariance is None.
    covariance : array-like of shape (n_features, n_features), default=None
        Metric S, symmetric and positive semidefinite, usually the covariance of the training
        rows; None is the identity.
    reduce : callable, default=numpy.mean
        Takes the values of the rows to one number. For heavy tails, for instance
        ``functools.partial(scipy.stats.trim_mean, proportiontocut=0.01)``.

    Returns
    -------
    value : float
        The reduced value; without a unit where S is a covariance.

    Raises
    ------
    ValueError
        If the shapes disagree, an array is not finite, S is not symmetric, or not positive
        semidefinite along these rows, or ``reduce`` is not callable.

    References
    ----------
    Hyvarinen, A. (2005). Estimation of non-normalized statistical models by score matching.
    Journal of Machine Learning Research 6, 695-709, eq. (4).

    Examples
    --------
    >>> from skscore.metrics import hyvarinen_score
    >>> hyvarinen_score([[0.0, 0.0], [2.0, 0.0]], [-2.0, -2.0])
    1.0
    """
    if not callable(reduce):
        raise ValueError(f"reduce is {reduce!r}; pass a function of an array, such as numpy.mean")
    return float(reduce(hyvarinen_rows(score, divergence, covariance=covariance)))
