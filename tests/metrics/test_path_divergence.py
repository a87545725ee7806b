"""The divergence along the path: identities by hand and by quadrature, and what it refuses."""

import numpy as np
import pytest

from skscore.datasets import Gaussian
from skscore.metrics import fisher_divergence, path_divergence

SIGMAS = np.array([0.1, 1.0, 10.0])


@pytest.fixture
def fields():
    return np.random.RandomState(0).standard_normal((2, 3, 40, 4))


def test_by_hand():
    truth = np.zeros((2, 2, 2))
    scores = np.array([[[3.0, 4.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    # E|s - s*|^2 is 12.5 and 1, times sigma^2 12.5 and 4: the trapezoid over log 2.
    value = path_divergence(truth, scores, [1.0, 2.0])
    assert type(value) is float
    assert value == pytest.approx(np.log(2) * (12.5 + 4) / 2, rel=1e-14)
    # With c = (2, 1): (36 + 16) / 2 = 26, and (4 + 1) / 2 times 4 = 10.
    value = path_divergence(truth, scores, [1.0, 2.0], scale=[2.0, 1.0])
    assert value == pytest.approx(np.log(2) * (26 + 10) / 2, rel=1e-14)


def test_it_is_zero_for_the_truth_alone(fields):
    a, b = fields
    assert path_divergence(a, a, SIGMAS) == 0.0
    assert path_divergence(a, b, SIGMAS) == path_divergence(b, a, SIGMAS) > 0


def test_it_adds_up_fisher_divergences(fields):
    a, b = fields
    height = [2 * s**2 * fisher_divergence(*pair) for s, *pair in zip(SIGMAS, a, b, strict=True)]
    expected = np.log(10) * (height[0] / 2 + height[1] + height[2] / 2)
    assert path_divergence(a, b, SIGMAS) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2, 0], [0, 2, 1]])
def test_the_order_of_the_levels_does_not_matter(fields, order):
    a, b = fields
    shuffled = path_divergence(a[order], b[order], SIGMAS[order])
    assert shuffled == pytest.approx(path_divergence(a, b, SIGMAS), rel=1e-14)
    assert path_divergence(a[order], b[order], SIGMAS) != pytest.approx(shuffled, rel=1e-3)


def test_the_order_of_the_rows_does_not_matter(fields):
    a, b = fields
    value = path_divergence(a[:, ::-1], b[:, ::-1], SIGMAS)
    assert value == pytest.approx(path_divergence(a, b, SIGMAS), rel=1e-13)


def test_the_units_of_the_columns_do_not_matter(fields):
    """In units u = x / c the scores are c times as large, and sigma is in units of c."""
    a, b = fields
    c = np.array([1e-3, 1.0, 20.0, 1e3])
    value = path_divergence(a / c, b / c, SIGMAS, scale=c)
    assert value == pytest.approx(path_divergence(a, b, SIGMAS), rel=1e-12)
    one = path_divergence(a, b, SIGMAS, scale=2.0)
    assert one == pytest.approx(path_divergence(a, b, SIGMAS, scale=[2.0] * 4), rel=1e-14)
    assert one == pytest.approx(4 * path_divergence(a, b, SIGMAS), rel=1e-12)
    assert one == pytest.approx(path_divergence(a, b, 2 * SIGMAS), rel=1e-12)


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_it_is_the_divergence_of_two_gaussians(shift):
    """For two means all paths from the highest level on differ by the drift alone.

    KL(N(0, v) || N(shift, v)) = shift^2 / (2 v) at the lowest level, less that at the highest.
    """
    law, other = Gaussian(n_features=1), Gaussian(mean=[shift])
    sigmas = np.geomspace(1e-3, 1e3, 400)
    X = np.zeros((3, 1))
    truth = np.stack([law.blurred(sigma).score(X) for sigma in sigmas])
    field = np.stack([other.blurred(sigma).score(X) for sigma in sigmas])
    # Here the scores differ by shift / (1 + sigma^2) at every x.
    assert path_divergence(truth, field, sigmas) == pytest.approx(shift**2 / 2, rel=1e-4)


ONES = np.ones((2, 3, 4))
LEVELS = [0.1, 1.0]
NAN = np.full((2, 3, 4), np.nan)

BAD = [
    (lambda: path_divergence(ONES[0], ONES[0], LEVELS), r"true_scores has shape \(3, 4\); pass"),
    (lambda: path_divergence(ONES, ONES[:, :2], LEVELS), r"scores has shape \(2, 2, 4\)"),
    (lambda: path_divergence(NAN, ONES, LEVELS), "true_scores contains NaN"),
    (lambda: path_divergence(ONES, np.inf * ONES, LEVELS), "scores contains infinity"),
    (lambda: path_divergence(ONES[:, :0], ONES[:, :0], LEVELS), r"shape \(2, 0, 4\)"),
    (lambda: path_divergence(ONES, ONES, [0.1, 1.0, 2.0]), r"sigmas has shape \(3,\)"),
    (lambda: path_divergence(ONES, ONES, 0.1), r"sigmas has shape \(\); pass .* shape \(2,\)"),
    (lambda: path_divergence(ONES, ONES, [0.0, 1.0]), r"sigmas is \[0.0, 1.0\]; pass finite"),
    (lambda: path_divergence(ONES, ONES, [np.nan, 1.0]), "sigmas is"),
    (lambda: path_divergence(ONES, ONES, ["a", "b"]), r"sigmas is \['a', 'b'\]; pass numbers"),
    (lambda: path_divergence(ONES, ONES, [1.0, 1.0]), "two or more noise levels, all different"),
    (lambda: path_divergence(ONES[:1], ONES[:1], [1.0]), "two or more noise levels"),
    (lambda: path_divergence(ONES, ONES, LEVELS, scale=0.0), "scale is 0.0; pass finite numbers"),
    (lambda: path_divergence(ONES, ONES, LEVELS, scale=[1.0, 2.0]), r"scale has shape \(2,\)"),
    (lambda: path_divergence(ONES, ONES, LEVELS, scale=[1, 1, 1, -1]), "scale is"),
    (lambda: path_divergence(ONES, ONES, LEVELS, scale=None), "scale is None"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
