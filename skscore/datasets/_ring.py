"""A ring in the plane.

r = |x|, R radius, sigma standard deviation across the ring.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr
from scipy.stats import truncnorm

from skscore.datasets._base import Distribution
from skscore.datasets._checks import LOG_2PI, Array, check_real

# Below this radius the pole 1 / r is held, so that even |s|^2 stays finite in float64.
SMALLEST_RADIUS = 1e-100


class Ring(Distribution):
    r"""Ring in the plane: a normal radius, a uniform angle.

    The radius has the law N(R, sigma^2) restricted to r > 0. A circle of radius r has the length
    2 pi r, hence the factor 1 / r in the density on R^2 and the term -1 / r in its score:

    .. math:: p(x) = \frac{N(r; R, \sigma^2)}{2\pi r\, \Phi(R/\sigma)}, \qquad
              s(x) = \frac xr \Bigl[\frac{R - r}{\sigma^2} - \frac1r\Bigr], \quad r = \|x\|

    The density has an integrable pole at the centre. Radii below 1e-100 count as 1e-100 there,
    and the score at the centre itself is zero, by symmetry. E||s||^2 is infinite because of
    that pole, although for R >= 5 sigma no sample of a usual size will show it.

    Parameters
    ----------
    radius : float, default=1.0
        Radius R.
    std : float, default=0.1
        Standard deviation sigma of the radius.

    Attributes
    ----------
    radius, std
        The parameters.

    Raises
    ------
    ValueError
        If a parameter is not a finite number greater than 0.

    Examples
    --------
    >>> from skscore.datasets import Ring
    >>> Ring(radius=1.0, std=0.1).score([[1.2, 1.6]]).round(1)
    array([[-60.3, -80.4]])
    """

    def __init__(self, radius: float = 1.0, std: float = 0.1) -> None:
        self.radius = check_real("radius", radius, above=0)
        self.std = check_real("std", std, above=0)

    @property
    def n_features(self) -> int:
        """Number of columns, 2."""
        return 2

    def _sample(self, n_samples: int, rng: np.random.RandomState) -> Array:
        lowest = -self.radius / self.std
        z = truncnorm.rvs(lowest, np.inf, size=(n_samples, 1), random_state=rng)
        angle = rng.uniform(0, 2 * np.pi, (n_samples, 1))
        return (self.radius + self.std * z) * np.hstack([np.cos(angle), np.sin(angle)])

    def _score(self, X: Array) -> Array:
        r = _radii(X)[:, None]
        return X / r * ((self.radius - r) / self.std**2 - 1 / r)

    def _log_density(self, X: Array) -> Array:
        r = _radii(X)
        z = (r - self.radius) / self.std
        log_radius_density = -0.5 * z**2 - 0.5 * LOG_2PI - np.log(self.std)
        return log_radius_density - LOG_2PI - np.log(r) - log_ndtr(self.radius / self.std)


def _radii(X: Array) -> Array:
    return np.maximum(np.hypot(X[:, 0], X[:, 1]), SMALLEST_RADIUS)
