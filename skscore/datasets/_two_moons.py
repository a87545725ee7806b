"""Two interleaving half circles, as a mixture with an exact score."""

from __future__ import annotations

import numpy as np

from skscore.datasets._base import Distribution
from skscore.datasets._checks import Array, check_count, check_real
from skscore.datasets._gaussian_mixture import GaussianMixture


class TwoMoons(Distribution):
    r"""Two interleaving half circles with Gaussian noise, in the plane.

    The geometry is that of :func:`sklearn.datasets.make_moons`. The law is an equally weighted
    mixture of round Gaussians whose means are evenly spaced along the two arcs, half of them on
    each, t from 0 to pi:

    .. math:: (\cos t, \sin t), \qquad (1 - \cos t, \tfrac12 - \sin t)

    Parameters
    ----------
    noise : float, default=0.1
        Standard deviation of each component.
    n_components : int, default=256
        Number of components on both arcs together, an even number. Neighbours on an arc are
        pi / (n_components / 2 - 1) apart: beads on a chain where the noise is much smaller.

    Attributes
    ----------
    noise, n_components
        The parameters.
    mixture : GaussianMixture
        The same law with its means, covariances and weights.

    Raises
    ------
    ValueError
        If the noise is not positive, or n_components not even and at least 4.

    Examples
    --------
    >>> from skscore.datasets import TwoMoons
    >>> law = TwoMoons(noise=0.1)
    >>> law.score([[0.0, 1.2]]).round(1) + 0.0
    array([[  0. , -20.4]])
    """

    def __init__(self, noise: float = 0.1, n_components: int = 256) -> None:
        self.noise = check_real("noise", noise, above=0)
        self.n_components = check_count("n_components", n_components, minimum=4)
        if self.n_components % 2:
            raise ValueError(
                f"n_components is {n_components}; pass an even number, half for each moon"
            )
        t = np.linspace(0, np.pi, self.n_components // 2)
        outer = np.column_stack([np.cos(t), np.sin(t)])
        inner = np.column_stack([1 - np.cos(t), 0.5 - np.sin(t)])
        self.mixture = GaussianMixture(np.vstack([outer, inner]), self.noise**2)

    @property
    def n_features(self) -> int:
        """Number of columns, 2."""
        return 2

    def _sample(self, n_samples: int, rng: np.random.RandomState) -> Array:
        return self.mixture._sample(n_samples, rng)

    def _score(self, X: Array) -> Array:
        return self.mixture._score(X)

    def _log_density(self, X: Array) -> Array:
        return self.mixture._log_density(X)
