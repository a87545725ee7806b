"""Constructors: conventions, defaults, and refusals that name the parameter."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.datasets import make_moons

import skscore.datasets
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

BAD = [
    (lambda: Gaussian(n_features=0), "n_features is 0; pass an integer of at least 1"),
    (lambda: Gaussian(n_features=True), "n_features is True"),
    (lambda: Gaussian(mean=[[0.0]]), r"mean has shape \(1, 1\)"),
    (lambda: Gaussian(mean=[]), r"mean has shape \(0,\)"),
    (lambda: Gaussian(mean=["a"]), r"mean is \['a'\]; pass an array of numbers"),
    (lambda: Gaussian(mean=[np.nan, 0.0]), "mean contains NaN"),
    (lambda: Gaussian(mean=[0.0], covariance=np.eye(2)), r"covariance has shape \(2, 2\)"),
    (lambda: Gaussian(covariance=np.ones((2, 3))), r"covariance has shape \(2, 3\)"),
    (
        lambda: Gaussian(covariance=[[1.0, 0.5], [0.0, 1.0]]),
        "covariance is not symmetric, it differs from its transpose by 0.5",
    ),
    (lambda: Gaussian(covariance=[[1.0, 2.0], [2.0, 1.0]]), "smallest eigenvalue is -1"),
    (lambda: Gaussian.random(3, condition_number=0.5), "condition_number is 0.5"),
    (lambda: GaussianMixture([0.0, 1.0], 1.0), r"means has shape \(2,\)"),
    (lambda: GaussianMixture([[0.0]], -1.0), "covariances is -1.0; pass a finite number greater"),
    (lambda: GaussianMixture([[0.0], [1.0]], [1.0]), r"covariances has shape \(1,\); pass"),
    (lambda: GaussianMixture([[0.0], [1.0]], [1.0, -1.0]), "covariances is not positive definite"),
    (lambda: GaussianMixture([[0.0], [1.0]], 1.0, [1.0]), r"weights is \[1.\]; pass 2 numbers"),
    (lambda: GaussianMixture([[0.0], [1.0]], 1.0, [1.0, 0.0]), r"weights is \[1. 0.\]"),
    (lambda: GaussianMixture.four(std=0.0), "std is 0.0"),
    (lambda: GaussianMixture.eight(radius=np.inf), "radius is inf; pass a finite number"),
    (lambda: GaussianMixture.random(n_components=0), "n_components is 0"),
    (lambda: TwoMoons(noise=-0.1), "noise is -0.1; pass a finite number greater than 0"),
    (lambda: TwoMoons(n_components=7), "n_components is 7; pass an even number"),
    (lambda: Ring(radius=0.0), "radius is 0.0"),
    (lambda: Ring(std="a"), "std is 'a'"),
    (lambda: TwistedGaussian(n_features=1), "n_features is 1; pass an integer of at least 2"),
    (lambda: TwistedGaussian(scale=0), "scale is 0"),
    (lambda: TwistedGaussian(bend=np.nan), "bend is nan; pass a finite number"),
    (lambda: Funnel(n_features=2.0), "n_features is 2.0"),
    (lambda: Funnel(std=None), "std is None"),
    (lambda: StudentT(df=0), "df is 0"),
    (lambda: StudentT(shape=[[0.0]]), "shape is not positive definite"),
    (lambda: Checkerboard(n_squares=1), "n_squares is 1; pass an integer of at least 2"),
    (lambda: Checkerboard(width=0), "width is 0"),
    (lambda: Checkerboard(smoothing=0.0), "smoothing is 0.0"),
    (lambda: Ring().sample(0), "n_samples is 0"),
    (lambda: Gaussian().score([[1.0]]), "X has 1 features, but Gaussian is expecting 2 features"),
    (lambda: Ring().log_density(np.ones((2, 3))), "X has 3 features, but Ring is expecting 2"),
    (lambda: Ring().score([[np.nan, 0.0]]), "Input X contains NaN"),
    (lambda: Ring().score([1.0, 2.0]), "Expected 2D array"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_law_is_fixed():
    mean = np.zeros(2)
    law = Gaussian(mean)
    with pytest.raises(AttributeError, match="mean of a Gaussian is fixed"):
        law.mean = np.ones(2)
    with pytest.raises(ValueError, match="read-only"):
        law.mean[0] = 1.0
    mean[0] = 5.0
    np.testing.assert_array_equal(law.mean, [0.0, 0.0])
    for twin in (pickle.loads(pickle.dumps(law)), copy.deepcopy(law), copy.copy(law)):
        with pytest.raises(AttributeError, match="mean of a Gaussian is fixed"):
            twin.mean = np.ones(2)
        with pytest.raises(ValueError, match="read-only"):
            twin.mean[0] = 1.0
        np.testing.assert_array_equal(twin.score([[1.0, 2.0]]), law.score([[1.0, 2.0]]))


def test_large_weights_are_shares_too():
    law = GaussianMixture([[0.0], [1.0]], 1.0, weights=[1e308, 1e308])
    np.testing.assert_array_equal(law.weights, [0.5, 0.5])


def test_defaults():
    assert (Gaussian().n_features, StudentT().n_features, Funnel().n_features) == (2, 5, 2)
    np.testing.assert_array_equal(Gaussian(mean=[1.0, 2.0, 3.0]).covariance, np.eye(3))
    np.testing.assert_array_equal(Gaussian(covariance=np.eye(4)).mean, np.zeros(4))
    assert GaussianMixture.random().n_features == 10
    assert repr(TwistedGaussian(20)) == "TwistedGaussian(n_features=20)"
    names = [name for name in skscore.datasets.__all__ if not name.isupper()]  # constants are first
    assert names == sorted(names)


def test_random_covariance_has_the_condition_number():
    eigenvalues = np.linalg.eigvalsh(Gaussian.random(6, 30.0, random_state=0).covariance)
    assert eigenvalues[-1] / eigenvalues[0] == pytest.approx(30)
    assert np.prod(eigenvalues) == pytest.approx(1)
    np.testing.assert_array_equal(Gaussian.random(1, random_state=0).covariance, [[1.0]])


def test_random_laws_are_seeded():
    first, again = Gaussian.random(3, random_state=1), Gaussian.random(3, random_state=1)
    np.testing.assert_array_equal(first.covariance, again.covariance)
    assert np.any(first.covariance != Gaussian.random(3, random_state=2).covariance)
    np.testing.assert_array_equal(GaussianMixture.random().means, GaussianMixture.random().means)


def test_covariance_forms_of_a_mixture_agree():
    means, X = [[0.0, 0.0], [1.0, 2.0]], [[0.3, 0.4]]
    forms = [0.5, [0.5, 0.5], 0.5 * np.eye(2), [0.5 * np.eye(2)] * 2]
    scores = [GaussianMixture(means, form, weights=[3.0, 1.0]).score(X) for form in forms]
    for score in scores[1:]:
        np.testing.assert_array_equal(score, scores[0])
    np.testing.assert_allclose(GaussianMixture(means, 0.5, [3.0, 1.0]).weights, [0.75, 0.25])


def test_two_moons_have_the_geometry_of_make_moons():
    arcs, _ = make_moons(n_samples=256, shuffle=False, noise=None)
    law = TwoMoons(noise=0.1, n_components=256)
    np.testing.assert_allclose(law.mixture.means, arcs, atol=1e-15)
    np.testing.assert_allclose(law.mixture.covariances, np.tile(0.01 * np.eye(2), (256, 1, 1)))


def test_the_checkerboard_is_filled_where_documented():
    law = Checkerboard(n_squares=4, width=1.0, smoothing=0.01)
    filled = np.exp(law.log_density([[-1.5, -1.5], [-0.5, -0.5], [1.5, -0.5], [-1.5, -0.5]]))
    np.testing.assert_allclose(filled, [1 / 8, 1 / 8, 1 / 8, 0.0], atol=1e-12)
