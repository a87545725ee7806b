"""Means and covariances of samples against closed forms, z < 4.89 an entry at fixed seeds."""

import numpy as np
import pytest
from scipy import stats

from skscore.datasets import (
    Checkerboard,
    Funnel,
    Gaussian,
    GaussianMixture,
    Ring,
    StudentT,
    TwistedGaussian,
    TwoMoons,
)

MATRIX = np.array([[2.0, 0.6], [0.6, 0.5]])
MEAN = np.array([1.0, -2.0])


def mixture_moments(law):
    mean = law.weights @ law.means
    second = np.einsum("k,kde->de", law.weights, law.covariances)
    centred = law.means - mean
    return mean, second + np.einsum("k,kd,ke->de", law.weights, centred, centred)


def moons():
    """Closed forms for the continuous arcs; 2,048 components differ from them by 1e-3."""
    outer, inner = np.array([0.0, 2 / np.pi]), np.array([1.0, 0.5 - 2 / np.pi])
    half = (outer - inner) / 2
    arc = np.diag([0.5, 0.5 - 4 / np.pi**2])
    return (outer + inner) / 2, arc + np.outer(half, half) + 0.01 * np.eye(2)


MOMENTS = {
    "gaussian": (Gaussian(MEAN, MATRIX), MEAN, MATRIX),
    "mixture": (GaussianMixture.random(3, 4), *mixture_moments(GaussianMixture.random(3, 4))),
    "four": (GaussianMixture.four(), np.zeros(2), 4.25 * np.eye(2)),
    "eight": (GaussianMixture.eight(), np.zeros(2), 2.04 * np.eye(2)),
    "moons": (TwoMoons(n_components=2048), *moons()),
    "ring": (Ring(2.0, 0.2), np.zeros(2), (4 + 0.04) / 2 * np.eye(2)),
    "twisted": (TwistedGaussian(3, 2.0, 0.5), np.zeros(3), np.diag([4.0, 1 + 2 * 0.25 * 16, 1.0])),
    "funnel": (Funnel(3, std=0.5), np.zeros(3), np.diag([0.25, np.exp(0.125), np.exp(0.125)])),
    "student": (StudentT(12.0, mean=MEAN, shape=MATRIX), MEAN, 1.2 * MATRIX),
    "checkerboard": (
        Checkerboard(4, 1.0, 0.1),
        np.zeros(2),
        np.full((2, 2), 0.25) + np.diag([16 / 12 + 0.01 - 0.25] * 2),
    ),
}


def largest_z(X, mean, covariance):
    centred = X - mean
    products = centred[:, :, None] * centred[:, None, :] - covariance
    values = np.hstack([centred, products.reshape(len(X), -1)])
    return np.max(np.abs(values.mean(axis=0)) / (values.std(axis=0) / np.sqrt(len(X))))


@pytest.mark.parametrize("name", MOMENTS)
def test_mean_and_covariance(name):
    law, mean, covariance = MOMENTS[name]
    X = law.sample(20_000, random_state=3)
    assert largest_z(X, mean, covariance) < 4.89
    # The twin: eight percent more variance has to be seen.
    assert largest_z(X, mean, 1.08 * covariance) > 4.89


def test_a_funnel_is_standard_after_scaling():
    X = Funnel(2, std=3.0).sample(20_000, random_state=0)
    Z = np.column_stack([X[:, 0] / 3, X[:, 1] * np.exp(-X[:, 0] / 2)])
    assert largest_z(Z, np.zeros(2), np.eye(2)) < 4.89


def test_the_radius_of_a_wide_ring_is_truncated_not_folded():
    r = np.linalg.norm(Ring(0.5, 1.0).sample(20_000, random_state=0), axis=1)
    assert stats.kstest(r, stats.truncnorm(-0.5, np.inf, loc=0.5).cdf).pvalue > 1e-6
    assert stats.kstest(r, stats.foldnorm(0.5).cdf).pvalue < 1e-6


def test_mixture_weights_are_respected():
    law = GaussianMixture([[-3.0], [3.0]], 0.25, weights=[8.0, 2.0])
    right = (law.sample(20_000, random_state=0) > 0).mean()
    assert abs(right - 0.2) < 4.89 * np.sqrt(0.2 * 0.8 / 20_000)
