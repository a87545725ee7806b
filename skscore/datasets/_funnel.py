"""Neal's funnel: a column that sets the scale of all others.

v = x_1 the log variance of the others, sigma its standard deviation.
"""

from __future__ import annotations

import numpy as np

from skscore.datasets._base import Distribution
from skscore.datasets._checks import LOG_2PI, Array, check_count, check_real

# exp(600) times a square still fits in float64, exp(710) alone does not.
LARGEST_EXPONENT = 600.0


class Funnel(Distribution):
    r"""Neal's funnel in two or more dimensions.

    .. math:: x_1 \sim N(0, \sigma^2), \qquad x_j \mid x_1 \sim N(0, e^{x_1})\ (j > 1)

    .. math:: \log p(x) = \log N(x_1; 0, \sigma^2) - \tfrac12 \sum_{j>1} \bigl[ e^{-x_1} x_j^2
              + x_1 + \log 2\pi \bigr]

    .. math:: s_1(x) = -\frac{x_1}{\sigma^2} + \tfrac12 \sum_{j>1} \bigl[ e^{-x_1} x_j^2 - 1
              \bigr], \qquad s_j(x) = -e^{-x_1} x_j

    The precision exp(-x_1) is held at exp(600) for x_1 < -600, where it would overflow.

    Parameters
    ----------
    n_features : int, default=2
        Number of columns d, at least 2.
    std : float, default=1.5
        Standard deviation sigma of the first column. Neal's own choice is 3, whose tails no
        sample of a usual size represents.

    Attributes
    ----------
    std : float
        Standard deviation sigma.

    Raises
    ------
    ValueError
        If there are fewer than 2 columns or std is not positive.

    References
    ----------
    Neal, R. M. (2003). Slice sampling. The Annals of Statistics 31, 705-767, section 8.

    Examples
    --------
    >>> from skscore.datasets import Funnel
    >>> Funnel(n_features=3, std=2.0).score([[0.0, 1.0, 3.0]])
    array([[ 4., -1., -3.]])
    """

    def __init__(self, n_features: int = 2, std: float = 1.5) -> None:
        self._n_features = check_count("n_features", n_features, minimum=2)
        self.std = check_real("std", std, above=0)

    @property
    def n_features(self) -> int:
        """Number of columns d."""
        return self._n_features

    def _sample(self, n_samples: int, rng: np.random.RandomState) -> Array:
        X = rng.standard_normal((n_samples, self.n_features))
        X[:, 0] *= self.std
        X[:, 1:] *= np.exp(X[:, :1] / 2)
        return X

    def _score(self, X: Array) -> Array:
        v, rest = X[:, :1], X[:, 1:]
        precision = _precision(v)
        first = -v / self.std**2 + 0.5 * (precision * rest**2 - 1).sum(axis=1, keepdims=True)
        return np.hstack([first, -precision * rest])

    def _log_density(self, X: Array) -> Array:
        v, rest = X[:, :1], X[:, 1:]
        log_first = -0.5 * (v[:, 0] / self.std) ** 2 - np.log(self.std) - 0.5 * LOG_2PI
        return log_first - 0.5 * (_precision(v) * rest**2 + v + LOG_2PI).sum(axis=1)


def _precision(v: Array) -> Array:
    return np.exp(-np.clip(v, -LARGEST_EXPONENT, LARGEST_EXPONENT))
