"""Twins that are wrong in what they keep, copy, change or refuse."""

import copy

import numpy as np
from twins import breaks

from skscore import KDEScoreBaseline


@breaks("check_copies_keep_the_field")
class LosesTheBandwidth(KDEScoreBaseline):
    def __getstate__(self):
        return super().__getstate__() | {"bandwidth_": 1.0}


@breaks("check_copies_keep_the_field")
class RoundsOnPickling(KDEScoreBaseline):
    def __getstate__(self):
        state = dict(super().__getstate__())
        if "_rows" in state:
            state["_rows"] = state["_rows"].astype(np.float32)
        return state


@breaks("check_copies_keep_the_field")
class FittedClone(KDEScoreBaseline):
    def __sklearn_clone__(self):
        return copy.deepcopy(self)


@breaks("check_copies_keep_the_field")
class Unpicklable(KDEScoreBaseline):
    def fit(self, X, y=None):
        super().fit(X)
        self._hook = lambda: None
        return self


@breaks("check_refit_forgets")
class Accumulates(KDEScoreBaseline):
    def fit(self, X, y=None):
        known = getattr(self, "_seen", None)
        if known is None or np.shape(known)[1] != np.shape(X)[1]:
            self._seen = X
        else:
            self._seen = np.vstack([known, X])
        return super().fit(self._seen)


@breaks("check_refused_fit_leaves_no_half")
class HalfFitted(KDEScoreBaseline):
    def fit(self, X, y=None):
        self.bandwidth_ = 9.0
        return super().fit(X)


@breaks("check_refused_fit_leaves_no_half")
class ForgetsTheModel(KDEScoreBaseline):
    """Its `bandwidth_` stays, so that it still counts as fitted."""

    def fit(self, X, y=None):
        vars(self).pop("_rows", None)
        return super().fit(X)


@breaks("check_refused_fit_leaves_no_half")
class TakesNaN(KDEScoreBaseline):
    def fit(self, X, y=None):
        X = np.asarray(X)
        noise = np.random.default_rng(0).normal(size=X.shape)
        return super().fit(np.where(np.isnan(X), noise, X))


@breaks("check_fit_keeps_parameters_and_data")
class ResolvesItsDevice(KDEScoreBaseline):
    def fit(self, X, y=None):
        self.device = "cpu"
        return super().fit(X)


@breaks("check_fit_keeps_parameters_and_data")
class ShufflesTheRows(KDEScoreBaseline):
    def fit(self, X, y=None):
        super().fit(X)
        if isinstance(X, np.ndarray):
            X.setflags(write=True)
            np.random.default_rng(0).shuffle(X)
        return self


@breaks("check_fit_keeps_parameters_and_data")
class RefusesReadOnlyRows(KDEScoreBaseline):
    def fit(self, X, y=None):
        super().fit(X)
        if isinstance(X, np.ndarray):
            np.random.default_rng(0).shuffle(X)
        return self


@breaks("check_queries_do_not_change_state")
class CountsQueries(KDEScoreBaseline):
    _n_queries = 0

    def score_samples(self, X):
        self._n_queries += 1
        return super().score_samples(X)


@breaks("check_queries_do_not_change_state")
class RoundsTheQuery(KDEScoreBaseline):
    """In place, in the caller's array."""

    def score_samples(self, X):
        if isinstance(X, np.ndarray):
            X[...] = X.round(10)
        return super().score_samples(X)


@breaks("check_bad_queries_are_refused")
class SamplesUnfitted(KDEScoreBaseline):
    def sample(self, n_samples=1, random_state=None):
        width = self._rows.shape[1]  # before fit an AttributeError
        return super().sample(n_samples, random_state)[:, :width]


@breaks("check_bad_queries_are_refused")
class FillsNaN(KDEScoreBaseline):
    def _query(self, X):
        return super()._query(np.nan_to_num(X) if isinstance(X, np.ndarray) else X)


@breaks("check_column_names")
class TakesAnyOrder(KDEScoreBaseline):
    def score_samples(self, X):
        return super().score_samples(
            X.set_axis(self.feature_names_in_, axis=1) if hasattr(X, "columns") else X
        )


@breaks("check_column_names")
class NoNames(KDEScoreBaseline):
    def fit(self, X, y=None):
        return super().fit(np.asarray(X))
