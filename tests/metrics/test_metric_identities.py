"""Exact identities of the score metrics: no randomness decides them, tolerance 1e-10."""

import numpy as np
import pytest

from skscore.metrics import fisher_divergence, hyvarinen_rows, hyvarinen_score, mean_score_error

D = 4


@pytest.fixture
def data():
    """Rows whose sample mean is m and whose sample covariance (ddof 0) is exactly S."""
    rng = np.random.RandomState(0)
    Z = rng.standard_normal((50, D))
    Z -= Z.mean(axis=0)
    Z = Z @ np.linalg.inv(np.linalg.cholesky(Z.T @ Z / len(Z))).T
    B = rng.standard_normal((D, D))
    S, m = B @ B.T + np.eye(D), rng.standard_normal(D)
    return m + Z @ np.linalg.cholesky(S).T, m, S


@pytest.fixture
def field(data):
    """An affine field s = -A x + b with its Jacobian -A, A not symmetric."""
    X, _, _ = data
    rng = np.random.RandomState(1)
    A, b = rng.standard_normal((D, D)), rng.standard_normal(D)
    return b - X @ A.T, -A


def gap(data, field, metric, score_of=hyvarinen_score):
    """Hyvarinen score + Fisher divergence - tr(M S^-1) / 2: zero for every affine field."""
    X, m, S = data
    s, J = field
    M = np.eye(D) if metric is None else metric
    truth = -(X - m) @ np.linalg.inv(S)
    divergence = np.full(len(X), np.trace(M @ J))
    implicit = score_of(s, divergence, covariance=metric)
    explicit = fisher_divergence(truth, s, covariance=metric)
    return implicit + explicit - np.trace(M @ np.linalg.inv(S)) / 2


@pytest.mark.parametrize("kind", ["identity", "data", "other"])
def test_implicit_and_explicit_add_up_to_a_constant(data, field, kind):
    metric = {"identity": None, "data": data[2], "other": np.diag([1.0, 0.0, 2.0, 5.0])}[kind]
    assert abs(gap(data, field, metric)) < 1e-10


@pytest.mark.parametrize(
    "twin",
    [
        lambda s, t, **k: -np.mean(t + (s**2).sum(axis=1)),
        lambda s, t, **k: -np.mean(t / D + (s**2).sum(axis=1) / 2),
        lambda s, t, **k: -np.mean(-t + (s**2).sum(axis=1) / 2),
        lambda s, t, **k: 1.001 * hyvarinen_score(s, t),
    ],
    ids=["no half", "trace over d", "sign of the trace", "0.1 % off"],
)
def test_wrong_objectives_do_not(data, field, twin):
    assert abs(gap(data, field, None, twin)) > 1e-3


def test_the_true_score_of_a_gaussian_gives_half_the_dimension(data):
    X, m, S = data
    P = np.linalg.inv(S)
    value = hyvarinen_score(-(X - m) @ P, np.full(len(X), -np.trace(S @ P)), covariance=S)
    assert value == pytest.approx(D / 2, abs=1e-10)


def test_hyvarinen_and_fisher_are_invariant_under_affine_maps(data, field):
    X, m, S = data
    s, J = field
    B = np.random.RandomState(2).standard_normal((D, D)) * [1.0, 10.0, 0.1, 1.0]
    inverse = np.linalg.inv(B)
    # u = B x: s_u = B^-T s, J_u = B^-T J B^-1, S_u = B S B'.
    s_u, J_u, S_u = s @ inverse, inverse.T @ J @ inverse, B @ S @ B.T
    S_u = (S_u + S_u.T) / 2
    before = hyvarinen_rows(s, np.full(len(X), np.trace(S @ J)), covariance=S)
    after = hyvarinen_rows(s_u, np.full(len(X), np.trace(S_u @ J_u)), covariance=S_u)
    np.testing.assert_allclose(after, before, rtol=1e-10, atol=1e-10)
    unmapped = hyvarinen_rows(s_u, np.full(len(X), np.trace(J_u)))
    assert np.abs(unmapped - before).max() > 0.1
    truth = -(X - m) @ np.linalg.inv(S)
    assert fisher_divergence(truth @ inverse, s_u, covariance=S_u) == pytest.approx(
        fisher_divergence(truth, s, covariance=S), rel=1e-10
    )


def test_a_constant_column_drops_out(field):
    s, J = field
    S = np.diag([2.0, 0.0, 1.0, 3.0])
    trace = np.full(len(s), np.trace(S @ J))
    changed = s.copy()
    changed[:, 1] += 7.0
    np.testing.assert_array_equal(
        hyvarinen_rows(s, trace, covariance=S), hyvarinen_rows(changed, trace, covariance=S)
    )


def test_minimiser_and_value_on_standard_data():
    # -J for s = -a x on N(0, I) is a d - a^2 d / 2: its maximum d / 2 stands at a = 1.
    rng = np.random.RandomState(0)
    X = rng.standard_normal((200, 3))
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    grid = np.linspace(0.5, 1.5, 101)
    values = [hyvarinen_score(-a * X, np.full(200, -3 * a)) for a in grid]
    assert grid[np.argmax(values)] == pytest.approx(1.0)
    assert max(values) == pytest.approx(1.5, abs=1e-10)


def test_reduce_receives_the_rows(field):
    s, _ = field
    trace = np.arange(len(s), dtype=float)
    rows = hyvarinen_rows(s, trace)
    assert hyvarinen_score(s, trace) == pytest.approx(rows.mean())
    assert hyvarinen_score(s, trace, reduce=np.median) == np.median(rows)


def test_explicit_metrics_by_hand():
    a, b = np.array([[0.0, 0.0], [1.0, 2.0]]), np.array([[3.0, 4.0], [1.0, 2.0]])
    assert mean_score_error(a, b) == 2.5
    assert fisher_divergence(a, b) == 25 / 4
    assert fisher_divergence(a, b, covariance=np.diag([1.0, 2.0])) == (9 + 32) / 4
    assert fisher_divergence(a, b, covariance=[[1.0, 0.5], [0.5, 1.0]]) == (9 + 16 + 12) / 4
    for metric in (mean_score_error, fisher_divergence):
        assert type(metric(a, b)) is float
        assert metric(a, b) == metric(b, a)
        assert metric(a, a) == 0.0


def test_predicting_zero_for_a_standard_normal():
    X = np.random.RandomState(0).standard_normal((20_000, 2))
    spread = np.linalg.norm(X, axis=1).std() / np.sqrt(len(X))
    error = mean_score_error(-X, np.zeros_like(X))
    assert abs(error - np.sqrt(np.pi / 2)) < 4.89 * spread
