"""The mean Euclidean distance between two score fields on one set of points."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from skscore.metrics._checks import check_rows, check_same_shape


def mean_score_error(score_true: ArrayLike, score_pred: ArrayLike) -> float:
    r"""Mean Euclidean distance of predicted scores from the true ones; lower is better.

    .. math:: \frac1n \sum_i \|a_i - b_i\|

    for rows a_i and b_i. Less sensitive to a few bad rows than :func:`fisher_divergence`, which
    is half the mean of the squares.

    Parameters
    ----------
    score_true : array-like of shape (n_samples, n_features)
        True scores at n points.
    score_pred : array-like of shape (n_samples, n_features)
        Predicted scores at the same points.

    Returns
    -------
    error : float
        The mean distance, in the units of 1 / X.

    Raises
    ------
    ValueError
        If the shapes disagree or an array is not finite.

    Notes
    -----
    Predicting zero for N(0, I) has the expected error sqrt(2) gamma((d + 1) / 2) / gamma(d / 2),
    1.25 for d = 2 and 3.08 for d = 10: a figure to compare with.

    Examples
    --------
    >>> from skscore.metrics import mean_score_error
    >>> mean_score_error([[0.0, 0.0], [1.0, 1.0]], [[3.0, 4.0], [1.0, 1.0]])
    2.5
    """
    a, b = check_rows("score_true", score_true), check_rows("score_pred", score_pred)
    check_same_shape("score_true", a, "score_pred", b)
    return float(np.linalg.norm(a - b, axis=1).mean())
