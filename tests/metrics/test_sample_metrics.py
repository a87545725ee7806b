"""Distances between samples: energy distance and the classifier two-sample test."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression

from skscore.datasets import Gaussian
from skscore.metrics import _energy_distance, c2st, energy_distance

pytestmark = pytest.mark.usefixtures("share_of_openmp")


@pytest.fixture
def pair():
    rng = np.random.RandomState(0)
    return rng.standard_normal((60, 3)), 0.3 + 1.2 * rng.standard_normal((45, 3))


def brute_force(X, Y):
    return 2 * cdist(X, Y).mean() - cdist(X, X).mean() - cdist(Y, Y).mean()


def test_energy_distance_is_the_v_statistic(pair):
    X, Y = pair
    value = energy_distance(X, Y)
    assert type(value) is float
    assert value == pytest.approx(brute_force(X, Y), rel=1e-12)
    assert value == pytest.approx(energy_distance(Y, X), rel=1e-12)
    unbiased = 2 * cdist(X, Y).mean() - cdist(X, X).sum() / 60 / 59 - cdist(Y, Y).sum() / 45 / 44
    assert abs(value - unbiased) > 1e-2


def test_energy_distance_is_the_square_of_the_one_column_form(pair):
    X, Y = pair
    expected = stats.energy_distance(X[:, 0], Y[:, 0]) ** 2
    assert energy_distance(X[:, :1], Y[:, :1]) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("block", [1, 45, 100, 1000])
def test_energy_distance_does_not_depend_on_the_blocks(pair, monkeypatch, block):
    monkeypatch.setattr(_energy_distance, "BLOCK_SIZE", block)
    assert energy_distance(*pair) == pytest.approx(brute_force(*pair), rel=1e-12)


def test_energy_distance_of_equal_samples_is_zero(pair):
    X, _ = pair
    assert energy_distance(X, X) == 0.0
    assert energy_distance(X, X[::-1]) == pytest.approx(0, abs=1e-14)
    assert energy_distance(np.ones((3, 2)), np.ones((5, 2))) == 0.0


def test_energy_distance_far_from_zero(pair):
    X, Y = pair
    assert energy_distance(X + 1e8, Y + 1e8) == pytest.approx(energy_distance(X, Y), rel=1e-6)


def test_c2st_of_one_law_is_one_half():
    law = Gaussian(n_features=3)
    X, Y = law.sample(500, random_state=0), law.sample(500, random_state=1)
    # 4.89 standard deviations of 1,000 fair coins.
    assert abs(c2st(X, Y, random_state=0) - 0.5) < 4.89 * 0.5 / np.sqrt(1000)


def test_c2st_sees_a_shift_and_a_scale():
    X = Gaussian().sample(500, random_state=0)
    Y = Gaussian().sample(500, random_state=1)
    assert c2st(X, Y + np.array([4.0, 0.0]), random_state=0) > 0.9
    # The best accuracy for a scale of 5 in two columns is 0.5 + 0.5 TV = 0.92.
    assert c2st(X, 5 * Y, random_state=0) > 0.85


def test_c2st_reaches_the_accuracy_of_the_best_rule():
    # For N(0, 1) against N(1, 1) it is Phi(1/2) = 0.691, which a linear rule attains.
    X = Gaussian(n_features=1).sample(2000, random_state=0)
    Y = 1 + Gaussian(n_features=1).sample(2000, random_state=1)
    value = c2st(X, Y, classifier=LogisticRegression(), random_state=0)
    assert abs(value - stats.norm.cdf(0.5)) < 4.89 * np.sqrt(0.691 * 0.309 / 4000)


def test_c2st_is_seeded_and_takes_any_classifier(pair):
    X, Y = pair
    first = c2st(X, Y, classifier=LogisticRegression(), cv=3, random_state=7)
    assert type(first) is float
    assert first == c2st(X, Y, classifier=LogisticRegression(), cv=3, random_state=7)
    seeds = [c2st(X, Y, classifier=LogisticRegression(), random_state=seed) for seed in range(5)]
    assert len(set(seeds)) > 1
    assert c2st(X, Y, random_state=3) == c2st(X, Y, random_state=3)


def test_c2st_is_balanced():
    # Always answering "the larger sample" would be right in 9 rows of 10.
    law = Gaussian(n_features=2)
    X, Y = law.sample(1800, random_state=0), law.sample(200, random_state=1)
    for value in (c2st(X, Y, random_state=0), c2st(Y, X, random_state=0)):
        assert abs(value - 0.5) < 4.89 * 0.5 / np.sqrt(400)


def test_c2st_does_not_depend_on_the_units(pair):
    X, Y = pair
    units = np.array([1e-6, 1.0, 1e6])
    linear = LogisticRegression()
    assert c2st(X * units, Y * units, classifier=linear, random_state=0) == c2st(
        X, Y, classifier=linear, random_state=0
    )


def test_c2st_leaves_the_global_stream_alone(pair):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    c2st(*pair, random_state=0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
