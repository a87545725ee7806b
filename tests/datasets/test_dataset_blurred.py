"""The law with noise added: its score against differences, identities and a fine quadrature."""

import numpy as np
import pytest
from test_dataset_laws import difference_error, queries, stein_z

from skscore.datasets import Gaussian, GaussianMixture, TwistedGaussian

LAWS = ["gaussian-1d", "gaussian-5d", "mixture", "mixture-10d", "eight", "twisted", "twisted-20d"]
Z = 4.89


def noise_of(law):
    """Return another deviation for each column, of the order of the column's."""
    spread = law.sample(500, random_state=0).std(axis=0)
    return spread * np.linspace(1.2, 0.3, law.n_features)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("level", [0.01, 1.0, 10.0])
def test_score_is_the_gradient_of_the_log_density(make_law, name, level):
    law = make_law(name)
    blurred = law.blurred(level * noise_of(law))
    # Differences of a log density of 1e3 by steps of 1e-4 keep nine digits.
    assert difference_error(blurred.score, blurred.log_density, queries(blurred)) < 1e-7


@pytest.mark.parametrize("name", LAWS)
def test_samples_are_those_of_the_score(make_law, name):
    law = make_law(name)
    blurred = law.blurred(noise_of(law))
    X = blurred.sample(20_000, random_state=1)
    assert stein_z(blurred.score(X), X) < Z
    assert stein_z(law.score(X), X) > Z


@pytest.mark.parametrize("name", LAWS)
def test_tweedie_identity(make_law, name):
    """E[c s(y) + z] = 0 and E[(c s(y) + z) y'] = 0 for y = x + c z, s the score of y."""
    law = make_law(name)
    scale = noise_of(law)
    rng = np.random.RandomState(3)
    X, z = law.sample(20_000, rng), rng.standard_normal((20_000, law.n_features))
    Y = X + scale * z

    def largest_z(field):
        gap = (scale * field(Y) + z)[:, :, None]
        entries = gap * np.column_stack([np.ones(len(Y)), Y])[:, None, :]
        return np.max(np.abs(entries.mean(axis=0)) / (entries.std(axis=0) / np.sqrt(len(Y))))

    assert largest_z(law.blurred(scale).score) < Z
    assert largest_z(law.blurred(1.3 * scale).score) > Z


@pytest.mark.parametrize("name", LAWS)
def test_without_noise_it_is_the_same_law(make_law, name):
    law = make_law(name)
    X = queries(law)
    for nothing in (0, 0.0, np.zeros(law.n_features)):
        np.testing.assert_allclose(law.blurred(nothing).score(X), law.score(X), rtol=1e-10)
        np.testing.assert_allclose(law.blurred(nothing).log_density(X), law.log_density(X))
    np.testing.assert_allclose(law.blurred(1e-6).score(X), law.score(X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LAWS)
def test_one_number_is_the_same_noise_in_each_column(make_law, name):
    law = make_law(name)
    X = queries(law)
    each = law.blurred([0.7] * law.n_features)
    np.testing.assert_array_equal(law.blurred(0.7).score(X), each.score(X))


@pytest.mark.parametrize("name", ["gaussian-5d", "mixture"])
def test_noise_upon_noise_adds_the_variances(make_law, name):
    law = make_law(name)
    assert type(law.blurred(1.0)) is type(law)
    X = queries(law)
    twice, once = law.blurred(0.6).blurred(0.8), law.blurred(1.0)
    np.testing.assert_allclose(twice.log_density(X), once.log_density(X), rtol=1e-12)


def test_closed_forms():
    law = Gaussian([1.0, 2.0], [[2.0, 0.5], [0.5, 1.0]]).blurred([1.0, 3.0])
    np.testing.assert_allclose(law.covariance, [[3.0, 0.5], [0.5, 10.0]])
    law = GaussianMixture([[0.0], [5.0]], [1.0, 4.0], [0.2, 0.8]).blurred(3.0)
    np.testing.assert_allclose(law.covariances.ravel(), [10.0, 13.0])
    np.testing.assert_allclose(law.weights, [0.2, 0.8])
    bent = TwistedGaussian(3, scale=2.0, bend=0.0).blurred([1.0, 2.0, 3.0])
    straight = Gaussian(covariance=np.diag([5.0, 5.0, 10.0]))
    X = queries(straight)
    np.testing.assert_allclose(bent.score(X), straight.score(X), rtol=1e-12)
    np.testing.assert_allclose(bent.log_density(X), straight.log_density(X), rtol=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "scale"),
    [
        (1.5, 0.5, [0.05, 0.02]),
        (1.5, 0.5, [0.4, 0.1]),
        (1.5, 0.5, [1.0, 2.0]),
        (1.5, 0.5, [20.0, 0.1]),
        (1.5, 0.5, [0.1, 30.0]),
        (5.0, 2.0, [3.0, 3.0]),  # the hidden column is in two narrow places
    ],
)
def test_twisted_against_a_fine_quadrature(a, b, scale):
    blurred = TwistedGaussian(2, scale=a, bend=b).blurred(scale)
    c1, v = scale[0], 1 + scale[1] ** 2
    n_rows = 8 if a == 1.5 else 80
    for y1, y2 in blurred.sample(n_rows, random_state=4):
        centre, width = y1 * a**2 / (a**2 + c1**2), a * c1 / np.hypot(a, c1)
        # Twelve deviations to each side: the step is 1e-4 of one.
        t, step = np.linspace(centre - 12 * width, centre + 12 * width, 240_001, retstep=True)
        gap = y2 - b * (t**2 - a**2)
        p = np.exp(-0.5 * (t**2 / a**2 + ((y1 - t) / c1) ** 2 + gap**2 / v))
        expected = [p @ (t - y1) / p.sum() / c1**2, -p @ gap / p.sum() / v]
        np.testing.assert_allclose(blurred.score([[y1, y2]])[0], expected, rtol=1e-8, atol=1e-8)
        log_p = np.log(p.sum() * step / (a * c1 * v**0.5)) - 1.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(blurred.log_density([[y1, y2]]), log_p, rtol=1e-10)


def test_the_blurred_twist_is_a_distribution(make_law):
    law = make_law("twisted").blurred(0.5)
    assert repr(law) == "BlurredTwistedGaussian(n_features=2)"
    X = law.sample(5000, random_state=0)
    np.testing.assert_allclose(law.score(X)[-3:], law.score(X[-3:]), rtol=1e-12)
    np.testing.assert_allclose(law.log_density(X)[-3:], law.log_density(X[-3:]), rtol=1e-12)
    far = [[1e6, 0.0], [0.0, -1e6], [-1e9, 1e9]]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(law.score(far)).all()
        assert np.isfinite(law.log_density(far)).all()
    with pytest.raises(ValueError, match="expecting 2 features"):
        law.score(np.ones((2, 3)))


@pytest.mark.parametrize("name", ["gaussian", "mixture", "twisted"])
@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (-1.0, r"scale is -1.0; pass a number of at least 0, or 2 of them"),
        ([1.0, -1.0], r"scale is \[1.0, -1.0\]; pass"),
        ([1.0, 1.0, 1.0], r"scale is \[1.0, 1.0, 1.0\]; pass"),
        ([[1.0, 1.0]], "scale is"),
        (np.nan, "scale contains NaN"),
        (None, "scale contains NaN"),
        ("a", "scale is 'a'; pass an array of numbers"),
    ],
)
def test_bad_noise_is_refused(make_law, name, scale, message):
    with pytest.raises(ValueError, match=message):
        make_law(name).blurred(scale)
