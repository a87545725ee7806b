"""The interface that every distribution of known score shares.

x in R^d, n rows. s(x) = grad_x log p(x), shape (n, d). log p(x) in nats, normalised, shape (n,).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_array, check_random_state

from skscore.datasets._checks import Array, check_count


class Distribution(ABC):
    """A distribution on R^d with an exact score, an exact log density and exact samples.

    A distribution is fixed once it is made: its parameters are attributes that cannot be set
    again, and arrays among them are read-only copies.

    A subclass has the property ``n_features`` and the three hooks ``_sample``, ``_score`` and
    ``_log_density``, which receive checked arguments.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__:
            raise AttributeError(
                f"{name} of a {type(self).__name__} is fixed; make a new {type(self).__name__}"
            )
        if isinstance(value, np.ndarray):
            value = value.copy()
            value.setflags(write=False)
        object.__setattr__(self, name, value)

    def __setstate__(self, state: dict[str, object]) -> None:
        for name, value in state.items():  # a copy is as fixed
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_features={self.n_features})"

    @property
    @abstractmethod
    def n_features(self) -> int:
        """Number of columns d."""

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> Array:
        """Draw independent rows.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows n.
        random_state : int, RandomState instance or None, default=None
            Source of the random numbers; the same int gives the same rows.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            The rows.

        Raises
        ------
        ValueError
            If ``n_samples`` is not an integer of at least 1.
        """
        n_samples = check_count("n_samples", n_samples)
        return self._sample(n_samples, check_random_state(random_state))

    def score(self, X: ArrayLike) -> Array:
        """Evaluate the exact gradient field grad_x log p(x), in the units of 1 / X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Where to evaluate it.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_features)
            One gradient a row.

        Raises
        ------
        ValueError
            If ``X`` is not finite, not 2-D or has another number of columns.
        """
        return self._score(self._check_rows(X))

    def log_density(self, X: ArrayLike) -> Array:
        """Evaluate the exact log density log p(x), normalised, in nats.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Where to evaluate it.

        Returns
        -------
        log_densities : ndarray of shape (n_samples,)
            One value a row.

        Raises
        ------
        ValueError
            If ``X`` is not finite, not 2-D or has another number of columns.
        """
        return self._log_density(self._check_rows(X))

    def _check_rows(self, X: ArrayLike) -> Array:
        rows: Array = check_array(X, dtype=np.float64, input_name="X")
        if rows.shape[1] != self.n_features:
            raise ValueError(
                f"X has {rows.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features} features"
            )
        return rows

    @abstractmethod
    def _sample(self, n_samples: int, rng: np.random.RandomState) -> Array: ...

    @abstractmethod
    def _score(self, X: Array) -> Array: ...

    @abstractmethod
    def _log_density(self, X: Array) -> Array: ...
