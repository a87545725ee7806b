"""Laws of `sigma`: the field of the rows plus noise N(0, sigma^2 I) in the coordinates u.

``S`` covariance, ``c`` standard deviations of the rows.
"""

import warnings

import numpy as np
import pytest

from skscore import ScoreMatchingEstimator, SlicedScoreEstimator
from skscore._affine import AffineMap, Moments
from skscore.exceptions import DataWarning

SMALL = {"hidden_layer_sizes": (16,), "n_members": 1, "random_state": 0, "device": "cpu"}


def normal(n=400, d=2, seed=0):
    z = np.random.default_rng(seed).standard_normal((n, d))
    mixing = np.array([[2.0, 0.0, 0.0], [15.0, 20.0, 0.0], [0.1, 0.0, 0.03]])[:d, :d]
    return z @ mixing.T + np.array([5.0, -3.0, 1.0])[:d]


def blurred(X, kind, sigma):
    """The covariance of the fitted Gaussian, after the noise, in the units of X."""
    S = np.cov(X.T, bias=True)
    noise = {"full": S, "diag": np.diag(np.diag(S)), None: np.eye(len(S))}[kind]
    return S + sigma**2 * noise


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("sigma", [0.0, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("kind", ["full", "diag", None])
def test_the_precision_is_that_of_the_blurred_gaussian(kind, sigma, d):
    X = normal(d=d)
    moments = Moments.of(X)
    affine = AffineMap.standardising(moments, kind)
    P = affine.matrix.T @ affine.gaussian_precision(moments, sigma) @ affine.matrix
    np.testing.assert_allclose(P @ blurred(X, kind, sigma), np.eye(d), atol=1e-9)


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_whitened_rows_have_a_multiple_of_the_identity_without_rounding(sigma):
    """Rounding would choose the eigenvectors, and with them the last digits of a training."""
    moments = Moments.of(normal(d=3))
    P = AffineMap.standardising(moments, "full").gaussian_precision(moments, sigma)
    np.testing.assert_array_equal(P, np.eye(3) * P[0, 0])


def test_the_precision_of_collinear_rows():
    X = normal()
    wide = np.column_stack([X, X[:, 0] - 2 * X[:, 1]])
    moments = Moments.of(wide)
    for kind in ("full", "diag", None):
        affine = AffineMap.standardising(moments, kind)
        assert affine.rank == 2
        U = affine.transform(wide)
        P = affine.gaussian_precision(moments, 0.5)
        np.testing.assert_allclose(
            np.linalg.inv(P), np.cov(U.T, bias=True) + 0.25 * np.eye(2), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("cls", [ScoreMatchingEstimator, SlicedScoreEstimator])
@pytest.mark.parametrize("kind", ["full", "diag", None])
def test_a_fit_of_normal_rows_is_the_blurred_gaussian(cls, kind):
    X, Q = normal(), normal(20, seed=1)
    params = {**SMALL, "standardize": kind, "sigma": 0.5, "max_iter": 6, "n_members": 2}
    params |= {"learning_rate_init": 1e-4}  # a gain that is noise, whatever the stream
    est = cls(**params).fit(X)
    expected = -(Q - X.mean(axis=0)) @ np.linalg.inv(blurred(X, kind, 0.5))
    np.testing.assert_allclose(est.score_samples(Q), expected, rtol=1e-9)
    sharp = cls(**params | {"sigma": 0.0}).fit(X).score_samples(Q)
    assert np.abs(sharp / expected - 1).max() > 0.05
    trained = cls(**params | {"residual_test": False}).fit(X).score_samples(Q)
    assert np.abs(trained / expected - 1).max() > 1e-9
    assert est.covariance_ == pytest.approx(np.cov(X.T, bias=True))  # the yardstick stays


def whole_numbers(n=600, seed=0):
    return np.random.default_rng(seed).integers(0, 4, (n, 2)).astype(float)


def truth(Q, h):
    """The score of the uniform law on 0, 1, 2, 3 in each column, plus N(0, h^2)."""
    gaps = np.arange(4) - Q[..., None]
    w = np.exp(-0.5 * (gaps / h[:, None]) ** 2)
    return (w * gaps).sum(axis=-1) / w.sum(axis=-1) / h**2


@pytest.mark.parametrize(
    ("cls", "parametrization"),
    [
        (ScoreMatchingEstimator, "score"),
        (SlicedScoreEstimator, "score"),
        (ScoreMatchingEstimator, "energy"),
    ],
)
def test_whole_numbers_have_a_finite_field_of_the_right_sign(cls, parametrization):
    X = whole_numbers()
    est = cls(
        **SMALL, sigma=0.3, standardize="diag", max_iter=150, batch_size=100,
        parametrization=parametrization,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est.fit(X)
    h = 0.3 * X.std(axis=0)
    Q = X + h * np.random.default_rng(1).standard_normal(X.shape)
    field, right = est.score_samples(Q), truth(Q, h)
    assert np.isfinite(field).all()
    outside = (Q < -0.2) | (Q > 3.2)
    assert (np.sign(field) == np.sign(right))[outside].all()
    plug_in = -(Q - X.mean(axis=0)) / (X.var(axis=0) + h**2)
    error, error_of_gaussian = (((s - right) ** 2).mean() for s in (field, plug_in))
    assert error < 0.9 * error_of_gaussian
    assert np.isfinite(est.sample(20, random_state=0, n_steps=5)).all()
    with pytest.warns(DataWarning, match="few distinct"):
        cls(**SMALL, max_iter=1).fit(X)


def test_other_units_are_the_same_noise_level():
    X, Q = normal(), normal(20, seed=1)
    params = {**SMALL, "sigma": 0.4, "max_iter": 4, "early_stopping": False}
    for kind in ("full", "diag"):
        est = ScoreMatchingEstimator(standardize=kind, **params)
        field = est.fit(X).score_samples(Q)
        units = np.array([1e3, 1e-2])
        other = est.fit(X * units + 7).score_samples(Q * units + 7) * units
        np.testing.assert_allclose(other, field, rtol=1e-3, atol=1e-3 * np.abs(field).max())


def test_a_warm_start_at_another_noise_level_is_refused():
    est = SlicedScoreEstimator(sigma=0.1, max_iter=2, warm_start=True, **SMALL).fit(normal())
    est.fit(normal())
    field = est.score_samples(normal())
    with pytest.raises(ValueError, match="sigma"):
        est.set_params(sigma=0.2).fit(normal())
    np.testing.assert_array_equal(est.score_samples(normal()), field)
