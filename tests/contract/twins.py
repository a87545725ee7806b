"""Score estimators that are wrong in one way each, with the check that must name them.

Here the field and the score; `twins_of_fit` and `twins_of_sample` have the rest.
"""

import numpy as np

from skscore import KDEScoreBaseline
from skscore.metrics import hyvarinen_rows

TWINS = {}  # class -> name of the check


def breaks(check):
    def register(cls):
        TWINS[cls] = check
        return cls

    return register


# The field -------------------------------------------------------------------------------------


@breaks("check_field_is_a_finite_vector_per_row")
class SinglePrecision(KDEScoreBaseline):
    def score_samples(self, X):
        return super().score_samples(X).astype(np.float32)


@breaks("check_field_is_a_finite_vector_per_row")
class LogDensity(KDEScoreBaseline):
    def score_samples(self, X):
        return self.log_density(X)


@breaks("check_field_is_a_finite_vector_per_row")
class Listed(KDEScoreBaseline):
    def score_samples(self, X):
        return super().score_samples(X).tolist()


@breaks("check_field_is_a_finite_vector_per_row")
class NotFinite(KDEScoreBaseline):
    def score_samples(self, X):
        field = super().score_samples(X)
        return np.where(field == field.max(), np.nan, field)


@breaks("check_field_points_to_the_data")
class WrongSign(KDEScoreBaseline):
    def score_samples(self, X):
        return -super().score_samples(X)


@breaks("check_field_points_to_the_data")
class TimesDimension(KDEScoreBaseline):
    def score_samples(self, X):
        return self.n_features_in_**2 * super().score_samples(X)


@breaks("check_field_points_to_the_data")
class StandardisedUnits(KDEScoreBaseline):
    """The field in coordinates u: `pull_score` was forgotten."""

    def score_samples(self, X):
        W = self._affine.matrix
        return super().score_samples(X) @ np.linalg.inv(W)


@breaks("check_rows_are_independent")
class LessTheBatchMean(KDEScoreBaseline):
    def score_samples(self, X):
        field = super().score_samples(X)
        return field - 0.01 * field.mean(axis=0)


@breaks("check_rows_are_independent")
class KnowsItsPlace(KDEScoreBaseline):
    def score_samples(self, X):
        field = super().score_samples(X)
        return field + 1e-6 * np.arange(len(field))[:, None]


@breaks("check_rows_are_independent")
class KnowsItsNeighbour(KDEScoreBaseline):
    """Right for one row, and for rows in any order but the first."""

    def score_samples(self, X):
        field = super().score_samples(X)
        return field + 1e-6 * (np.roll(field, 1, axis=0) - field)


# The yardstick ---------------------------------------------------------------------------------


@breaks("check_score_is_a_held_out_yardstick")
class ArrayScore(KDEScoreBaseline):
    def score(self, X, y=None):
        return np.asarray(super().score(X))


@breaks("check_score_is_a_held_out_yardstick")
class LossScore(KDEScoreBaseline):
    def score(self, X, y=None):
        return -super().score(X)


@breaks("check_score_is_a_held_out_yardstick")
class NoisyScore(KDEScoreBaseline):
    def score(self, X, y=None):
        return super().score(X) + 1e-9 * float(np.random.default_rng().normal())


@breaks("check_score_is_a_held_out_yardstick")
class ScoreInUnits(KDEScoreBaseline):
    """The Hyvarinen score without the metric: whoever shrinks the units wins."""

    def score(self, X, y=None):
        return self.score_details(X, covariance=np.eye(self.n_features_in_)).value


@breaks("check_score_is_a_held_out_yardstick")
class MeanTrace(KDEScoreBaseline):
    """The trace divided by d."""

    def score(self, X, y=None):
        S = self.covariance_
        field, divergence = self._field(self._query(X), S)
        return float(hyvarinen_rows(field, divergence / len(S), covariance=S).mean())
