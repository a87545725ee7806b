"""The multivariate Student distribution.

m mean, V shape matrix, W' W = V^-1, q = |W (x - m)|^2, nu degrees of freedom.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from skscore.datasets._base import Distribution
from skscore.datasets._checks import Array, check_location, check_real, whitener


class StudentT(Distribution):
    r"""Multivariate t distribution: heavy tails, a score that vanishes far away.

    With :math:`q = (x-m)' V^{-1} (x-m)`,

    .. math:: \log p(x) = \log\Gamma(\tfrac{\nu+d}2) - \log\Gamma(\tfrac\nu2)
              - \tfrac d2 \log \nu\pi - \tfrac12 \log\det V
              - \tfrac{\nu+d}2 \log(1 + \tfrac q\nu), \qquad
              s(x) = -\frac{\nu+d}{\nu+q} V^{-1} (x-m)

    Parameters
    ----------
    df : float, default=5.0
        Degrees of freedom nu. The covariance is nu / (nu - 2) V for nu > 2, else infinite.
    n_features : int, default=5
        Number of columns d. It is read only where mean and shape are None.
    mean : array-like of shape (n_features,), default=None
        Centre m, the mean for nu > 1; None is zero.
    shape : array-like of shape (n_features, n_features), default=None
        Shape matrix V, symmetric and positive definite; None is the identity.

    Attributes
    ----------
    df, mean, shape
        The parameters, as float and arrays.

    Raises
    ------
    ValueError
        If df is not positive, the shapes disagree, or V is not symmetric and positive definite.

    References
    ----------
    Kotz, S. and Nadarajah, S. (2004). Multivariate t Distributions and Their Applications.
    Cambridge University Press, eq. (1.1).

    Examples
    --------
    >>> from skscore.datasets import StudentT
    >>> StudentT(df=3.0, n_features=1).score([[1.0], [1000.0]]).round(3)
    array([[-1.   ],
           [-0.004]])
    """

    def __init__(
        self,
        df: float = 5.0,
        n_features: int = 5,
        mean: ArrayLike | None = None,
        shape: ArrayLike | None = None,
    ) -> None:
        self.df = check_real("df", df, above=0)
        self.mean, self.shape = check_location(mean, shape, n_features, "shape")
        self._W = whitener(self.shape)
        self._factor = np.linalg.cholesky(self.shape)

    @property
    def n_features(self) -> int:
        """Number of columns d."""
        return len(self.mean)

    def _sample(self, n_samples: int, rng: np.random.RandomState) -> Array:
        z = rng.standard_normal((n_samples, self.n_features)) @ self._factor.T
        return self.mean + z / np.sqrt(rng.chisquare(self.df, (n_samples, 1)) / self.df)

    def _score(self, X: Array) -> Array:
        z = (X - self.mean) @ self._W.T
        q = (z**2).sum(axis=1, keepdims=True)
        return -(self.df + self.n_features) / (self.df + q) * (z @ self._W)

    def _log_density(self, X: Array) -> Array:
        nu, d = self.df, self.n_features
        q = (((X - self.mean) @ self._W.T) ** 2).sum(axis=1)
        log_normaliser = (
            gammaln((nu + d) / 2)
            - gammaln(nu / 2)
            - d / 2 * np.log(nu * np.pi)
            + np.log(np.diag(self._W)).sum()
        )
        return log_normaliser - (nu + d) / 2 * np.log1p(q / nu)
