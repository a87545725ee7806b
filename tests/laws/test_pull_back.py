"""Laws of the way back to the units of X: scores, log densities, traces, the Gaussian plug-in.

``u = W (x - m)``, ``S`` the covariance, ``T`` any metric, ``A = W T W'``, ``s`` and ``J`` a field
and its Jacobian. A *null* coordinate (constant column, collinear direction) is N(0, 1).
"""

import numpy as np
import pytest
from scipy import linalg, stats

from skscore._affine import STANDARDIZE, AffineMap, Moments
from skscore.datasets import GaussianMixture
from skscore.metrics import hyvarinen_rows

kinds = pytest.mark.parametrize("kind", STANDARDIZE)


def rows(n=400, d=4, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) + 2 * np.eye(d)
    return rng.standard_normal((n, d)) @ mixing + rng.standard_normal(d)


def with_constant(X):
    return np.insert(X, 2, 7.25, axis=1)


def with_collinear(X):
    return np.column_stack([X, X[:, 0] - 2 * X[:, 1] + 5])


DATA = {
    "plain": rows(),
    "one column": rows(d=1),
    "units": rows() * np.array([1e-4, 1.0, 1e4, 1e2]),
    "offset": rows() + 1e6,
    "shrunk": rows(25),
    "constant": with_constant(rows()),
    "collinear": with_collinear(rows()),
    "both": with_constant(with_collinear(rows())),
}
every_data = pytest.mark.parametrize("X", DATA.values(), ids=DATA)


def setting(X, kind):
    """The map, the moments, a unit for each column, and queries beside the data's span."""
    moments = Moments.of(X)
    unit = np.where(moments.varying, moments.scale, 1.0)
    beside = 0.3 * np.random.default_rng(1).standard_normal((20, X.shape[1])) * unit
    return AffineMap.standardising(moments, kind), moments, unit, X[:20] + beside


def law_of_u(affine, X):
    """A mixture as wide as the rows are in u."""
    c = affine.transform(X).std(axis=0)
    means = np.random.default_rng(2).standard_normal((2, affine.rank)) * c
    covariances = [0.8 * np.diag(c**2), 1.5 * np.diag(c**2)]
    return GaussianMixture(means, covariances, weights=[0.4, 0.6])


@kinds
@every_data
def test_the_score_is_the_gradient_of_the_log_density(X, kind, central_jacobian):
    affine, _, unit, Q = setting(X, kind)
    p = law_of_u(affine, X)
    # Columns in their own units: a step of 1e-5 deviations, in u as in x.
    score = affine.pull_score(Q, p.score(affine.transform(Q))) * unit

    def log_density(Y):
        return affine.pull_log_density(Y, p.log_density(affine.transform(Y)))[:, None]

    gradient = central_jacobian(log_density, Q, 1e-5 * unit)[:, 0] * unit
    np.testing.assert_allclose(gradient, score, rtol=1e-6, atol=1e-6 * np.abs(score).max())
    assert np.abs(gradient - p.score(affine.transform(Q)).mean()).max() > 1e-3


def plug_in(moments):
    """The covariance of the Gaussian: shrunk, and one unit of variance in each null coordinate."""
    live = moments.varying
    c = moments.scale[live]
    R = moments.covariance[np.ix_(live, live)] / np.outer(c, c)
    null = linalg.null_space(R, rcond=1e-10)
    R = (1 - moments.shrinkage) * R + moments.shrinkage * np.eye(len(c))
    covariance = np.diag((~live).astype(float))
    covariance[np.ix_(live, live)] = (R + null @ null.T) * np.outer(c, c)
    return covariance


@kinds
@every_data
def test_the_precision_is_that_of_the_fitted_gaussian(X, kind):
    affine, moments, unit, Q = setting(X, kind)
    P = affine.gaussian_precision(moments)
    U, covariance = affine.transform(Q), plug_in(moments)
    truth = -np.linalg.solve(covariance / np.outer(unit, unit), ((Q - moments.mean) / unit).T).T
    score = affine.pull_score(Q, -U @ P) * unit
    np.testing.assert_allclose(score, truth, rtol=1e-7, atol=1e-7 * np.abs(truth).max())
    constant = np.linalg.slogdet(P)[1] - affine.rank * np.log(2 * np.pi)
    log_density = affine.pull_log_density(Q, 0.5 * (constant - ((U @ P) * U).sum(axis=1)))
    scaled = stats.multivariate_normal(np.zeros(len(unit)), covariance / np.outer(unit, unit))
    expected = scaled.logpdf((Q - moments.mean) / unit) - np.log(unit).sum()
    np.testing.assert_allclose(log_density, expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(P, P.T, rtol=1e-10, atol=1e-10 * np.abs(P).max())
    if kind == "full":
        np.testing.assert_allclose(P, np.eye(affine.rank), atol=1e-9)


def bent(affine, X):
    """A field of u that is nonlinear and no gradient, with its Jacobian."""
    c = affine.transform(X).std(axis=0)
    B = np.random.default_rng(3).standard_normal((affine.rank, affine.rank))

    def score(U):
        return (np.sin(U / c) - U / c @ B.T) / c

    def jacobian(U):
        return (np.cos(U / c)[:, :, None] * np.eye(affine.rank) - B) / np.outer(c, c)

    return score, jacobian


def traces(affine, Q, J_u, T):
    """``tr(T J_x)`` as the estimators have it, from ``tr(A J_u)``."""
    A = affine.metric(T)
    return np.einsum("nij,ji->n", J_u(affine.transform(Q)), A) + affine.null_divergence(T)


@kinds
@every_data
def test_traces_in_any_metric_equal_those_of_the_pulled_field(X, kind, central_jacobian):
    affine, _, unit, Q = setting(X, kind)
    score_u, J_u = bent(affine, X)
    J_x = central_jacobian(
        lambda Y: affine.pull_score(Y, score_u(affine.transform(Y))), Q, 1e-5 * unit
    )
    B = np.random.default_rng(4).standard_normal((len(unit), len(unit))) * unit[:, None]
    T = B @ B.T
    expected = np.einsum("nij,ji->n", J_x, T)
    given = traces(affine, Q, J_u, T)
    np.testing.assert_allclose(given, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    if affine.rank < len(unit):  # the twin without the null coordinates
        short = given - affine.null_divergence(T)
        assert np.abs(short - expected).max() > 1e-3 * np.abs(expected).max()


@kinds
@every_data
def test_the_yardstick_is_the_same_in_x_and_in_u(X, kind):
    affine, moments, _, _ = setting(X, kind)
    score_u, J_u = bent(affine, X)
    S = moments.covariance
    U, A = affine.transform(X), affine.metric(S)
    in_u = hyvarinen_rows(score_u(U), np.einsum("nij,ji->n", J_u(U), A), covariance=A)
    pulled = affine.pull_score(X, score_u(U))
    in_x = hyvarinen_rows(pulled, traces(affine, X, J_u, S), covariance=S)
    scale = np.abs(in_u).max()
    np.testing.assert_allclose(in_x, in_u, rtol=1e-8, atol=1e-8 * scale)
    plain = hyvarinen_rows(score_u(U), np.einsum("nii->n", J_u(U)))
    white = np.allclose(A, np.eye(affine.rank), atol=1e-9)
    assert (np.abs(plain - in_u).max() < 1e-8 * scale) == white
    assert white == (moments.shrinkage == 0 if kind == "full" else kind == "diag" and A.size == 1)


@kinds
def test_a_constant_column_has_a_field_of_its_own(kind):
    affine, moments, _, Q = setting(DATA["constant"], kind)
    field = affine.pull_score(Q, np.zeros((len(Q), affine.rank)))
    expected = np.zeros_like(field)
    expected[:, 2] = -(Q[:, 2] - 7.25)
    np.testing.assert_allclose(field, expected, atol=1e-12)
    assert affine.null_divergence(moments.covariance) == 0
    assert affine.null_divergence(np.eye(5)) == -1


@kinds
def test_a_collinear_direction_has_a_finite_field(kind):
    affine, moments, unit, Q = setting(DATA["collinear"], kind)
    live = np.zeros((len(Q), affine.rank))
    R = moments.covariance / np.outer(unit, unit)
    null = linalg.null_space(R, rcond=1e-10)
    expected = -((Q - moments.mean) / unit) @ null @ null.T / unit
    np.testing.assert_allclose(affine.pull_score(Q, live), expected, atol=1e-9)
    assert abs(affine.null_divergence(moments.covariance)) < 1e-9


def test_centring_models_every_column_that_varies():
    for name, rank in (("plain", 4), ("constant", 4), ("collinear", 5), ("both", 5)):
        moments = Moments.of(DATA[name])
        affine = AffineMap.centring(moments)
        assert affine.rank == rank
        assert affine.log_det == 0
        W = affine.matrix[:rank][:, moments.varying]
        np.testing.assert_array_equal(W, np.eye(rank))
