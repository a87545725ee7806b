"""The Fisher divergence between two score fields on one set of points."""

from __future__ import annotations

from numpy.typing import ArrayLike

from skscore.metrics._checks import check_rows, check_same_shape, squared_norms


def fisher_divergence(
    score_true: ArrayLike, score_pred: ArrayLike, *, covariance: ArrayLike | None = None
) -> float:
    r"""Fisher divergence of predicted scores from the true ones; lower is better.

    .. math:: F = \frac1{2n} \sum_i (a_i - b_i)' S (a_i - b_i)

    for rows a_i and b_i. With S the covariance of the data it has no unit and is invariant under
    invertible affine maps of the data; it is then the explicit counterpart of
    :func:`hyvarinen_score` with the same S: the two add up to a constant of the data.

    Parameters
    ----------
    score_true : array-like of shape (n_samples, n_features)
        True scores at n points.
    score_pred : array-like of shape (n_samples, n_features)
        Predicted scores at the same points.
    covariance : array-like of shape (n_features, n_features), default=None
        Metric S, symmetric and positive semidefinite; None is the identity.

    Returns
    -------
    divergence : float
        F, in the units of 1 / X^2 for the identity metric.

    Raises
    ------
    ValueError
        If the shapes disagree, an array is not finite or S is not symmetric, or not positive
        semidefinite along these rows.

    References
    ----------
    Hyvarinen, A. (2005). Estimation of non-normalized statistical models by score matching.
    Journal of Machine Learning Research 6, 695-709, eq. (2).

    Examples
    --------
    >>> from skscore.metrics import fisher_divergence
    >>> fisher_divergence([[0.0, 0.0], [1.0, 1.0]], [[2.0, 0.0], [1.0, 1.0]])
    1.0
    """
    a, b = check_rows("score_true", score_true), check_rows("score_pred", score_pred)
    check_same_shape("score_true", a, "score_pred", b)
    return float(squared_norms(a - b, covariance).mean() / 2)
