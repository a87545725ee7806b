"""The banana: a Gaussian bent along a parabola.

a scale of the first column, b bend, z standard normal.
"""

from __future__ import annotations

import numpy as np

from skscore.datasets._base import Distribution
from skscore.datasets._checks import LOG_2PI, Array, check_count, check_real


class TwistedGaussian(Distribution):
    r"""Twisted Gaussian, "banana", in two or more dimensions.

    .. math:: x_1 = a z_1, \quad x_2 = z_2 + b (x_1^2 - a^2), \quad x_j = z_j\ (j > 2),
              \qquad z \sim N(0, I)

    The map has determinant a. With :math:`z_1 = x_1/a` and :math:`z_2 = x_2 - b (x_1^2 - a^2)`,

    .. math:: \log p(x) = -\tfrac12 \|z\|^2 - \tfrac d2 \log 2\pi - \log a, \qquad
              s(x) = (-x_1/a^2 + 2 b x_1 z_2,\ -z_2,\ -x_3, \dots, -x_d)

    Parameters
    ----------
    n_features : int, default=2
        Number of columns d, at least 2; 20 is usual in studies of Monte Carlo methods.
    scale : float, default=1.5
        Standard deviation a of the first column.
    bend : float, default=0.5
        Curvature b; zero gives a Gaussian, negative values bend downwards. What makes a banana
        is b a^2.

    Attributes
    ----------
    scale, bend
        The parameters.

    Raises
    ------
    ValueError
        If there are fewer than 2 columns, the scale is not positive or the bend not finite.

    References
    ----------
    Haario, H., Saksman, E. and Tamminen, J. (1999). Adaptive proposal distribution for random
    walk Metropolis algorithm. Computational Statistics 14, 375-395 (there a = 10 and the bend
    is -0.03 or -0.1).

    Examples
    --------
    >>> from skscore.datasets import TwistedGaussian
    >>> law = TwistedGaussian(n_features=3, scale=2.0, bend=0.5)
    >>> law.score([[2.0, 1.0, 3.0]])
    array([[ 1.5, -1. , -3. ]])
    """

    def __init__(self, n_features: int = 2, scale: float = 1.5, bend: float = 0.5) -> None:
        self._n_features = check_count("n_features", n_features, minimum=2)
        self.scale = check_real("scale", scale, above=0)
        self.bend = check_real("bend", bend)

    @property
    def n_features(self) -> int:
        """Number of columns d."""
        return self._n_features

    def _untwist(self, X: Array) -> Array:
        z = X.copy()
        z[:, 0] /= self.scale
        z[:, 1] -= self.bend * (X[:, 0] ** 2 - self.scale**2)
        return z

    def _sample(self, n_samples: int, rng: np.random.RandomState) -> Array:
        X = rng.standard_normal((n_samples, self.n_features))
        X[:, 0] *= self.scale
        X[:, 1] += self.bend * (X[:, 0] ** 2 - self.scale**2)
        return X

    def _score(self, X: Array) -> Array:
        z = self._untwist(X)
        scores = -z
        scores[:, 0] /= self.scale
        scores[:, 0] += 2 * self.bend * X[:, 0] * z[:, 1]
        return scores

    def _log_density(self, X: Array) -> Array:
        z = self._untwist(X)
        log_normaliser = -self.n_features / 2 * LOG_2PI - np.log(self.scale)
        return log_normaliser - 0.5 * (z**2).sum(axis=1)
