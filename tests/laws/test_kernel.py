"""Laws of the Gaussian kernel density: its field, trace, density and draws.

``u`` queries, ``c`` centres, ``h`` the bandwidth, ``A`` a metric; the reference is a logsumexp
written here, differentiated by autograd in float64, and mpmath far away.
"""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from skscore.kernel import KDEScoreBaseline, _gaussian

Z = 4.89  # alpha = 1e-6, two-sided
N = 20_000
TABLE = [(1, 5, 0.5), (2, 40, 0.3), (3, 300, 1.0), (6, 50, 2.0), (3, 1, 0.7)]
every_case = pytest.mark.parametrize(("d", "m", "h"), TABLE)


def centres(m, d, seed=0):
    return torch.randn(m, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def queries(d, n=30):
    return 2 * centres(n, d, seed=1)


def log_density(u, c, h):
    square = ((u[:, None] - c[None]) ** 2).sum(dim=-1)
    constant = math.log(len(c)) + c.shape[1] * math.log(h * math.sqrt(2 * math.pi))
    return torch.logsumexp(-0.5 * square / h**2, dim=1) - constant


def field(u, c, h, create_graph=False):
    u = u if u.requires_grad else u.detach().requires_grad_()
    (s,) = torch.autograd.grad(log_density(u, c, h).sum(), u, create_graph=create_graph)
    return s


@every_case
def test_the_field_is_the_gradient_of_the_logsumexp(d, m, h):
    c, u = centres(m, d), queries(d)
    close = {"rtol": 1e-10, "atol": 1e-10 / h**2}
    torch.testing.assert_close(_gaussian.score(u, c, h), field(u, c, h), **close)
    torch.testing.assert_close(_gaussian.log_density(u, c, h), log_density(u, c, h), **close)
    twin = _gaussian.weighted_mean(u / h, c / h, c) - u  # the division is missing
    assert h == 1 or (twin - field(u, c, h)).abs().max() > 1e-3


@every_case
@pytest.mark.parametrize("kind", ["identity", "metric", "singular"])
def test_the_trace_equals_autograd(d, m, h, kind, jacobian):
    c, u = centres(m, d), queries(d)
    B = centres(d, d, seed=2) if kind == "metric" else torch.eye(d, dtype=torch.float64)
    B[0] *= kind != "singular"
    A = B.T @ B
    J = jacobian(lambda x: field(x, c, h, create_graph=True), u)
    expected = torch.einsum("nij,ji->n", J, A)
    s, divergence = _gaussian.score_and_divergence(u, c, h, A)
    scale = 1 + float(A.trace()) / h**4
    torch.testing.assert_close(divergence, expected, rtol=1e-10, atol=1e-12 * scale)
    torch.testing.assert_close(s, _gaussian.score(u, c, h), rtol=1e-12, atol=1e-12 / h**2)


def exact_field(u, c, h):
    """The field at one query, 50 digits."""
    with mpmath.workdps(50):
        far = [
            mpmath.fsum((mpmath.mpf(a) - mpmath.mpf(b)) ** 2 for a, b in zip(u, r, strict=True))
            for r in c
        ]
        nearest = min(far)
        w = [mpmath.exp(-(f - nearest) / (2 * mpmath.mpf(h) ** 2)) for f in far]
        total = mpmath.fsum(w)
        columns = [
            (
                mpmath.fsum(wi * mpmath.mpf(r[j]) for wi, r in zip(w, c, strict=True)) / total
                - mpmath.mpf(u[j])
            )
            / mpmath.mpf(h) ** 2
            for j in range(len(u))
        ]
        return [float(s) for s in columns]


@pytest.mark.parametrize("away", [0.0, 3.0, 30.0, 1e3])
@pytest.mark.parametrize("h", [0.05, 0.5])
def test_far_queries_equal_mpmath(away, h):
    c = centres(20, 2)
    u = torch.tensor([[away, 0.3 - away]], dtype=torch.float64)
    expected = torch.tensor([exact_field(u[0].tolist(), c.tolist(), h)], dtype=torch.float64)
    torch.testing.assert_close(_gaussian.score(u, c, h), expected, rtol=1e-10, atol=0)


def test_a_query_a_million_deviations_away_points_to_the_nearest_row():
    c = centres(200, 3)
    u = 1e6 * torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.6, 0.0, -0.8]]).to(torch.float64)
    for h in (0.01, 0.3):
        nearest = c[(u @ c.T).argmax(dim=1)]
        torch.testing.assert_close(
            _gaussian.score(u, c, h), (nearest - u) / h**2, rtol=1e-10, atol=0
        )
        log_p = _gaussian.log_density(u, c, h)
        assert torch.isfinite(log_p).all()
        square = ((u - nearest) ** 2).sum(dim=1)
        torch.testing.assert_close(log_p, -0.5 * square / h**2, rtol=1e-10, atol=0)


def test_densities_integrate_to_one():
    x = np.linspace(-12, 12, 4001)
    est = KDEScoreBaseline().fit(centres(30, 1).numpy())
    assert np.exp(est.log_density(x[:, None])).sum() * (x[1] - x[0]) == pytest.approx(1, abs=1e-9)
    axis = np.linspace(-30, 30, 401)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    X = centres(30, 2).numpy() @ [[2.0, 1.0], [0.0, 0.5]]
    for rule in ("scott", 0.7):
        p = np.exp(KDEScoreBaseline(rule).fit(X).log_density(grid))
        assert p.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_the_density_is_scipys(d, rule):
    X = (centres(80, d) @ (centres(d, d, seed=3) + 2 * torch.eye(d))).numpy() * 1e3 + 5e4
    est = KDEScoreBaseline(rule).fit(X)
    # scipy scales by the covariance divided by n - 1, here it is divided by n.
    peer = stats.gaussian_kde(X.T, bw_method=est.bandwidth_ * math.sqrt(79 / 80))
    Q = X[:20] + 500.0
    np.testing.assert_allclose(est.log_density(Q), peer.logpdf(Q.T), rtol=1e-9)
    assert est.bandwidth_ == pytest.approx(stats.gaussian_kde(X.T, bw_method=rule).factor)


def test_a_number_is_in_the_units_of_the_data():
    X = centres(50, 2).numpy() * [1.0, 1e3] + [0.0, 1e5]
    est = KDEScoreBaseline(2.0).fit(X)
    c, u = torch.tensor(X - X.mean(axis=0)), torch.tensor(X[:9] - X.mean(axis=0) + 1.0)
    expected = field(u, c, 2.0).numpy()
    np.testing.assert_allclose(est.score_samples(X[:9] + 1.0), expected, rtol=1e-9, atol=1e-9)
    assert est.bandwidth_ == 2.0


def draw_z(X, rows, covariance):
    """The largest z of the mean and of the covariance of draws, in whitened coordinates."""
    W = np.linalg.inv(np.linalg.cholesky(covariance))
    V = (rows - X.mean(axis=0)) @ W.T
    mean = np.abs(V.mean(axis=0)).max() * math.sqrt(len(V))
    products = np.einsum("ni,nj->nij", V, V)
    gap = np.abs(products.mean(axis=0) - np.eye(V.shape[1]))
    return max(mean, (gap / products.std(axis=0)).max() * math.sqrt(len(V)))


@pytest.mark.parametrize("bandwidth", [0.8, "scott"])
def test_draws_have_the_law(bandwidth):
    X = centres(60, 2).numpy() @ [[2.0, 1.0], [0.0, 0.5]] + [5.0, -3.0]
    est = KDEScoreBaseline(bandwidth).fit(X)
    rows = est.sample(N, random_state=0)
    S, h = np.cov(X, rowvar=False, bias=True), est.bandwidth_
    kernel = h**2 * (S if bandwidth == "scott" else np.eye(2))
    assert draw_z(X, rows, S + kernel) < Z
    assert draw_z(X, rows, S) > Z
    assert draw_z(X, rows, S + kernel / h) > Z
    # Stein's identity for the field of the same density: E[s(x) (x - m)'] = -I.
    products = np.einsum("ni,nj->nij", est.score_samples(rows), rows - X.mean(axis=0))
    gap = np.abs(products.mean(axis=0) + np.eye(2)) / products.std(axis=0)
    assert gap.max() * math.sqrt(N) < Z
