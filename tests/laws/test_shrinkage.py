"""Laws of the shrunk covariance: the closed form of leaving rows out, and what weight it finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import clone

from skscore import (
    DenoisingScoreEstimator,
    KernelScoreEstimator,
    ScoreMatchingEstimator,
    SlicedScoreEstimator,
    _shrinkage,
)
from skscore._shrinkage import WEIGHTS, held_out_log_density, shrinkage

TOLERANCE = 1e-12


def rows(n, d, seed=0, correlated=False):
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, d))
    if correlated:
        Z = Z @ (rng.standard_normal((d, d)) + np.eye(d))
    Z -= Z.mean(axis=0)
    return Z / Z.std(axis=0)


def left_out(Z, weight):
    """Fit the Gaussian again without each row; the target of the shrinkage is that of all rows."""
    target = np.mean(np.linalg.eigvalsh(Z.T @ Z / len(Z)))
    found = []
    for i in range(len(Z)):
        others = np.delete(Z, i, axis=0)
        S = (1 - weight) * np.cov(others.T, bias=True) + weight * target * np.eye(Z.shape[1])
        found.append(stats.multivariate_normal(others.mean(axis=0), S).logpdf(Z[i]))
    return np.array(found)


@given(
    d=st.integers(2, 5),
    spare=st.integers(3, 30),
    weight=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    seed=st.integers(0, 10),
    correlated=st.booleans(),
)
def test_each_row_is_left_out_in_closed_form(d, spare, weight, seed, correlated):
    Z = rows(d + spare, d, seed, correlated)
    closed = held_out_log_density(Z, np.array([weight]), TOLERANCE)[:, 0]
    refitted = left_out(Z, weight) + d / 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(closed, refitted, rtol=1e-7, atol=1e-7)


def test_rows_that_the_others_do_not_span_are_refused_without_shrinkage():
    few = held_out_log_density(rows(5, 12), np.array([0.0, 0.5]), TOLERANCE)
    assert (few[:, 0] == -np.inf).all()
    assert np.isfinite(few[:, 1]).all()
    assert shrinkage(rows(5, 12), TOLERANCE) > 0


@pytest.mark.parametrize("n", [60, 1000, 10_000])
@pytest.mark.parametrize("d", [5, 20])
def test_uncorrelated_columns_are_taken_as_such(n, d):
    assert shrinkage(rows(n, d, seed=n + d), TOLERANCE) > 0.5


@pytest.mark.parametrize("seed", range(5))
def test_clear_correlations_stay_as_they_are(seed):
    assert shrinkage(rows(10_000, 5, seed, correlated=True), TOLERANCE) == 0.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "d"), [(30, 10), (60, 20), (100, 40)])
def test_few_correlated_rows_are_better_shrunk(n, d, seed):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    truth = Q * np.exp(rng.uniform(-1.5, 1.5, d)) @ Q.T
    truth /= np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
    Z = rng.multivariate_normal(np.zeros(d), truth, n)
    weight = shrinkage(Z, TOLERANCE)

    def divergence(R):  # twice that of N(0, R) from the truth
        P = np.linalg.inv(R)
        return np.trace(P @ truth) - np.linalg.slogdet(P @ truth)[1] - d

    R = Z.T @ Z / n
    shrunk = (1 - weight) * R + weight * np.trace(R) / d * np.eye(d)
    assert 0 < weight < 1
    assert divergence(shrunk) < 0.7 * divergence(R)


def test_a_gain_within_its_error_is_no_gain():
    """Two uncorrelated columns: the sample covariance is one number too many, and rarely clear."""
    weights = np.array([shrinkage(rows(5000, 2, seed), TOLERANCE) for seed in range(40)])
    densities = [held_out_log_density(rows(5000, 2, s), WEIGHTS, TOLERANCE) for s in range(40)]
    gains = [(p - p[:, :1])[:, p.mean(axis=0).argmax()] for p in densities]
    clear = [g.mean() > g.std() / np.sqrt(len(g)) for g in gains]
    assert ((weights > 0) == clear).all()
    assert 0 < np.sum(clear) < 40


def fits():
    """Return estimators whose residual is nothing: next to no steps, or kernels far away."""
    lean = {"max_iter": 1, "learning_rate_init": 1e-9, "mixture": False, "random_state": 0}
    return [
        ScoreMatchingEstimator(**lean),
        SlicedScoreEstimator(**lean),
        DenoisingScoreEstimator(sigma_min=1e-4, **lean),
        DenoisingScoreEstimator(sigma_min=1e-4, standardize="full", **lean),
        KernelScoreEstimator(random_state=0),
    ]


@pytest.mark.parametrize("est", fits(), ids=lambda est: type(est).__name__)
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, "auto"])
def test_the_fitted_gaussian_has_the_weight_that_is_asked_for(est, weight):
    Z = rows(40, 6, correlated=True)
    used = shrinkage(Z, TOLERANCE)
    assert 0 < used < 1
    X = Z * [1.0, 5.0, 0.1, 2.0, 1.0, 1.0] + 3.0
    est = clone(est).set_params(shrinkage=weight).fit(X)
    assert est.shrinkage_ == pytest.approx(used if weight == "auto" else weight, rel=1e-12)
    c = X.std(axis=0)
    R = np.corrcoef(X.T)
    S = ((1 - est.shrinkage_) * R + est.shrinkage_ * np.eye(6)) * np.outer(c, c)
    far = X.mean(axis=0) + 1e3 * c * np.array([[1.0, -2.0, 0.5, 1.0, 1.5, -1.0]])
    gaussian = -np.linalg.solve(S, (far - X.mean(axis=0)).T).T
    np.testing.assert_allclose(est.score_samples(far), gaussian, rtol=1e-3)
    np.testing.assert_allclose(est.covariance_, np.cov(X.T, bias=True))  # the yardstick stays


def test_a_warm_start_keeps_the_gaussian():
    X = rows(50, 4, seed=1, correlated=True)
    est = SlicedScoreEstimator(max_iter=2, warm_start=True, shrinkage=0.2, random_state=0).fit(X)
    assert est.set_params(shrinkage=0.7).fit(X).shrinkage_ == 0.2
    assert est.set_params(warm_start=False).fit(X).shrinkage_ == 0.7


@pytest.mark.parametrize("Z", [np.zeros((1, 3)), rows(2, 3), rows(40, 1), np.zeros((40, 0))])
def test_nothing_to_choose(Z):
    assert shrinkage(Z, TOLERANCE) == 0.0


def test_columns_that_are_sums_of_others_are_left_out():
    Z = rows(400, 3, correlated=True)
    Z = np.column_stack([Z, Z[:, 0] - Z[:, 1]])
    found = held_out_log_density(Z, WEIGHTS, TOLERANCE)
    assert np.isfinite(found).all()
    # In three coordinates that span the rows, the same.
    Q = np.linalg.svd(Z, full_matrices=False)[2][:3].T
    same = held_out_log_density(Z @ Q, WEIGHTS, TOLERANCE)
    np.testing.assert_allclose(found, same, rtol=1e-9, atol=1e-9)


def test_many_rows_are_judged_by_some_of_them(monkeypatch):
    Z = rows(1000, 4, correlated=True)
    whole = held_out_log_density(Z, WEIGHTS, TOLERANCE)
    monkeypatch.setattr(_shrinkage, "HELD_OUT", 300)
    some = held_out_log_density(Z, WEIGHTS, TOLERANCE)
    assert len(some) == 250
    np.testing.assert_allclose(some, whole[::4], rtol=1e-12)
