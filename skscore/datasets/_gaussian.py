"""The normal distribution.

m mean, S covariance, W lower triangular with W' W = S^-1, so that z = W (x - m) is standard.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from skscore.datasets._base import Distribution
from skscore.datasets._checks import (
    LOG_2PI,
    Array,
    check_location,
    check_scale,
    random_covariance,
    whitener,
)


class Gaussian(Distribution):
    r"""Normal distribution N(m, S) on R^d.

    .. math:: \log p(x) = -\tfrac12 (x-m)' S^{-1} (x-m) - \tfrac12 \log\det S
              - \tfrac d2 \log 2\pi, \qquad s(x) = -S^{-1} (x - m)

    Parameters
    ----------
    mean : array-like of shape (n_features,), default=None
        Mean m; None is zero.
    covariance : array-like of shape (n_features, n_features), default=None
        Covariance S, symmetric and positive definite; None is the identity.
    n_features : int, default=2
        Number of columns d. It is read only where both other parameters are None.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
        Mean m.
    covariance : ndarray of shape (n_features, n_features)
        Covariance S.

    Raises
    ------
    ValueError
        If the shapes disagree, or S is not symmetric and positive definite.

    Examples
    --------
    >>> from skscore.datasets import Gaussian
    >>> law = Gaussian(mean=[1.0, 0.0], covariance=[[4.0, 0.0], [0.0, 1.0]])
    >>> law.score([[3.0, 2.0]])
    array([[-0.5, -2. ]])
    >>> law.sample(5, random_state=0).shape
    (5, 2)
    """

    def __init__(
        self,
        mean: ArrayLike | None = None,
        covariance: ArrayLike | None = None,
        n_features: int = 2,
    ) -> None:
        self.mean, self.covariance = check_location(mean, covariance, n_features, "covariance")
        self._W = whitener(self.covariance)
        self._factor = np.linalg.cholesky(self.covariance)
        self._log_normaliser = np.log(np.diag(self._W)).sum() - len(self.mean) / 2 * LOG_2PI

    @classmethod
    def random(
        cls,
        n_features: int,
        condition_number: float = 10.0,
        random_state: int | np.random.RandomState | None = None,
    ) -> Gaussian:
        """Make a Gaussian of mean zero whose covariance has a random orientation.

        Parameters
        ----------
        n_features : int
            Number of columns d.
        condition_number : float, default=10.0
            Largest over smallest eigenvalue of the covariance. The eigenvalues are spaced
            geometrically around one, so that the determinant is one.
        random_state : int, RandomState instance or None, default=None
            Source of the orientation.

        Returns
        -------
        law : Gaussian
            The distribution.

        Raises
        ------
        ValueError
            If ``n_features`` or ``condition_number`` is less than 1.

        Examples
        --------
        >>> from skscore.datasets import Gaussian
        >>> Gaussian.random(3, random_state=0)
        Gaussian(n_features=3)
        """
        rng = check_random_state(random_state)
        return cls(covariance=random_covariance(n_features, condition_number, rng))

    def blurred(self, scale: ArrayLike) -> Gaussian:
        """Make the law of x + scale * z, z standard normal.

        Parameters
        ----------
        scale : float or array-like of shape (n_features,)
            Standard deviation of the noise, one for all columns or one for each; zero is none.

        Returns
        -------
        law : Gaussian
            The distribution, N(m, S + diag(scale^2)).

        Raises
        ------
        ValueError
            If ``scale`` is negative, not finite or of another length.

        Examples
        --------
        >>> from skscore.datasets import Gaussian
        >>> Gaussian().blurred([1.0, 2.0]).covariance
        array([[2., 0.],
               [0., 5.]])
        """
        noise = check_scale(scale, self.n_features) ** 2
        return Gaussian(self.mean, self.covariance + np.diag(noise))

    @property
    def n_features(self) -> int:
        """Number of columns d."""
        return len(self.mean)

    def _sample(self, n_samples: int, rng: np.random.RandomState) -> Array:
        return self.mean + rng.standard_normal((n_samples, self.n_features)) @ self._factor.T

    def _score(self, X: Array) -> Array:
        return -((X - self.mean) @ self._W.T) @ self._W

    def _log_density(self, X: Array) -> Array:
        z = (X - self.mean) @ self._W.T
        return self._log_normaliser - 0.5 * (z**2).sum(axis=1)
