"""Laws of the kernel exponential family: derivatives, the minimiser, its choices and its samples.

``k`` the inverse multiquadric, ``c`` the coefficients, ``P`` the Gaussian's precision, ``A`` the
metric; ``J(c) = mean[tr(A H) + 1/2 s' A s]`` is computed here by autograd, in float64.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from skscore import KernelScoreEstimator
from skscore.datasets import Gaussian, GaussianMixture, Ring
from skscore.exceptions import DataWarning
from skscore.kernel import _exponential_family, _selection
from skscore.kernel._exponential_family import Basis, derivatives, kernel, solve

NUMBERS = {"bandwidth": 1.3, "alpha": 1e-3, "random_state": 0}
MIXING = np.array([[2.0, 1.0, 0.0], [0.0, 0.5, 0.3], [0.1, 0.0, 1.0]]) * [1.0, 10.0, 1e-3]
SHIFT = np.array([5.0, -3.0, 1e3])


def hills(n=300, seed=0):
    law = GaussianMixture([[-1.0, 0.0, 1.0], [1.5, 1.0, 0.0]], [0.3, 0.8])
    return law.sample(n, random_state=seed)


def positive(d, seed):
    B = np.random.default_rng(seed).standard_normal((d, d))
    return B @ B.T / d + 0.3 * np.eye(d)


def case(d=3, m=12, h=1.3, seed=0):
    rng = np.random.default_rng(seed)
    basis = Basis(rng.standard_normal((m, d)), h, positive(d, 1))
    return basis, rng.standard_normal((40, d)), rng.standard_normal(m), positive(d, 2)


def log_density(basis, c):
    z, P = torch.tensor(basis.points), torch.tensor(basis.precision)

    def f(u):
        square = ((u[:, None] - z) ** 2).sum(dim=-1)
        k = (1 + square / (2 * basis.bandwidth**2)) ** -1.5
        return -0.5 * ((u @ P) * u).sum(dim=1) + k @ torch.tensor(c)

    return f


def gradient(f, u):
    u = u.detach().requires_grad_() if not u.requires_grad else u
    return torch.autograd.grad(f(u).sum(), u, create_graph=True)[0]


def rows_of_objective(basis, U, c, A, jacobian):
    f, u = log_density(basis, c), torch.tensor(U)
    s = gradient(f, u).detach().numpy()
    J = jacobian(lambda v: gradient(f, v), u).numpy()
    return np.einsum("nij,ji->n", J, A) + 0.5 * np.einsum("ni,ij,nj->n", s, A, s)


@pytest.mark.parametrize(("d", "m", "h"), [(1, 1, 0.4), (2, 30, 1.0), (5, 12, 3.0)])
def test_the_closed_forms_equal_autograd(d, m, h, jacobian):
    basis, U, c, A = case(d, m, h)
    f = log_density(basis, c)
    s, trace = basis.score_and_divergence(U, c, A)
    close = {"rtol": 1e-8, "atol": 1e-8}
    np.testing.assert_allclose(basis.log_density(U, c), f(torch.tensor(U)), **close)
    np.testing.assert_allclose(s, gradient(f, torch.tensor(U)).detach(), **close)
    np.testing.assert_allclose(basis.score(U, c), s, **close)
    J = jacobian(lambda v: gradient(f, v), torch.tensor(U)).numpy()
    np.testing.assert_allclose(trace, np.einsum("nij,ji->n", J, A), **close)
    # Without a metric of its own the trace is another one.
    assert d == 1 or np.abs(np.einsum("nii->n", J) - trace).max() > 1e-3


def test_the_derivatives_of_the_kernel():
    t = torch.linspace(0, 9, 20, dtype=torch.float64, requires_grad=True)
    k = (1 + t / 2) ** -1.5
    (k1,) = torch.autograd.grad(k.sum(), t, create_graph=True)
    (k2,) = torch.autograd.grad(k1.sum(), t)
    here = t.detach().numpy()
    for own, known in zip((kernel(here), *derivatives(here)), (k, k1, k2), strict=True):
        np.testing.assert_allclose(own, known.detach(), rtol=1e-12)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("block_bytes", [2**24, 700])
def test_the_quadratic_form_is_the_objective(d, block_bytes, jacobian, monkeypatch):
    monkeypatch.setattr(_exponential_family, "BLOCK_BYTES", block_bytes)
    basis, U, c, A = case(d)
    G, b = basis.quadratic(U, A)
    zero = rows_of_objective(basis, U, 0 * c, A, jacobian)
    for scale in (1.0, -2.0):
        rows = rows_of_objective(basis, U, scale * c, A, jacobian) - zero
        form = scale * b @ c + 0.5 * scale**2 * c @ G @ c
        assert form == pytest.approx(rows.sum(), rel=1e-9)
        own = basis.gains(U, scale * np.column_stack([c, 3 * c]), A)
        np.testing.assert_allclose(-own[:, 0], rows, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(G, G.T, rtol=1e-12, atol=1e-12 * np.abs(G).max())


def penalised(fitted, X, c, jacobian):
    """The objective of a fit at other coefficients, in its own coordinates."""
    U = fitted._affine.transform(X)
    A = fitted._affine.metric(fitted.covariance_)
    K = fitted._basis.gram
    rows = rows_of_objective(fitted._basis, U, c, A, jacobian)
    return rows.mean() + 0.5 * fitted.alpha_ * c @ K @ c


@pytest.mark.parametrize("standardize", ["full", "diag", None])
def test_the_fit_is_the_minimiser(standardize, jacobian):
    X = hills(80)
    est = KernelScoreEstimator(n_components=15, standardize=standardize, **NUMBERS).fit(X)
    c = est.dual_coef_
    least = penalised(est, X, c, jacobian)
    rng = np.random.default_rng(0)
    for _ in range(5):
        step = 0.1 * np.linalg.norm(c) * rng.standard_normal(len(c))
        above, below = (penalised(est, X, c + sign * step, jacobian) for sign in (1, -1))
        assert min(above, below) > least
        # Of a quadratic the central difference is the slope: zero, beside the curvature.
        assert abs(above - below) < 1e-7 * (above + below - 2 * least)


def test_solve_is_the_minimiser_at_each_penalty():
    basis, U, _, A = case()
    G, b = basis.quadratic(U, A)
    penalties = np.array([1e-6, 1e-2, 10.0])
    C = solve(G, b, basis.gram, penalties)
    for a, c in zip(penalties, C.T, strict=True):
        np.testing.assert_allclose(G @ c + a * basis.gram @ c, -b, atol=1e-8 * np.abs(b).max())


@pytest.mark.parametrize("standardize", ["full", "diag", None])
def test_the_energy_and_the_trace_in_the_units_of_x(standardize, central_jacobian):
    X = hills() @ MIXING + SHIFT
    est = KernelScoreEstimator(
        alpha=1e-3, n_components=60, standardize=standardize, random_state=0
    ).fit(X)
    Q = hills(15, seed=1) @ MIXING + SHIFT
    h = 1e-4 * X.std(axis=0)
    slope = central_jacobian(lambda Y: est.energy(Y)[:, None], Q, h)[:, 0]
    s = est.score_samples(Q) * X.std(axis=0)
    np.testing.assert_allclose(-slope * X.std(axis=0), s, atol=1e-6 * np.abs(s).max())
    assert np.isfinite(est.alpha_)


def plug_in(X, Q):
    return -np.linalg.solve(np.cov(X.T, bias=True), (Q - X.mean(axis=0)).T).T


def test_a_huge_penalty_is_the_gaussian():
    X, Q = hills(), hills(50, seed=1)
    est = KernelScoreEstimator(bandwidth=1.0, alpha=1e290, random_state=0).fit(X)
    np.testing.assert_allclose(est.score_samples(Q), plug_in(X, Q), rtol=1e-10, atol=1e-12)
    small = KernelScoreEstimator(bandwidth=1.0, alpha=1e-3, random_state=0).fit(X)
    assert np.abs(small.score_samples(Q) - plug_in(X, Q)).max() > 0.1


@pytest.mark.parametrize("seed", range(4))
def test_gaussian_rows_get_the_gaussian(seed):
    law = Gaussian.random(4, random_state=seed)
    X, Q = law.sample(200, random_state=seed), law.sample(50, random_state=seed + 10)
    est = KernelScoreEstimator(n_components=60, random_state=0).fit(X)
    assert est.alpha_ == np.inf
    assert not est.dual_coef_.any()
    np.testing.assert_allclose(est.score_samples(Q), plug_in(X, Q), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_a_ring_is_learnt(seed):
    rows = Ring().sample(800, random_state=seed)
    X, Q = rows[:300], rows[300:]
    truth = Ring().score(Q)

    def error(field):
        return np.linalg.norm(field - truth, axis=1).mean()

    est = KernelScoreEstimator(n_components=100, random_state=0).fit(X)
    assert error(est.score_samples(Q)) < 0.4 * error(plug_in(X, Q))
    assert est.score_details(Q).skill > 5 * est.score_details(Q).skill_error


GAINS = np.random.default_rng(0).standard_normal((400, 1))


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ([0.5, 0.5, 0.5], 2),  # alike: the largest penalty
        ([0.5, 0.6, 0.1], 1),  # worse, row by row
        ([0.6, 0.5, 0.1], 0),
        ([0.05, 0.08, -0.2], None),  # not better than the Gaussian by two standard errors of .05
        ([-0.5, -0.6, -0.7], None),
    ],
)
def test_the_penalty_is_chosen_in_pairs(columns, chosen):
    noise = (GAINS - GAINS.mean()) / GAINS.std()
    assert _selection.choose_penalty(noise + np.array(columns)) == chosen


def test_folds_are_held_out(monkeypatch):
    """Each row's gain comes from coefficients that did not see it."""
    X = hills(90)
    affine_rows = (X - X.mean(axis=0)) / X.std(axis=0)
    basis, penalty = Basis(affine_rows[:9], 1.0, np.eye(3)), np.array([1e-3])
    seen = []
    monkeypatch.setattr(_selection, "choose_penalty", lambda gains: seen.append(gains) or 0)
    monkeypatch.setattr(_selection, "SPLITS", 1)
    _selection.cross_validate(affine_rows, np.eye(3), [basis], penalty, np.random.default_rng(0))
    expected = np.zeros((90, 1))
    for fold in np.array_split(np.random.default_rng(0).permutation(90), 5):
        rest = np.delete(affine_rows, fold, axis=0)
        one = _selection.fit_penalised(rest, np.eye(3), basis, 1e-3).coefficients
        expected[fold] = basis.gains(affine_rows[fold], one[:, None], np.eye(3))
    np.testing.assert_allclose(seen[0], expected, rtol=1e-6, atol=1e-9)


def test_any_invertible_map_is_followed():
    X, Q = hills(), hills(50, seed=1)
    few = {"n_components": 60, "random_state": 0}
    plain = KernelScoreEstimator(**few).fit(X)
    mapped = KernelScoreEstimator(**few).fit(X @ MIXING + SHIFT)
    field, there = plain.score_samples(Q), mapped.score_samples(Q @ MIXING + SHIFT)
    np.testing.assert_allclose(there @ MIXING.T, field, rtol=1e-4, atol=1e-4 * np.abs(field).max())
    assert mapped.bandwidth_ == pytest.approx(plain.bandwidth_, rel=1e-6)
    assert mapped.alpha_ == plain.alpha_ < np.inf


@pytest.mark.parametrize(("n_components", "size"), [("auto", 300), (7, 7), (10_000, 400)])
def test_components_are_training_rows_of_the_seed(n_components, size):
    X = hills(400)
    fits = [
        KernelScoreEstimator(1.0, 0.01, n_components=n_components, random_state=s).fit(X)
        for s in (0, 0, 1)
    ]
    for est in fits:
        assert est.components_.shape == (size, 3)
        assert len(est.dual_coef_) == size
        assert (est.components_[:, None] == X[None]).all(axis=2).any(axis=1).all()
    np.testing.assert_array_equal(fits[0].components_, fits[1].components_)
    assert np.array_equal(fits[0].components_, fits[2].components_) == (size == 400)


def test_blocks_and_order_do_not_matter(monkeypatch):
    X, Q = hills(), hills(200, seed=1)
    est = KernelScoreEstimator(**NUMBERS).fit(X)
    field, energy = est.score_samples(Q), est.energy(Q)
    monkeypatch.setattr(_exponential_family, "BLOCK_BYTES", 8 * 300 * 7)
    np.testing.assert_allclose(est.score_samples(Q[::-1])[::-1], field, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(est.energy(Q[::-1])[::-1], energy, rtol=1e-10)
    np.testing.assert_allclose(est.score_samples(Q[3:4])[0], field[3], rtol=1e-10)


@pytest.mark.parametrize("far", [1e3, 1e6, 1e12])
def test_far_away_it_is_the_gaussian(far):
    X = hills()
    est = KernelScoreEstimator(**NUMBERS).fit(X)
    Q = X.mean(axis=0) + far * X.std(axis=0) * np.array([[1, -1, 1], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(est.score_samples(Q), plug_in(X, Q), rtol=1e-6)


@pytest.mark.parametrize("sampler", ["mala", "langevin", "auto"])
def test_samples_of_a_gaussian_have_its_law(sampler):
    X = Gaussian([1.0, -2.0], [[4.0, 0.6], [0.6, 0.5]]).sample(400, random_state=0)
    est = KernelScoreEstimator(1.0, 1e200, random_state=0).fit(X)
    drawn = est.sample(2000, random_state=1, sampler=sampler, n_steps=60)
    V = np.linalg.solve(np.linalg.cholesky(np.cov(X.T, bias=True)), (drawn - X.mean(axis=0)).T)
    wide = 1 / (1 - 0.05) if sampler == "langevin" else 1.0  # eta / 2, at eta = .1
    for v in V:
        assert stats.kstest(v / np.sqrt(wide), "norm").pvalue > 1e-6
        assert stats.kstest(v * 1.3, "norm").pvalue < 1e-6


def test_mala_has_the_law_of_the_model():
    X = GaussianMixture([[-2.0], [2.0]], 1.0).sample(600, random_state=0)
    est = KernelScoreEstimator(n_components=60, random_state=0).fit(X)
    assert np.isfinite(est.alpha_)
    grid = np.linspace(-12, 12, 4001)
    weight = np.exp(-est.energy(grid[:, None]))
    cdf = np.cumsum(weight) / weight.sum()
    drawn = est.sample(2000, random_state=1, n_steps=80)[:, 0]
    assert stats.kstest(drawn, lambda x: np.interp(x, grid, cdf)).pvalue > 1e-6
    assert (
        stats.kstest(
            X[:, 0].mean() + X[:, 0].std() * np.random.default_rng(0).standard_normal(2000),
            lambda x: np.interp(x, grid, cdf),
        ).pvalue
        < 1e-6
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_steps", 0),
        ("n_steps", 2.5),
        ("step_size", -1.0),
        ("step_size", np.nan),
        ("init", np.zeros((3, 3))),
        ("init", np.full((2, 3), np.nan)),
        ("callback", 3),
    ],
)
def test_a_bad_keyword_of_a_chain_is_refused_by_name(name, value):
    fitted = KernelScoreEstimator(**NUMBERS).fit(hills(40))
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        fitted.sample(2, **{name: value})
    with pytest.raises(TypeError, match="unexpected keyword 'stepsize'"):
        fitted.sample(2, stepsize=0.1)


@pytest.mark.parametrize("sampler", ["mala", "langevin"])
@pytest.mark.parametrize("standardize", ["full", "diag", None])
def test_init_and_callback_are_in_the_units_of_x(sampler, standardize):
    units = [1e-2, 1.0, 1e2] if standardize else [1.0, 2.0, 0.5]
    X = hills(300) * units + [1.0, 0.0, 1e4]
    est = KernelScoreEstimator(n_components=30, standardize=standardize, **NUMBERS).fit(X)
    start, seen = hills(300, seed=3) * units + [1.0, 0.0, 1e4], []
    rows = est.sample(
        300,
        random_state=0,
        sampler=sampler,
        init=start,
        n_steps=2,
        step_size=1e-18,
        callback=lambda step, which, points: seen.append((step, which, points)),
    )
    np.testing.assert_allclose((rows - start) / X.std(axis=0), 0, atol=1e-6)
    assert [(step, w.start, w.stop) for step, w, _ in seen] == [
        (1, 0, 256),
        (2, 0, 256),
        (1, 256, 300),
        (2, 256, 300),
    ]
    np.testing.assert_array_equal(np.vstack([seen[1][2], seen[3][2]]), rows)
    with_init, without = (
        est.sample(20, random_state=0, sampler=sampler, n_steps=5, init=init)
        for init in (start[:20], None)
    )
    assert np.abs(with_init - without).max() > 1e-3
    few = est.sample(7, random_state=0, sampler=sampler, n_steps=5, init=start[:7])
    np.testing.assert_array_equal(few, with_init[:7])


def test_repeated_rows_are_fitted():
    X = np.repeat(hills(20), 5, axis=0)
    est = KernelScoreEstimator(random_state=0).fit(X)
    assert np.isfinite(est.score_samples(X)).all()
    two = KernelScoreEstimator(random_state=0).fit([[0.0], [1.0]])
    assert np.isfinite(two.score_samples([[0.3]])).all()


def test_a_bandwidth_out_of_proportion_is_refused_by_name():
    with pytest.raises(ValueError, match="bandwidth"):
        KernelScoreEstimator(bandwidth=1e-100, alpha=1.0).fit(hills(40))


def test_a_constant_column_counts_in_a_metric_of_its_own():
    X = np.insert(hills(), 3, 2.5, axis=1)
    with pytest.warns(DataWarning, match="Constant"):
        est = KernelScoreEstimator(**NUMBERS).fit(X)
    plain = KernelScoreEstimator(**NUMBERS).fit(X[:, :3])
    trace, without = est._field(X, np.eye(4))[1], plain._field(X[:, :3], np.eye(3))[1]
    np.testing.assert_allclose(trace, without - 1, rtol=1e-6)
    np.testing.assert_allclose(est.score_samples(X + 1)[:, 3], -1.0)
    np.testing.assert_allclose(est.energy(X + np.eye(4)[3] * 2) - est.energy(X), 2.0)
