"""A smoothed checkerboard.

w width of a square, h smoothing, c centre of an interval, phi and Phi the normal density and cdf.
"""

from __future__ import annotations

import numpy as np
from scipy.special import erfcx, expit, logsumexp, ndtr, softmax

from skscore.datasets._base import Distribution
from skscore.datasets._checks import LOG_2PI, Array, check_count, check_real


class Checkerboard(Distribution):
    r"""Uniform law on every other square of a board, smoothed by Gaussian noise, in the plane.

    The board has n x n squares of width w and is centred at zero; the squares (i, j) with i + j
    even are filled, K of them. The uniform law on these is convolved with N(0, h^2 I):

    .. math:: p(x) = \frac1{K w^2} \sum_{i+j\ \mathrm{even}} A_i(x_1) A_j(x_2), \qquad
              A_i(t) = \Phi\Bigl(\frac{t - e_i}h\Bigr) - \Phi\Bigl(\frac{t - e_{i+1}}h\Bigr)

    where e_i are the edges. The score is the mean of (A_i'/A_i, A_j'/A_j) over the squares, each
    weighted by its share of p(x); it is computed from logarithms and scaled complementary error
    functions, so that it is exact in the tails.

    Parameters
    ----------
    n_squares : int, default=4
        Squares on each side of the board, at least 2.
    width : float, default=1.0
        Width w of a square.
    smoothing : float, default=0.15
        Standard deviation h of the noise.

    Attributes
    ----------
    n_squares, width, smoothing
        The parameters.

    Raises
    ------
    ValueError
        If there are fewer than 2 squares, or a width is not positive.

    Examples
    --------
    >>> from skscore.datasets import Checkerboard
    >>> law = Checkerboard(n_squares=4, width=1.0, smoothing=0.1)
    >>> law.log_density([[-1.5, -1.5]]).round(3)
    array([-2.079])
    >>> law.score([[-2.0, -1.5]]).round(3)
    array([[7.979, 0.   ]])
    """

    def __init__(self, n_squares: int = 4, width: float = 1.0, smoothing: float = 0.15) -> None:
        self.n_squares = check_count("n_squares", n_squares, minimum=2)
        self.width = check_real("width", width, above=0)
        self.smoothing = check_real("smoothing", smoothing, above=0)
        index = np.arange(self.n_squares)
        self._centres = (index - (self.n_squares - 1) / 2) * self.width
        i, j = np.nonzero((index[:, None] + index) % 2 == 0)
        self._filled = self._centres[np.column_stack([i, j])]

    @property
    def n_features(self) -> int:
        """Number of columns, 2."""
        return 2

    def _sample(self, n_samples: int, rng: np.random.RandomState) -> Array:
        squares = self._filled[rng.randint(len(self._filled), size=n_samples)]
        inside = rng.uniform(-self.width / 2, self.width / 2, (n_samples, 2))
        return squares + inside + self.smoothing * rng.standard_normal((n_samples, 2))

    def _score(self, X: Array) -> Array:
        (log_even, score_even), (log_odd, score_odd) = self._stripes(X, 0), self._stripes(X, 1)
        share = expit((log_even - log_odd).sum(axis=1, keepdims=True))
        return share * score_even + (1 - share) * score_odd

    def _log_density(self, X: Array) -> Array:
        log_even, log_odd = self._stripes(X, 0)[0], self._stripes(X, 1)[0]
        log_sum = np.logaddexp(log_even.sum(axis=1), log_odd.sum(axis=1))
        return log_sum - np.log(len(self._filled) * self.width**2)

    def _stripes(self, X: Array, parity: int) -> tuple[Array, Array]:
        """Return log sum_i A_i and its derivative over the i of one parity, column by column.

        i + j is even where both are even or both are odd: the board is two products of stripes.
        """
        t = X[:, :, None] - self._centres[parity::2]
        log_A, derivative = _smoothed_interval(t, self.width, self.smoothing)
        return logsumexp(log_A, axis=2), (softmax(log_A, axis=2) * derivative).sum(axis=2)


def _smoothed_interval(t: Array, w: float, h: float) -> tuple[Array, Array]:
    """Return log A and (log A)' for A(t) = Phi((t + w/2)/h) - Phi((t - w/2)/h).

    By symmetry A = Phi(b) - Phi(a) with u = |t|/h, q = w/(2h), a = -q - u, b = q - u. Where b < 0
    both are tails and phi(b) is taken out: A = phi(b) sqrt(pi/2) [erfcx(-b/sqrt2) - e
    erfcx(-a/sqrt2)], e = phi(a)/phi(b) = exp(-2 q u).
    """
    u, q = np.abs(t) / h, w / (2 * h)
    a, b = -q - u, q - u
    log_phi = -0.5 * b**2 - 0.5 * LOG_2PI
    tails = erfcx(np.maximum(-b, 0) / np.sqrt(2)) - np.exp(-2 * q * u) * erfcx(-a / np.sqrt(2))
    inside = np.where(b > 0, ndtr(b) - ndtr(a), 1.0)
    log_A = np.where(b > 0, np.log(inside), log_phi + np.log(np.sqrt(np.pi / 2) * tails))
    # phi(b) is taken out of A'/A as well, so that nothing underflows in the tails.
    phi_over_A = np.where(b > 0, np.exp(log_phi) / inside, 1 / (np.sqrt(np.pi / 2) * tails))
    return log_A, np.sign(t) / h * np.expm1(-2 * q * u) * phi_over_A
