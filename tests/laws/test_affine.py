"""Laws of the coordinates: moments at any offset and scale, and what is pulled back through them.

``u = W (x - m)``, ``S`` the covariance, ``s`` and ``J`` a field and its Jacobian.
"""

import numpy as np
import pytest

from skscore._affine import RANK_TOLERANCE, STANDARDIZE, AffineMap, Moments
from skscore._shrinkage import shrinkage

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
    "units": rows() * [1e-4, 1.0, 1e4, 1e2],
    "constant": with_constant(rows()),
    "collinear": with_collinear(rows()),
    "both": with_constant(with_collinear(rows())),
}
every_data = pytest.mark.parametrize("X", DATA.values(), ids=DATA)


def correct(moments, Z, c, shift, rel):
    """Moments of ``shift + c Z`` against those of Z, in units of c."""
    S = np.cov(Z, rowvar=False, bias=True)
    c = np.broadcast_to(c, Z.shape[1])
    np.testing.assert_allclose((moments.mean - shift) / c, Z.mean(axis=0), atol=rel)
    np.testing.assert_allclose(moments.scale / c, np.sqrt(np.diag(S)), rtol=rel)
    np.testing.assert_allclose(moments.covariance / np.outer(c, c), S, rtol=rel, atol=rel)
    np.testing.assert_array_equal(moments.covariance, moments.covariance.T)


@pytest.mark.parametrize("c", [1e-130, 1e-12, 1e-6, 1.0, 1e6, 1e12, 1e130, [1e-4, 1e4, 1.0, 1e-8]])
def test_moments_at_any_scale(c):
    Z = rows() - rows().mean(axis=0)
    correct(Moments.of(Z * c), Z, c, 0.0, rel=1e-12)


@pytest.mark.parametrize("shift", [1e4, 1e8, -1e8])
def test_moments_at_an_offset(shift):
    Z = rows()
    X = Z + shift
    Z = X - shift  # what is left of the digits
    correct(Moments.of(X), Z, 1.0, shift, rel=1e-12 + 4 * np.spacing(abs(shift)))
    naive = (X**2).mean(axis=0) - X.mean(axis=0) ** 2
    if abs(shift) == 1e8:  # the twin, in one pass, has lost them
        assert np.abs(naive / Z.var(axis=0) - 1).max() > 1e-3


def test_moments_of_many_rows_at_an_offset():
    Z = np.random.default_rng(0).standard_normal((200_000, 2)) * [1.0, 1e-3]
    X = Z + np.array([1e8, 1e5])
    correct(Moments.of(X), X - [1e8, 1e5], 1.0, [1e8, 1e5], rel=1e-7)


@pytest.mark.parametrize(("value", "word"), [(1e300, "large"), (1e-310, "small"), (1e145, "large")])
def test_scales_without_a_square_are_refused(value, word):
    X = rows()
    X[:, 1] *= value
    with pytest.raises(ValueError, match=f"X is too {word}: column 1"):
        Moments.of(X)


@pytest.mark.parametrize("value", [0.0, 7.25, 0.1, 1e8 + 0.1, 1e300, 1e-310, -1e-5])
def test_a_constant_column_has_exact_zeros(value):
    X = np.insert(rows(), 2, value, axis=1)
    moments = Moments.of(X)
    assert moments.mean[2] == value
    assert moments.scale[2] == 0
    assert not moments.covariance[2].any()
    assert not moments.covariance[:, 2].any()
    assert moments.varying.tolist() == [True, True, False, True, True]
    correct(Moments.of(X[:, moments.varying]), rows(), 1.0, 0.0, rel=1e-12)


@every_data
def test_whitening_gives_the_identity(X):
    moments = Moments.of(X)
    affine = AffineMap.standardising(moments, "full")
    U = affine.transform(X)
    np.testing.assert_allclose(U.T @ U / len(U), np.eye(affine.rank), atol=1e-9)
    np.testing.assert_allclose(U.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(affine.metric(moments.covariance), np.eye(affine.rank), atol=1e-9)
    twin = AffineMap.standardising(moments, "diag").metric(moments.covariance)
    assert X.shape[1] == 1 or np.abs(twin - np.eye(affine.rank)).max() > 0.1


@kinds
def test_the_matrix_is_symmetric_in_the_units_of_the_columns(kind):
    X = rows() * [1e-4, 1.0, 1e4, 1e2]
    moments = Moments.of(X)
    W = AffineMap.standardising(moments, kind).matrix
    half = W * moments.scale if kind == "full" else W
    np.testing.assert_allclose(half, half.T, atol=1e-9)
    assert np.linalg.eigvalsh((half + half.T) / 2).min() > 0


@kinds
@every_data
def test_rank_and_way_back(kind, X):
    moments = Moments.of(X)
    affine = AffineMap.standardising(moments, kind)
    assert affine.rank == np.linalg.matrix_rank((X - X.mean(axis=0)) / (X.std(axis=0) + 1e-300))
    U = affine.transform(X)
    assert U.shape == (len(X), affine.rank)
    unit = np.where(moments.scale > 0, moments.scale, 1.0)
    np.testing.assert_allclose((affine.inverse_transform(U) - X) / unit, 0, atol=1e-9)
    np.testing.assert_allclose(affine.null(X), 0, atol=1e-7)


@pytest.mark.parametrize("n", [20, 400])
def test_few_rows_are_whitened_by_a_shrunk_covariance(n):
    X = with_constant(rows(n))  # the constant column has no part in it
    assert Moments.of(X).shrinkage == 0
    assert Moments.of(X, 0.3).shrinkage == 0.3
    moments = Moments.of(X, "auto")
    Z = np.delete((X - X.mean(axis=0)) / (moments.scale + (moments.scale == 0)), 2, axis=1)
    assert moments.shrinkage == shrinkage(Z, RANK_TOLERANCE)
    assert (moments.shrinkage > 0) == (n == 20)
    U = AffineMap.standardising(moments, "full").transform(X)
    assert np.allclose(U.T @ U / n, np.eye(4), atol=1e-9) == (n == 400)
    # U is white for the shrunk correlation matrix, which has the trace of R.
    W = AffineMap.standardising(moments, "full").matrix[:4][:, [0, 1, 3, 4]]
    c = moments.scale[[0, 1, 3, 4]]
    shrunk = (1 - moments.shrinkage) * (Z.T @ Z / n) + moments.shrinkage * np.eye(4)
    np.testing.assert_allclose(W @ (shrunk * np.outer(c, c)) @ W.T, np.eye(4), atol=1e-9)


def test_fewer_rows_than_columns_are_finite():
    X = np.random.default_rng(0).standard_normal((5, 50))
    for kind in STANDARDIZE:
        affine = AffineMap.standardising(Moments.of(X), kind)
        assert affine.rank == 4
        assert np.isfinite(affine.matrix).all()
        assert np.isfinite(affine.log_det)
        np.testing.assert_allclose(affine.inverse_transform(affine.transform(X)), X, atol=1e-9)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_number_for_a_matrix_is_that_multiple_of_the_identity(scaled):
    X, U = rows(), rows(seed=1)
    moments = Moments.of(X)
    one = AffineMap.isotropic(moments, scaled=scaled)
    matrix = AffineMap(one.mean, float(one.matrix) * np.eye(4), 4)
    if scaled:
        assert np.mean(one.transform(X) ** 2) == pytest.approx(1.0, rel=1e-12)
    for name, args in (
        ("transform", (X,)),
        ("inverse_transform", (U,)),
        ("bound", (X,)),
        ("null", (X,)),
        ("pull_score", (X, U)),
        ("pull_energy", (X, U[:, 0])),
        ("pull_log_density", (X, U[:, 0])),
        ("metric", (moments.covariance,)),
        ("null_divergence", (moments.covariance,)),
    ):
        found, wanted = (getattr(each, name)(*args) for each in (one, matrix))
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12, err_msg=name)
    for name in ("scales", "log_det", "is_diagonal"):
        np.testing.assert_allclose(getattr(one, name), getattr(matrix, name), rtol=1e-12)


def test_a_bound_holds():
    X = rows()
    affine = AffineMap.standardising(Moments.of(X), "full")
    assert (affine.bound(X) >= np.abs(affine.transform(X))).all()
