"""Densities against quadrature, against scipy, and against 60-digit arithmetic."""

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from skscore.datasets import Funnel, Gaussian, Ring, StudentT, TwistedGaussian


def box(x_low, x_high, y_low, y_high, step):
    """Midpoint rule, of spectral accuracy for a smooth density that vanishes at the edges."""
    x, y = np.arange(x_low, x_high, step), np.arange(y_low, y_high, step)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    return points, np.full(len(points), step**2)


def polar(low, high):
    """Gauss-Legendre in r, equal steps in the angle."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    r, w = low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2
    angle = 0.1 + np.arange(16) * np.pi / 8
    r, angle = (grid.ravel() for grid in np.meshgrid(r, angle))
    points = np.column_stack([r * np.cos(angle), r * np.sin(angle)])
    return points, np.tile(w, 16) * r * np.pi / 8


def heavy():
    """Midpoint rule after x = tan u on both columns, centred at (1, -2)."""
    points, weights = box(-np.pi / 2 + 2e-3, np.pi / 2, -np.pi / 2 + 2e-3, np.pi / 2, np.pi / 800)
    return np.array([1.0, -2.0]) + np.tan(points), weights / np.cos(points).prod(axis=1) ** 2


def funnel():
    """Midpoint rule in (x1, z) with x2 = exp(x1 / 2) z."""
    points, weights = box(-15, 15, -10, 10, 0.1)
    scale = np.exp(points[:, 0] / 2)
    return np.column_stack([points[:, 0], scale * points[:, 1]]), weights * scale


QUADRATURES = {
    "gaussian": lambda: box(-9, 9, -9, 9, 0.2),
    "gaussian-shifted": lambda: box(-12, 14, -10, 6, 0.1),
    "mixture": lambda: box(-13, 13, -8, 11, 0.1),
    "four": lambda: box(-7, 7, -7, 7, 0.1),
    "eight": lambda: box(-9, 9, -9, 9, 0.1),
    "moons": lambda: box(-2, 3, -1.5, 2, 0.03),
    "ring": lambda: polar(0.5, 2.5),
    "ring-wide": lambda: polar(0.0, 5.0),
    "twisted": lambda: box(-9, 9, -10, 50, 0.1),
    "funnel": funnel,
    "student-shifted": heavy,
    "checkerboard": lambda: box(-3, 3, -3, 3, 0.03),
    "checkerboard-odd": lambda: box(-6, 6, -6, 6, 0.1),
}


def integral(log_density, quadrature):
    points, weights = QUADRATURES[quadrature]()
    return weights @ np.exp(log_density(points))


@pytest.mark.parametrize("name", QUADRATURES)
def test_density_integrates_to_one(make_law, name):
    assert integral(make_law(name).log_density, name) == pytest.approx(1, abs=1e-7)


def test_wrong_ring_densities_do_not_integrate_to_one(make_law):
    ring, wide = make_law("ring"), make_law("ring-wide")

    def without_circumference(X):
        return ring.log_density(X) + np.log(np.linalg.norm(X, axis=1))

    def without_truncation(X):
        return wide.log_density(X) + stats.norm.logcdf(wide.radius / wide.std)

    assert abs(integral(without_circumference, "ring") - 1) > 0.1
    assert abs(integral(without_truncation, "ring-wide") - 1) > 1e-3


@pytest.mark.parametrize("name", QUADRATURES)
def test_samples_have_the_entropy_of_the_density(make_law, name):
    law = make_law(name)
    points, weights = QUADRATURES[name]()
    log_p = law.log_density(points)
    values = law.log_density(law.sample(20_000, random_state=2))
    z = (values.mean() - weights @ (np.exp(log_p) * log_p)) / (values.std() / np.sqrt(len(values)))
    assert abs(z) < 4.89


def test_gaussian_and_student_agree_with_scipy():
    X = 3 * np.random.RandomState(0).standard_normal((20, 4))
    mean, matrix = np.arange(4.0), Gaussian.random(4, random_state=1).covariance
    gaussian, student = Gaussian(mean, matrix), StudentT(3.5, mean=mean, shape=matrix)
    expected = stats.multivariate_normal(mean, matrix).logpdf(X)
    np.testing.assert_allclose(gaussian.log_density(X), expected, rtol=1e-12)
    expected = stats.multivariate_t(mean, matrix, df=3.5).logpdf(X)
    np.testing.assert_allclose(student.log_density(X), expected, rtol=1e-12)


def test_funnel_and_twist_in_more_dimensions():
    X = np.random.RandomState(0).standard_normal((20, 6))
    expected = stats.norm.logpdf(X[:, 0], scale=2) + stats.norm.logpdf(
        X[:, 1:], scale=np.exp(X[:, :1] / 2)
    ).sum(axis=1)
    np.testing.assert_allclose(Funnel(6, std=2.0).log_density(X), expected, rtol=1e-12)
    expected = stats.norm.logpdf(X[:, 0], scale=3) + stats.norm.logpdf(X[:, 2:]).sum(axis=1)
    expected += stats.norm.logpdf(X[:, 1], loc=0.7 * (X[:, 0] ** 2 - 9))
    np.testing.assert_allclose(TwistedGaussian(6, 3.0, 0.7).log_density(X), expected, rtol=1e-12)


def normal(t, mean=0, std=1):
    return mp.npdf(t, mean, std)


def ring_density(law, x, y):
    r, R, s = mp.hypot(x, y), mp.mpf(law.radius), mp.mpf(law.std)
    return normal(r, R, s) / (2 * mp.pi * r) / mp.ncdf(R / s)


def round_mixture_density(law, x, y):
    std = mp.sqrt(mp.mpf(law.covariances[0, 0, 0]))
    products = [normal(x, mp.mpf(a), std) * normal(y, mp.mpf(b), std) for a, b in law.means]
    return mp.fsum(products) / len(products)


def checkerboard_density(law, x, y):
    n, w, h = law.n_squares, mp.mpf(law.width), mp.mpf(law.smoothing)

    def inside(t, i):
        low, high = ((t - (k - mp.mpf(n) / 2) * w) / h for k in (i, i + 1))
        # erfc of large positive numbers keeps its digits, a difference near one does not.
        sign = 1 if low + high > 0 else -1
        return sign * (mp.erfc(sign * high / mp.sqrt(2)) - mp.erfc(sign * low / mp.sqrt(2))) / 2

    filled = [(i, j) for i in range(n) for j in range(n) if (i + j) % 2 == 0]
    total = mp.fsum(inside(x, i) * inside(y, j) for i, j in filled)
    return total / (len(filled) * w**2)


@pytest.mark.parametrize(
    ("name", "density"),
    [
        ("ring", ring_density),
        ("ring-wide", ring_density),
        ("eight", round_mixture_density),
        ("checkerboard", checkerboard_density),
        ("checkerboard-odd", checkerboard_density),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 20.0, 1e6])
def test_sixty_digits_near_and_far(make_law, name, density, scale):
    law = make_law(name)
    for x, y in scale * np.array([[0.31, 1.2], [-1.04, 0.57], [0.9, -1.9]]):
        with mp.workdps(60):

            def log_density(a, b):
                return mp.log(density(law, mp.mpf(a), mp.mpf(b)))

            value = float(log_density(x, y))
            gradient = [float(mp.diff(log_density, (x, y), order)) for order in [(1, 0), (0, 1)]]
        np.testing.assert_allclose(law.log_density([[x, y]]), value, rtol=1e-12, atol=1e-12)
        # Far from a mixture, log densities of 1e13 tell responsibilities apart to 1e-3 only.
        np.testing.assert_allclose(law.score([[x, y]])[0], gradient, rtol=1e-9, atol=1e-10)


def test_the_centre_of_a_ring():
    law = Ring(radius=1.0, std=0.5)
    np.testing.assert_array_equal(law.score([[0.0, 0.0]]), [[0.0, 0.0]])
    np.testing.assert_allclose(law.score([[3e-9, 4e-9]]), [[-1.2e8, -1.6e8]], rtol=1e-6)
