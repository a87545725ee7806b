"""The classifier two-sample test."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from skscore.metrics._checks import check_rows, check_same_columns


def c2st(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    classifier: BaseEstimator | None = None,
    cv: int = 5,
    random_state: int | np.random.RandomState | None = None,
) -> float:
    """Classifier two-sample test: how well a classifier tells two samples apart.

    The held-out accuracy of a classifier trained to say from which sample a row comes, by
    stratified cross-validation. 0.5 is indistinguishable, 1.0 fully separated; the best that any
    classifier can reach is 1/2 + 1/2 the total variation distance of the two laws.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
        One sample.
    Y : array-like of shape (n_samples_Y, n_features)
        The other sample. Where the sizes differ, rows of the larger one are left out at random,
        so that both classes count the same.
    classifier : scikit-learn classifier, default=None
        It sees columns standardised over both samples. None is gradient boosting on histograms
        with early stopping, seeded; it sees fine structure that kernel and linear classifiers
        miss. The seed of a classifier that is passed is left as it is.
    cv : int, default=5
        Number of folds, at least 2; rows are shuffled first.
    random_state : int, RandomState instance or None, default=None
        Source of the rows left out, of the folds and of the default classifier's seed.

    Returns
    -------
    accuracy : float
        Mean accuracy over the folds. For samples of one law and n rows each, its standard
        deviation is 1 to 1.4 / sqrt(8 n): folds share rows.

    Raises
    ------
    ValueError
        If an array is not finite and 2-D, the numbers of columns disagree, or there are fewer
        rows than folds.

    Notes
    -----
    Rows that stand in both samples pull the value below 0.5, since a copy of a held-out row is
    in the training folds with the other label.

    References
    ----------
    Lopez-Paz, D. and Oquab, M. (2017). Revisiting classifier two-sample tests. International
    Conference on Learning Representations.

    Examples
    --------
    >>> import numpy as np
    >>> from skscore.metrics import c2st
    >>> X = np.random.RandomState(0).normal(size=(200, 2))
    >>> round(c2st(X, X + 100.0, random_state=0), 1)
    1.0
    """
    X, Y = check_rows("X", X), check_rows("Y", Y)
    check_same_columns(X, Y)
    n = min(len(X), len(Y))
    if isinstance(cv, bool) or not isinstance(cv, (int, np.integer)) or cv < 2:
        raise ValueError(f"cv is {cv!r}; pass an integer of at least 2, the number of folds")
    if n < cv:
        smaller = "X" if len(X) <= len(Y) else "Y"
        raise ValueError(
            f"{smaller} has {n} rows, fewer than cv={cv}; pass more rows or fewer folds"
        )
    rng = check_random_state(random_state)
    X, Y = (rows if len(rows) == n else rows[rng.permutation(len(rows))[:n]] for rows in (X, Y))
    fold_seed, classifier_seed = rng.randint(np.iinfo(np.int32).max, size=2)
    if classifier is None:
        # Early stopping costs a quarter of the time at the same power; tiny samples have no rows
        # to spare for it.
        classifier = HistGradientBoostingClassifier(
            early_stopping=n >= 50, random_state=int(classifier_seed)
        )
    folds = StratifiedKFold(n_splits=int(cv), shuffle=True, random_state=int(fold_seed))
    model = make_pipeline(StandardScaler(), classifier)
    labels = np.repeat([0, 1], n)
    accuracies = cross_val_score(
        model, np.vstack([X, Y]), labels, cv=folds, scoring="accuracy", error_score="raise"
    )
    return float(accuracies.mean())
