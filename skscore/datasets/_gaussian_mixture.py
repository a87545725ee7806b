"""Mixtures of Gaussians.

p(x) = sum_k w_k p_k(x), responsibilities r_k(x) = w_k p_k(x) / p(x).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, softmax
from sklearn.utils import check_random_state, gen_batches

from skscore.datasets._base import Distribution
from skscore.datasets._checks import (
    Array,
    check_count,
    check_covariance,
    check_floats,
    check_real,
    check_scale,
    random_covariance,
)
from skscore.datasets._gaussian import Gaussian

BLOCK = 4096


class GaussianMixture(Distribution):
    r"""Mixture of K Gaussians N(m_k, S_k) with weights w_k.

    .. math:: \log p(x) = \log \sum_k w_k N(x; m_k, S_k), \qquad
              s(x) = -\sum_k r_k(x) S_k^{-1} (x - m_k), \quad
              r_k(x) = w_k N(x; m_k, S_k) / p(x)

    Both are computed from log densities with a log-sum-exp shift.

    Parameters
    ----------
    means : array-like of shape (n_components, n_features)
        Means m_k.
    covariances : float or array-like
        One variance for all components; variances of shape (n_components,); one matrix of shape
        (n_features, n_features) for all; or matrices of shape
        (n_components, n_features, n_features).
    weights : array-like of shape (n_components,), default=None
        Positive weights, divided by their sum; None is equal weights.

    Attributes
    ----------
    means : ndarray of shape (n_components, n_features)
        Means m_k.
    covariances : ndarray of shape (n_components, n_features, n_features)
        Covariances S_k.
    weights : ndarray of shape (n_components,)
        Weights w_k.

    Raises
    ------
    ValueError
        If the shapes disagree, a weight is not positive, or a covariance is not positive definite.

    Examples
    --------
    >>> from skscore.datasets import GaussianMixture
    >>> law = GaussianMixture([[-2.0], [2.0]], covariances=1.0)
    >>> law.score([[1.0], [10.0]]).round(3)
    array([[ 0.928],
           [-8.   ]])
    """

    def __init__(
        self, means: ArrayLike, covariances: ArrayLike, weights: ArrayLike | None = None
    ) -> None:
        self.means = check_floats("means", means, ndim=2)
        k, d = self.means.shape
        self.covariances = _expand_covariances(covariances, k, d)
        weights = check_floats("weights", np.ones(k) if weights is None else weights, ndim=1)
        if weights.shape != (k,) or weights.min() <= 0:
            raise ValueError(f"weights is {weights}; pass {k} numbers greater than 0, one a mean")
        scaled = weights / weights.max()  # the sum of large ones may leave the float range
        self.weights = scaled / scaled.sum()
        self._components = tuple(map(Gaussian, self.means, self.covariances))

    @classmethod
    def four(cls, distance: float = 2.0, std: float = 0.5) -> GaussianMixture:
        """Make four round Gaussians, one in each quadrant of the plane.

        Parameters
        ----------
        distance : float, default=2.0
            The means are (+-distance, +-distance).
        std : float, default=0.5
            Standard deviation of each component.

        Returns
        -------
        law : GaussianMixture
            The distribution.
        """
        a = check_real("distance", distance)
        return cls([[a, a], [a, -a], [-a, a], [-a, -a]], check_real("std", std, above=0) ** 2)

    @classmethod
    def eight(cls, radius: float = 2.0, std: float = 0.2) -> GaussianMixture:
        """Make eight round Gaussians, evenly spaced on a circle.

        Parameters
        ----------
        radius : float, default=2.0
            Radius of the circle of means.
        std : float, default=0.2
            Standard deviation of each component.

        Returns
        -------
        law : GaussianMixture
            The distribution.
        """
        angles = np.arange(8) * np.pi / 4
        circle = np.column_stack([np.cos(angles), np.sin(angles)])
        radius = check_real("radius", radius)
        return cls(radius * circle, check_real("std", std, above=0) ** 2)

    @classmethod
    def random(
        cls,
        n_components: int = 5,
        n_features: int = 10,
        random_state: int | np.random.RandomState | None = 0,
    ) -> GaussianMixture:
        """Make a mixture with random means, covariances and weights.

        The means are drawn from N(0, 4 I), the covariances have determinant one, condition
        number 10 and random orientations, the weights are drawn from a Dirichlet(5, ..., 5).

        Parameters
        ----------
        n_components : int, default=5
            Number of components K.
        n_features : int, default=10
            Number of columns d.
        random_state : int, RandomState instance or None, default=0
            Source of the parameters: by default every call makes the same mixture.

        Returns
        -------
        law : GaussianMixture
            The distribution.
        """
        k, d = check_count("n_components", n_components), check_count("n_features", n_features)
        rng = check_random_state(random_state)
        means = 2 * rng.standard_normal((k, d))
        covariances = np.stack([random_covariance(d, 10.0, rng) for _ in range(k)])
        return cls(means, covariances, rng.dirichlet(np.full(k, 5.0)))

    def blurred(self, scale: ArrayLike) -> GaussianMixture:
        """Make the law of x + scale * z, z standard normal.

        Parameters
        ----------
        scale : float or array-like of shape (n_features,)
            Standard deviation of the noise, one for all columns or one for each; zero is none.

        Returns
        -------
        law : GaussianMixture
            The distribution, each covariance S_k + diag(scale^2).

        Raises
        ------
        ValueError
            If ``scale`` is negative, not finite or of another length.

        Examples
        --------
        >>> from skscore.datasets import GaussianMixture
        >>> law = GaussianMixture([[-2.0], [2.0]], covariances=1.0)
        >>> law.blurred(2.0).covariances.ravel()
        array([5., 5.])
        """
        noise = check_scale(scale, self.n_features) ** 2
        return GaussianMixture(self.means, self.covariances + np.diag(noise), self.weights)

    @property
    def n_features(self) -> int:
        """Number of columns d."""
        return self.means.shape[1]

    def _sample(self, n_samples: int, rng: np.random.RandomState) -> Array:
        labels = rng.choice(len(self.weights), size=n_samples, p=self.weights)
        X = np.empty((n_samples, self.n_features))
        for k, component in enumerate(self._components):
            rows = labels == k
            X[rows] = component._sample(int(rows.sum()), rng)
        return X

    def _log_joint(self, X: Array) -> Array:
        """Return log w_k + log p_k(x), shape (n, K)."""
        densities = [component._log_density(X) for component in self._components]
        return np.log(self.weights) + np.column_stack(densities)

    def _score(self, X: Array) -> Array:
        scores = np.zeros_like(X)
        # In blocks, so that the (n, K) responsibilities never grow with the number of rows.
        for block in gen_batches(len(X), BLOCK):
            r = softmax(self._log_joint(X[block]), axis=1)
            for k, component in enumerate(self._components):
                scores[block] += r[:, k, None] * component._score(X[block])
        return scores

    def _log_density(self, X: Array) -> Array:
        blocks = gen_batches(len(X), BLOCK)
        return np.concatenate([logsumexp(self._log_joint(X[block]), axis=1) for block in blocks])


def _expand_covariances(covariances: ArrayLike, k: int, d: int) -> Array:
    """Return one checked (d, d) matrix for each of the k components."""
    ndim = np.ndim(covariances)
    if ndim == 0:
        return np.tile(check_real("covariances", covariances, above=0) * np.eye(d), (k, 1, 1))
    array = check_floats("covariances", covariances, ndim=ndim)
    shapes = {1: (k,), 2: (d, d), 3: (k, d, d)}
    if array.shape != shapes.get(ndim):
        raise ValueError(
            f"covariances has shape {array.shape}; pass a number or an array of shape "
            f"{shapes[1]}, {shapes[2]} or {shapes[3]}"
        )
    matrices = np.multiply.outer(array, np.eye(d)) if ndim == 1 else array
    matrices = np.broadcast_to(matrices, (k, d, d))
    return np.stack([check_covariance("covariances", matrix, d) for matrix in matrices])
