"""The energy distance between two samples."""

from __future__ import annotations

from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from sklearn.utils import gen_batches

from skscore.metrics._checks import Array, check_rows, check_same_columns

# 2^21 float64 distances are 16 MiB, the most that is held at one time.
BLOCK_SIZE = 2**21


def energy_distance(X: ArrayLike, Y: ArrayLike) -> float:
    r"""Energy distance between two samples: zero where they agree; lower is closer.

    .. math:: 2\,E\|x - y\| - E\|x - x'\| - E\|y - y'\|

    as a V-statistic: each mean runs over all pairs of rows, a row with itself included. So it is
    never negative and exactly zero for equal samples, and for samples of one law it has a
    positive bias of order 1/n.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
        One sample.
    Y : array-like of shape (n_samples_Y, n_features)
        The other sample.

    Returns
    -------
    distance : float
        The value, in the units of X. It is the square of what
        :func:`scipy.stats.energy_distance` returns for one column.

    Raises
    ------
    ValueError
        If an array is not finite and 2-D, or the numbers of columns disagree.

    References
    ----------
    Szekely, G. J. and Rizzo, M. L. (2013). Energy statistics: a class of statistics based on
    distances. Journal of Statistical Planning and Inference 143, 1249-1272.

    Examples
    --------
    >>> from skscore.metrics import energy_distance
    >>> energy_distance([[0.0], [2.0]], [[3.0]])
    3.0
    """
    X, Y = check_rows("X", X), check_rows("Y", Y)
    check_same_columns(X, Y)
    within = _mean_distance(X, X) + _mean_distance(Y, Y)
    # Rounding alone can push the value of two equal laws under zero.
    return max(2 * _mean_distance(X, Y) - within, 0.0)


def _mean_distance(X: Array, Y: Array) -> float:
    """Return the mean distance over all pairs, a block of rows at a time."""
    rows_per_block = max(1, BLOCK_SIZE // len(Y))
    blocks = gen_batches(len(X), rows_per_block)
    return sum(float(cdist(X[b], Y).sum()) for b in blocks) / (len(X) * len(Y))
