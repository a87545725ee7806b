"""The banana: a Gaussian bent along a parabola.

a scale of the first column, b bend, z standard normal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, softmax
from sklearn.utils import gen_batches

from skscore.datasets._base import Distribution
from skscore.datasets._checks import LOG_2PI, Array, check_count, check_real, check_scale

# Of the quadrature over the hidden first column: nodes, rows at a time, how far below its maximum
# the logarithm of the integrand is left out, and how often the interval is narrowed to that.
N_NODES, BLOCK, DEPTH, N_NARROWINGS = 513, 2048, 45.0, 3


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

    def blurred(self, scale: ArrayLike) -> BlurredTwistedGaussian:
        """Make the law of x + scale * z, z standard normal.

        Parameters
        ----------
        scale : float or array-like of shape (n_features,)
            Standard deviation of the noise, one for all columns or one for each; zero is none.

        Returns
        -------
        law : BlurredTwistedGaussian
            A distribution with `sample`, `score` and `log_density`, the two last by quadrature
            over the first column before the noise.

        Raises
        ------
        ValueError
            If ``scale`` is negative, not finite or of another length.

        Examples
        --------
        >>> from skscore.datasets import TwistedGaussian
        >>> law = TwistedGaussian(n_features=3, scale=2.0, bend=0.5)
        >>> law.blurred(0.1).score([[2.0, 1.0, 3.0]]).round(2)
        array([[ 1.41, -0.96, -2.97]])
        """
        return BlurredTwistedGaussian(self, check_scale(scale, self.n_features))

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


class BlurredTwistedGaussian(Distribution):
    r"""A twisted Gaussian with independent normal noise added to each column.

    With deviations c_j of the noise, v_j = 1 + c_j^2 and the hidden first column
    t = m + tau u, u ~ N(0, 1), that is left by seeing y_1,

    .. math:: m = \frac{a^2}{a^2 + c_1^2} y_1, \quad \tau^2 = \frac{a^2 c_1^2}{a^2 + c_1^2}, \qquad
              p(y_1, y_2) = N(y_1; 0, a^2 + c_1^2) \int N(u; 0, 1)\, N(y_2; b (t^2 - a^2), v_2)\, du

    .. math:: s_1 = \frac{-y_1 + a^2 E[2 b t (y_2 - b t^2 + b a^2) / v_2]}{a^2 + c_1^2}, \quad
              s_2 = -E[y_2 - b t^2 + b a^2] / v_2, \quad s_j = -y_j / v_j\ (j > 2)

    where E is the mean over u given y. Both are sums over equal steps of u between the ends of
    where the integrand matters, exact to about ten digits on rows of the law; far outside, where
    the integrand may have two narrow peaks, to fewer.

    Parameters
    ----------
    law : TwistedGaussian
        The distribution without noise.
    scale : ndarray of shape (n_features,)
        Standard deviation c_j of the noise in each column.

    Attributes
    ----------
    law, scale
        The parameters.
    """

    def __init__(self, law: TwistedGaussian, scale: Array) -> None:
        self.law = law
        self.scale = scale

    @property
    def n_features(self) -> int:
        """Number of columns d."""
        return self.law.n_features

    def _sample(self, n_samples: int, rng: np.random.RandomState) -> Array:
        X = self.law._sample(n_samples, rng)
        return X + self.scale * rng.standard_normal(X.shape)

    def _hidden(self, X: Array) -> tuple[Array, Array, Array, Array]:
        """Return t and y_2 - b (t^2 - a^2) at the nodes, and log integrand and log step, (n, k)."""
        a, b, c, v = self.law.scale, self.law.bend, self.scale[0], 1 + self.scale[1] ** 2
        m = X[:, :1] * a**2 / (a**2 + c**2)
        tau = a * c / np.hypot(a, c)
        at_zero = (X[:, 1] - b * (m[:, 0] ** 2 - a**2)) ** 2 / v
        high = np.sqrt(2 * DEPTH + at_zero)  # beyond it N(u; 0, 1) alone is too small
        low = -high
        for _ in range(N_NARROWINGS):
            u = np.linspace(low, high, N_NODES, axis=1)
            t = m + tau * u
            gap = X[:, 1:2] - b * (t**2 - a**2)
            log_p = -0.5 * u**2 - 0.5 * gap**2 / v - LOG_2PI - 0.5 * np.log(v)
            log_step = np.log((high - low) / (N_NODES - 1))
            kept = log_p > log_p.max(axis=1, keepdims=True) - DEPTH
            first, last = kept.argmax(axis=1), N_NODES - 1 - kept[:, ::-1].argmax(axis=1)
            rows = np.arange(len(X))
            low, high = (
                u[rows, np.maximum(first - 1, 0)],
                u[rows, np.minimum(last + 1, N_NODES - 1)],
            )
        return t, gap, log_p, log_step

    def _score(self, X: Array) -> Array:
        a, b, v = self.law.scale, self.law.bend, 1 + self.scale**2
        scores = -X / v
        for block in gen_batches(len(X), BLOCK):
            t, gap, log_p, _ = self._hidden(X[block])
            w = softmax(log_p, axis=1) / v[1]
            pull = a**2 * (w * 2 * b * t * gap).sum(axis=1)
            scores[block, 0] = (pull - X[block, 0]) / (a**2 + self.scale[0] ** 2)
            scores[block, 1] = -(w * gap).sum(axis=1)
        return scores

    def _log_density(self, X: Array) -> Array:
        v = 1 + self.scale**2
        v[0] = self.law.scale**2 + self.scale[0] ** 2
        others = np.delete(np.arange(self.n_features), 1)
        values = -0.5 * (X[:, others] ** 2 / v[others] + np.log(v[others]) + LOG_2PI).sum(axis=1)
        for block in gen_batches(len(X), BLOCK):
            _, _, log_p, log_step = self._hidden(X[block])
            values[block] += logsumexp(log_p, axis=1) + log_step
        return values
