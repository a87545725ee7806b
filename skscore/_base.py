"""What every score estimator is to a user: a scikit-learn estimator with four methods.

A leaf of this abstract base gives ``_fit``, ``_score_samples``, ``_field`` and ``_sample``.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skscore._affine import AffineMap, Moments
from skscore._callbacks import with_callbacks
from skscore._checks import Check, integer, option, real
from skscore._checks import random_state as random_state_of
from skscore._validation import refuse_oversize
from skscore.metrics import hyvarinen_rows

Array = NDArray[np.float64]

KEPT_ROWS = 10_000  # training rows that a model keeps at most, to start chains from
CHAIN_PARAMS: tuple[str, ...] = ("callback", "init", "n_steps", "step_size")  # what chains take


@dataclass(frozen=True)
class Spread:
    """What the automatic step and the reach of the chains go by, over rows of the field's own law.

    Attributes
    ----------
    curvature : float
        ``E|s|^2 / d``, the mean curvature of log p; or half the largest along one direction, the
        largest eigenvalue of ``E[ss']``, where that is more: there a step is unstable from two over
        the curvature on.
    radius : float
        The largest norm of a row.
    """

    curvature: float
    radius: float

    @classmethod
    def of(cls, scores: Array, radius: float) -> Spread:
        """Measure the field's values (n, d) at rows."""
        n, d = scores.shape
        mean = float(np.sum(scores**2)) / (n * d)
        if not np.isfinite(mean):  # a fit that ends in an error
            return cls(mean, radius)
        return cls(max(mean, 0.5 * float(np.linalg.norm(scores, 2)) ** 2 / n), radius)

    @property
    def reach(self) -> float:
        """Beyond this norm a chain is lost: twice the radius, and room where rows are few."""
        return 2 * self.radius + 4


@dataclass(frozen=True)
class ScoreDetails:
    """What `score_details` returns, in the units of `score`.

    Attributes
    ----------
    value : float
        The score itself.
    standard_error : float
        Of `value`, over the rows; as the other errors NaN of one row.
    skill : float
        `value` minus that of the Gaussian with the mean and covariance of the training rows: the
        Fisher divergence that the estimator saves against it. Zero is a Gaussian's, more is better.
    skill_error : float
        Standard error of `skill`, over the same rows in pairs.
    trimmed : float
        The score without the `trim` lowest and highest shares of the rows: how good the field is
        where most rows are. A few rows of a heavy tail decide `value` and not this; but it is no
        proper score, and may prefer a field that is wrong in the tails.
    trimmed_error : float
        Standard error of `trimmed` (Tukey and McLaughlin 1963).
    """

    value: float
    standard_error: float
    skill: float
    skill_error: float
    trimmed: float
    trimmed_error: float


@contextmanager
def columns_kept(estimator: BaseEstimator) -> Iterator[None]:
    """Leave what an estimator knows of the columns of X as it was, when a fit is refused."""
    known = ("n_features_in_", "feature_names_in_")
    before = {name: getattr(estimator, name) for name in known if hasattr(estimator, name)}
    try:
        yield
    except BaseException:
        for name in known:
            if name in before:
                setattr(estimator, name, before[name])
            elif hasattr(estimator, name):
                delattr(estimator, name)
        raise


class BaseScoreEstimator(DensityMixin, BaseEstimator, metaclass=ABCMeta):
    """Abstract base of the score estimators."""

    _doc_link_module = "skscore"
    _doc_link_template = (
        "https://skscore.readthedocs.io/en/latest/api/skscore.{estimator_name}.html"
    )

    def _doc_link_url_param_generator(self):
        return {"estimator_name": type(self).__name__}

    @property
    @abstractmethod
    def _constraints(self) -> dict[str, Check]:
        """The check of each constructor parameter."""

    @abstractmethod
    def _fit(self, X: Array) -> tuple[dict[str, object], BaseException | None]:
        """Return the fitted attributes, and what interrupted the fit but left it usable."""

    @abstractmethod
    def _score_samples(self, X: Array) -> Array:
        """Return the field at valid rows."""

    @abstractmethod
    def _field(self, X: Array, covariance: Array) -> tuple[Array, Array]:
        """Return the field ``s`` and ``tr(S ds/dx)`` at valid rows."""

    @abstractmethod
    def _sample(self, n_samples: int, seed: int, sampler: str, params: dict) -> Array:
        """Draw rows."""

    @property
    @abstractmethod
    def _samplers(self) -> tuple[str, ...]:
        """The samplers that this model can use, beside "auto"."""

    location_: Array
    covariance_: Array
    n_features_in_: int

    _sampler_params: tuple[str, ...] = ()  # what the samplers take

    @with_callbacks
    def fit(self, X: ArrayLike, y=None):
        """Fit the score model to data.

        A fit that is refused leaves an earlier one as it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : Ignored
            Not used, here for the convention of scikit-learn.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When a parameter or X is not valid; the message names it and the remedy.
        DivergenceError
            When training leaves the finite numbers; the last good weights are kept.
        """
        for name, check in self._constraints.items():
            check(name, getattr(self, name))
        with columns_kept(self):
            rows = validate_data(
                self, X, dtype=np.float64, ensure_min_samples=2, reset=self._forgets()
            )
            state, failure = self._fit(rows)
        for name, value in state.items():
            setattr(self, name, value)
        if failure is not None:
            raise failure
        return self

    def _forgets(self) -> bool:
        """Tell whether a fit starts anew."""
        return True

    def _query(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False)

    @staticmethod
    def _finite(values: Array) -> Array:
        if not np.isfinite(values).all():
            raise ValueError(
                "X is too large: it has rows so far from the training rows that the result leaves "
                "the float64 range. Leave these rows out."
            )
        return values

    def score_samples(self, X: ArrayLike) -> Array:
        """Return the gradient field, grad_x log p(x), at each row.

        Unlike in scikit-learn's density estimators this is a vector to a row, not a log density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Where to evaluate it.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The field, in the inverse units of X.

        Raises
        ------
        ValueError
            When X is not as in `fit`: other columns, NaN or infinity, or rows too far away for
            float64.
        """
        return self._finite(self._score_samples(self._query(X)))

    def score(self, X: ArrayLike, y=None) -> float:
        """Return minus the held-out Hyvarinen objective; greater is better.

        ``-mean[tr(S ds/dx) + 1/2 s' S s]`` with S the covariance of the training rows: without a
        unit, the same under every invertible affine map of the data, and comparable between all
        estimators that were fitted on the same rows. The right score of a Gaussian has d / 2.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows that were not trained on.
        y : Ignored
            Not used, here for the convention of scikit-learn.

        Returns
        -------
        float
            The score.

        Raises
        ------
        ValueError
            When X is not as in `fit`: other columns, NaN or infinity, or rows too far away for
            float64.
        """
        return self.score_details(X).value

    def score_details(
        self, X: ArrayLike, covariance: ArrayLike | None = None, *, trim: float = 0.01
    ) -> ScoreDetails:
        """Return the score with its standard error and the skill against a Gaussian.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows that were not trained on.
        covariance : array-like of shape (n_features, n_features), optional
            S; by default that of this estimator's training rows. Pass one to compare estimators
            that were fitted on different rows.
        trim : float, default=0.01
            Share of the rows that is left out of `trimmed` at either end, in [0, 0.5).

        Returns
        -------
        ScoreDetails
            With `value`, `standard_error`, `skill`, `skill_error`, `trimmed`, `trimmed_error`.

        Raises
        ------
        ValueError
            When X is not as in `fit`, or `covariance` or `trim` is not valid.
        """
        real(high=0.5, closed=True)("trim", trim)
        X = self._query(X)
        S = self._metric(covariance)
        own, plug_in = (
            self._finite(hyvarinen_rows(*map(self._finite, field), covariance=S))
            for field in (self._field(X, S), self._plug_in_field(X, S))
        )
        gain = own - plug_in
        root_n = np.sqrt(len(X) - 1) if len(X) > 1 else np.nan
        return ScoreDetails(
            value=float(own.mean()),
            standard_error=float(own.std() / root_n),
            skill=float(gain.mean()),
            skill_error=float(gain.std() / root_n),
            trimmed=float(stats.trim_mean(own, trim)),
            trimmed_error=_trimmed_error(own, trim),
        )

    def _metric(self, covariance: ArrayLike | None) -> Array:
        if covariance is None:
            return self.covariance_
        try:
            S = np.asarray(covariance).astype(np.float64, casting="same_kind")
        except (TypeError, ValueError):
            S = None
        d = self.n_features_in_
        if S is None:
            fault = "is no array of real numbers"
        elif S.shape != (d, d):
            fault = f"has shape {S.shape}"
        elif not np.isfinite(S).all():
            fault = "has NaN or infinity in it"
        elif not np.allclose(S, S.T):
            fault = "is not symmetric"
        else:
            return S
        raise ValueError(
            f"covariance {fault}: it must be a finite symmetric matrix of shape ({d}, {d}), as "
            f"covariance_ is, or None."
        )

    def _plug_in_field(self, X: Array, S: Array) -> tuple[Array, Array]:
        """Return the field and ``tr(S ds/dx)`` of the Gaussian with the training moments."""
        c = np.sqrt(np.diag(self.covariance_))
        white = AffineMap.standardising(Moments(self.location_, self.covariance_, c), "full")
        divergence = white.null_divergence(S) - np.trace(white.metric(S))
        return white.pull_score(X, -white.transform(X)), np.full(len(X), divergence)

    def sample(
        self, n_samples: int = 1, random_state=None, *, sampler: str = "auto", **sampler_params
    ) -> Array:
        """Draw rows from the fitted model.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        random_state : int, RandomState instance or None, default=None
            Seeds this call. The seed of the constructor has no part in it: without one here, two
            calls differ.
        sampler : str, default="auto"
            The way of sampling; "auto" takes the best that the model allows.
        **sampler_params
            What the sampler takes; see the class.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows in the units of X. Row i depends on `random_state` and i, not on `n_samples`.

        Raises
        ------
        ValueError
            When a parameter is not valid.
        TypeError
            When the sampler takes no such keyword.
        DivergenceError
            When a chain runs away; the message names the step.
        MemoryError
            When this machine cannot hold the samples.
        """
        check_is_fitted(self)
        integer(1)("n_samples", n_samples)
        random_state_of("random_state", random_state)
        option("auto", *self._samplers)("sampler", sampler)
        unknown = sorted(set(sampler_params) - set(self._sampler_params))
        if unknown:
            takes = ", ".join(self._sampler_params) or "no further parameters"
            raise TypeError(
                f"sample() got an unexpected keyword {unknown[0]!r}: the samplers of "
                f"{type(self).__name__} take {takes}."
            )
        n_samples = int(n_samples)
        refuse_oversize(n_samples, self.n_features_in_, "n_samples")
        if hasattr(sampler_params.get("init"), "columns"):  # a data frame is checked by name
            sampler_params["init"] = self._query(sampler_params["init"])
        seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
        return self._sample(n_samples, seed, sampler, sampler_params)


def _trimmed_error(values: Array, trim: float) -> float:
    """Return the standard error of a trimmed mean; of the mean where no row is cut."""
    n = len(values)
    if n - 2 * int(trim * n) < 2:
        return float("nan")
    if int(trim * n) == 0:
        return float(values.std() / np.sqrt(n - 1))
    return float(stats.mstats.trimmed_stde(values, limits=(trim, trim)))
