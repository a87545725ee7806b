"""What holds for every distribution: score, log density and samples belong together.

Random laws run at fixed seeds with z < 4.89, alpha = 1e-6 an entry; the table has about 700
entries, so that under new seeds one run in 1,400 would raise a false alarm.
"""

import pickle

import numpy as np
import pytest

N = 20_000
Z = 4.89


def difference_error(score, log_density, X):
    """Largest error of a score against the five-point difference of the log density.

    With h = 1e-4 and the shortest length in the table, 0.1, truncation is h^4 f^(5) / 30 < 1e-10
    and round-off eps |f| / h < 1e-9, relative to 1 + |s|.
    """
    h = 1e-4
    expected = np.empty_like(X)
    for j in range(X.shape[1]):
        step = np.zeros(X.shape[1])
        step[j] = h
        near = log_density(X + step) - log_density(X - step)
        far = log_density(X + 2 * step) - log_density(X - 2 * step)
        expected[:, j] = (8 * near - far) / (12 * h)
    return np.max(np.abs(score(X) - expected) / (1 + np.abs(expected)))


def stein_z(scores, X):
    """Largest |z| over the entries of mean[s(x) x'] + I, zero in expectation."""
    entries = scores[:, :, None] * X[:, None, :] + np.eye(X.shape[1])
    return np.max(np.abs(entries.mean(axis=0)) / (entries.std(axis=0) / np.sqrt(len(X))))


def queries(law):
    """Return typical rows and rows three times as far from the mean."""
    X = law.sample(30, random_state=0)
    return np.vstack([X, X.mean(axis=0) + 3 * (X - X.mean(axis=0))])


def test_score_is_the_gradient_of_the_log_density(law):
    assert difference_error(law.score, law.log_density, queries(law)) < 1e-7


def test_a_score_two_percent_too_big_is_seen(law):
    def twin(X):
        return 1.02 * law.score(X)

    assert difference_error(twin, law.log_density, queries(law)) > 1e-3


@pytest.mark.parametrize(
    "twin",
    [
        lambda x, r, law: (law.radius / r - 1) * x,
        lambda x, r, law: x / r * (law.radius - r) / law.std**2,
        lambda x, r, law: x / r * ((law.radius - r) / law.std**2 + 1 / r),
    ],
    ids=["published", "without 1/r", "wrong sign of 1/r"],
)
def test_wrong_ring_scores_are_seen(make_law, twin):
    law = make_law("ring")

    def score(X):
        return twin(X, np.linalg.norm(X, axis=1, keepdims=True), law)

    assert difference_error(score, law.log_density, queries(law)) > 1e-2


def test_stein_identity(law):
    X = law.sample(N, random_state=1)
    assert stein_z(law.score(X), X) < Z


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_samples_ten_percent_off_break_the_stein_identity(make_law, factor):
    for name in ["gaussian-5d", "mixture", "twisted", "student", "checkerboard"]:
        law = make_law(name)
        X = factor * law.sample(N, random_state=1)
        assert stein_z(law.score(X), X) > Z, name


def test_samples_honour_random_state(law):
    first = law.sample(7, random_state=5)
    assert first.shape == (7, law.n_features)
    assert first.dtype == np.float64
    np.testing.assert_array_equal(first, law.sample(7, random_state=5))
    assert not np.any(first == law.sample(7, random_state=6))
    stream = np.random.RandomState(5)
    np.testing.assert_array_equal(first, law.sample(7, random_state=stream))
    assert not np.any(first == law.sample(7, random_state=stream))


def test_an_int_leaves_the_global_stream_alone(law):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    law.sample(3, random_state=0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_rows_do_not_depend_on_their_batch(law):
    X = law.sample(9, random_state=2)
    np.testing.assert_allclose(law.score(X)[4:5], law.score(X[4:5]), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(law.log_density(X)[4:5], law.log_density(X[4:5]), rtol=1e-12)


def test_more_rows_than_a_block(make_law):
    law = make_law("mixture")
    X = law.sample(9000, random_state=2)
    np.testing.assert_allclose(law.score(X)[-5:], law.score(X[-5:]), rtol=1e-12)
    np.testing.assert_allclose(law.log_density(X)[-5:], law.log_density(X[-5:]), rtol=1e-12)


@pytest.mark.parametrize("distance", [0.0, 40.0, 1e6, 1e9])
def test_far_queries_are_finite(law, distance):
    d = law.n_features
    directions = np.vstack([np.eye(d), -np.eye(d), np.ones((1, d)), -np.ones((1, d))])
    spread = law.sample(500, random_state=0).std(axis=0)
    X = distance * spread * directions
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(law.score(X)).all()
        assert np.isfinite(law.log_density(X)).all()


def test_lists_are_taken_and_the_input_is_left_alone(law):
    X = law.sample(4, random_state=0)
    copy = X.copy()
    np.testing.assert_array_equal(law.score(X), law.score(X.tolist()))
    law.log_density(X)
    np.testing.assert_array_equal(X, copy)


def test_pickle_gives_the_same_law(law):
    X = law.sample(4, random_state=0)
    twin = pickle.loads(pickle.dumps(law))
    np.testing.assert_array_equal(twin.score(X), law.score(X))
    np.testing.assert_array_equal(twin.sample(4, random_state=0), X)
