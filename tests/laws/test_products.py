"""Laws of mixtures of products: their derivatives, the penalised fit, and what a fit makes of them.

``p(z) = sum_k pi_k prod_j f_kj(z_j)``, ``z = B u``, float64.
"""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from skscore import DenoisingScoreEstimator, ScoreMatchingEstimator, SlicedScoreEstimator
from skscore._autodiff import value_and_divergence, value_and_jvp
from skscore._mixture import Mixture
from skscore._model import ScoreModel
from skscore._products import FINEST, BlurredProducts, Products
from skscore.datasets import Checkerboard, Gaussian
from skscore.estimators import _products, _share
from skscore.estimators._log_splines import POINTS, Grid, LogSplines, Seen, posterior
from skscore.estimators._products import (
    WeighedBlurredProducts,
    WeighedProducts,
    likely_products,
)
from skscore.exceptions import DataWarning
from skscore.networks import MLP

D, K, N = 3, 2, 40
TIGHT = {"rtol": 1e-9, "atol": 1e-9}
EYE = np.eye(2)


def rows(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def bumpy(seed=0):
    """Return a fit of bumpy densities on a grid of D columns."""
    rng = np.random.default_rng(seed)
    grid = Grid(rows(200, D) * [1.0, 2.0, 0.5])
    waves = rng.uniform(1, 3, (K, D, 1)), rng.uniform(0, 6, (K, D, 1))
    theta = np.cos(waves[0] * grid.points + waves[1]) - 0.5 * grid.points**2
    theta -= logsumexp(theta, axis=-1, keepdims=True)
    return LogSplines(grid, theta, np.log([0.3, 0.7]))


def field_of(fit, axes):
    return WeighedProducts.of(fit, axes).field(torch.device("cpu"), torch.float64)


def mixed_axes():
    return np.random.default_rng(3).standard_normal((D, D)) + 2 * np.eye(D)


@pytest.fixture
def x():
    """Rows inside the grid and far outside of it."""
    return torch.from_numpy(rows(N, D, seed=5) * 2.5)


def test_the_log_density_goes_through_the_points(x):
    fit = bumpy()
    at = fit.grid.points[:, ::17].T
    expected = fit.log_density(fit.grid.basis(at))
    energy = field_of(fit, np.eye(D)).energy(torch.from_numpy(at)).numpy()
    np.testing.assert_allclose(-energy, expected, rtol=1e-9)


def test_the_density_integrates_to_one():
    grid = Grid(rows(200, 1))
    theta = np.cos(3 * grid.points[None]) - 0.5 * grid.points[None] ** 2
    fit = LogSplines(grid, theta - logsumexp(theta), np.zeros(1))
    z = np.linspace(grid.points[0, 0], grid.points[0, -1], 4001)
    inside = np.exp(fit.log_density(grid.basis(z[:, None]))).mean() * np.ptp(z)
    assert inside == pytest.approx(1.0, abs=1e-2)
    own = field_of(fit, np.eye(1))
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    assert float(torch.exp(-own.energy(z)).mean()) * 18 == pytest.approx(1.0, abs=1e-2)


def test_a_row_that_is_no_number_has_no_score(x):
    x[3] = torch.nan
    s = field_of(bumpy(), np.eye(D))(x)
    assert torch.equal(s.isnan().any(dim=1), torch.arange(N) == 3)


@pytest.mark.parametrize("name", ["products", "score", "energy"])
def test_derivatives_equal_autograd(name, x, woken, jacobian):
    own = field_of(bumpy(), mixed_axes())
    field, P = own, torch.eye(D, dtype=torch.float64)
    if name != "products":
        stream = torch.Generator().manual_seed(0)
        network = woken(MLP(D, 1 if name == "energy" else D, generator=stream))
        field = ScoreModel(network, P, energy=name == "energy").mixed(own, 0.4)
    J = jacobian(field, x)
    v = torch.from_numpy(rows(4 * N, D, seed=2).reshape(4, N, D))
    A = torch.from_numpy(mixed_axes() @ mixed_axes().T)
    s, jv = value_and_jvp(field, x, v)
    torch.testing.assert_close(s, field(x), **TIGHT)
    torch.testing.assert_close(jv, torch.einsum("nij,mnj->mni", J, v), **TIGHT)
    for metric in (None, A):
        q, divergence = value_and_divergence(field, x, metric)
        trace = J if metric is None else J @ A
        torch.testing.assert_close(divergence, torch.einsum("nii->n", trace), **TIGHT)
        torch.testing.assert_close(q, field(x), **TIGHT)
    if name != "score":
        u = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(field.energy(u).sum(), u)
        torch.testing.assert_close(field(x), -gradient, **TIGHT)


def test_stacked_mixtures_have_rows_of_their_own(x):
    axes = mixed_axes()
    both = [field_of(bumpy(seed), axes) for seed in (0, 1)]
    both[1] = Products(both[1].log_weights, both[1].coefficients, *list(both[0].buffers())[2:])
    stacked, each = Products.stacked(both), torch.stack([x, x + 1])
    s, divergence = stacked.value_and_divergence(each)
    for k, own in enumerate(both):
        torch.testing.assert_close(s[k], own(each[k]), **TIGHT)
        torch.testing.assert_close(divergence[k], own.value_and_divergence(each[k])[1], **TIGHT)


def test_no_tail_turns_upwards():
    """A log density that is convex at the end of its grid goes on as a straight line."""
    grid = Grid(rows(200, 1))
    theta = 0.5 * grid.points[None] ** 2
    own = field_of(LogSplines(grid, theta - logsumexp(theta), np.zeros(1)), np.eye(1))
    far = torch.tensor([[5.0], [50.0], [500.0]], dtype=torch.float64) + float(grid.points.max())
    s = own(far)
    torch.testing.assert_close(s, s[:1].expand(3, 1), **TIGHT)


# At many noise levels ---------------------------------------------------------------------------


def normals():
    """Return a mixture of products of normal densities: on points, and as Gaussians."""
    means = np.array([[-1.0, 0.5, 2.0], [1.0, -0.5, 0.0]])
    deviations = np.array([[0.3, 1.0, 0.5], [0.6, 0.4, 1.5]])
    grid = Grid(np.array([[-5.0, -4.0, -6.0], [5.0, 4.0, 7.0]]))
    theta = -0.5 * ((grid.points - means[..., None]) / deviations[..., None]) ** 2
    theta -= logsumexp(theta, axis=-1, keepdims=True)
    fit = LogSplines(grid, theta, np.log([0.3, 0.7]))
    scale = np.array([0.5, 2.0, 1.0])
    own = WeighedBlurredProducts.of(fit, np.diag(scale)).field(torch.device("cpu"), torch.float64)
    arrays = fit.log_weights, means / scale, (deviations / scale) ** 2, np.stack([np.eye(D)] * 2)
    return own, Mixture(*(torch.from_numpy(a) for a in arrays))


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.5, 3.0, 30.0])
def test_blurred_products_of_normals_are_gaussians(sigma):
    own, gaussians = normals()
    # Below the grid's own width, that stands in for the noise.
    narrow = torch.maximum(torch.tensor(sigma), FINEST * own.step / own.scale)
    blurred = gaussians.variances + narrow**2
    truth = Mixture(gaussians.log_weights, gaussians.means, blurred, gaussians.bases)
    which = np.arange(N) % K
    z = torch.from_numpy(rows(N, D, seed=8))
    u = gaussians.means[which] + blurred[which].sqrt() * z
    expected, divergence = truth.value_and_divergence(u)
    levels = torch.full((N, 1), sigma, dtype=u.dtype)
    at_level = own.at(sigma).value_and_divergence(u)
    assert (own(u, levels) - expected).norm() < 1e-3 * expected.norm()
    assert (at_level[0] - expected).norm() < 1e-3 * expected.norm()
    assert (at_level[1] - divergence).norm() < 1e-2 * divergence.norm()


def test_each_row_has_its_own_level(x):
    own, _ = normals()
    sigma = torch.from_numpy(rows(N, 1, seed=6)).abs()
    each = [own(row[None], level[None])[0] for row, level in zip(x, sigma, strict=True)]
    torch.testing.assert_close(own(x, sigma), torch.stack(each), **TIGHT)


def test_stacked_mixtures_at_many_levels(x):
    fits = [WeighedBlurredProducts.of(bumpy(seed), np.eye(D)) for seed in (0, 1)]
    both = [fit.field(torch.device("cpu"), torch.float64) for fit in fits]
    sigma = torch.from_numpy(rows(N, 1, seed=6)).abs()
    stacked = BlurredProducts.stacked(both)
    s = stacked(torch.stack([x, x + 1]), torch.stack([sigma, 2 * sigma]))
    for k, own in enumerate(both):
        own = BlurredProducts(own.log_weights, own.atoms, *list(both[0].buffers())[2:])
        torch.testing.assert_close(s[k], own(x + k, (1 + k) * sigma), **TIGHT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_row_is_so_far_that_its_score_is_no_number(dtype):
    sharp = replace(bumpy(), theta=-200 * bumpy().grid.points[None].repeat(K, 0) ** 2)
    own = WeighedBlurredProducts.of(sharp, np.eye(D)).field(torch.device("cpu"), dtype)
    far = torch.tensor([[1e3, -1e3, 0.0], [30.0, 30.0, 30.0]], dtype=dtype)
    for sigma in (0.01, 1.0):
        s = own(far, torch.full((2, 1), sigma, dtype=dtype))
        assert s.isfinite().all()
        assert ((s * far)[far != 0] < 0).all()  # it points back
        assert (own.at(sigma)(far) * far)[far != 0].max() < 0


def test_parabolas_go_on_beyond_the_grid():
    grid = Grid(rows(50, 1))
    theta = -0.5 * (grid.points[None] - 0.3) ** 2
    fit = LogSplines(grid, theta, np.zeros(1))
    found = WeighedBlurredProducts.of(fit, np.eye(1))
    points = found.start + found.step * np.arange(found.atoms.shape[-1])
    assert found.atoms.shape[-1] > POINTS
    logs = np.log(found.atoms[0, 0])
    np.testing.assert_allclose(logs - logs.max(), -0.5 * (points - 0.3) ** 2, atol=1e-3)


# The penalised fit ------------------------------------------------------------------------------


def test_interpolation_has_the_rows_it_is_given():
    Z = rows(100, 2)
    grid = Grid(Z)
    basis = grid.basis(Z).toarray().reshape(100, 2, POINTS)
    np.testing.assert_allclose(basis.sum(axis=-1), 1.0)
    np.testing.assert_allclose((basis * grid.points).sum(axis=-1), Z, atol=1e-12)
    assert ((basis > 0).sum(axis=-1) <= 2).all()
    beyond = grid.basis(np.array([[100.0, -100.0]])).toarray().reshape(2, POINTS)
    assert (beyond[0, -1], beyond[1, 0]) == (1.0, 1.0)


def test_the_penalty_and_its_derivatives():
    """Half the integral of the squared third derivative: of x^3 it is 18 times the length."""
    grid = Grid(rows(50, 2))
    cubic = grid.points**3
    inner = (POINTS - 3) * grid.step
    np.testing.assert_allclose(
        (cubic * grid.penalty_slope(cubic)).sum(axis=-1), 36 * inner, rtol=1e-6
    )
    np.testing.assert_allclose(grid.penalty_slope(grid.points**2), 0.0, atol=1e-3)
    direction = np.cos(3 * grid.points)
    product = grid.bands[0] * direction
    for shift in (1, 2, 3):
        off = grid.bands[shift, :, :-shift]
        product[:, shift:] += off * direction[:, :-shift]
        product[:, :-shift] += off * direction[:, shift:]
    np.testing.assert_allclose(product, grid.penalty_slope(direction), rtol=1e-6, atol=1e-4)


def test_smoothed_without_limit_it_is_the_normal_of_the_rows():
    Z = rows(500, 2) ** 2 + [0.0, 1.0]  # skewed
    grid = Grid(Z)
    basis = grid.basis(Z)
    seen = Seen.of(basis, np.ones((500, 1)))
    fit = LogSplines.rough(grid, seen)
    for _ in range(5):
        fit = fit.smoothed(seen, 1e6)
    s = field_of(fit, EYE)(torch.from_numpy(Z)).numpy()
    p = np.exp(fit.theta[0])
    mean = (p * grid.points).sum(axis=-1)
    np.testing.assert_allclose(mean, Z.mean(axis=0), rtol=1e-3)
    variance = (p * (grid.points - mean[:, None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(variance, Z.var(axis=0), rtol=1e-2)
    bend = np.polynomial.polynomial.polyfit(Z[:, 0], s[:, 0], 1)
    np.testing.assert_allclose(s[:, 0], bend[0] + bend[1] * Z[:, 0], atol=5e-3)


@pytest.mark.parametrize("smoothing", [1e-4, 1e-1])
def test_the_maximum_of_the_penalised_likelihood(smoothing):
    Z, n = rows(600, 2) ** 3, 600
    Z /= Z.std(axis=0)
    grid = Grid(Z)
    shares = np.random.default_rng(0).dirichlet([1.0, 1.0], size=n)
    seen = Seen.of(grid.basis(Z), shares)
    fit = LogSplines.rough(grid, seen)
    for _ in range(4):
        fit = fit.smoothed(seen, smoothing)
    part = shares.mean(axis=0)[:, None, None]
    weight = smoothing * n ** (-6 / 7) / part
    slope = seen.frequencies - np.exp(fit.theta) - weight * grid.penalty_slope(fit.theta)
    assert np.abs(slope).max() < 1e-7
    np.testing.assert_allclose(np.exp(fit.theta).sum(axis=-1), 1.0)
    np.testing.assert_allclose(np.exp(fit.log_weights), part[:, 0, 0])


def test_expectation_maximisation_climbs():
    Z = Checkerboard().sample(1500, random_state=0)
    Z /= Z.std(axis=0)
    grid = Grid(Z)
    basis, smoothing = grid.basis(Z), 1e-2
    halves = Seen.of(basis, np.eye(2)[(Z[:, 0] > 0).astype(int)])
    fit = LogSplines.rough(grid, halves).smoothed(halves, smoothing)

    def penalised(fit):
        roughness = (fit.theta * grid.penalty_slope(fit.theta)).sum() / 2
        return fit.log_density(basis).mean() - smoothing * 1500 ** (-6 / 7) * roughness

    climbed = [penalised(fit)]
    for _ in range(30):
        fit = fit.maximised(basis, smoothing, n_steps=1)
        climbed.append(penalised(fit))
    assert np.diff(climbed).min() > -1e-9
    assert climbed[-1] > climbed[0] + 0.01


@pytest.mark.parametrize("shift", [-1e5, 0.0, 1e5])
def test_posterior_shares_are_those_of_the_logs_however_large(shift):
    logs = 30 * rows(50, 4, seed=2) + shift
    given = logs.copy()
    shares, total = posterior(logs)
    expected = logsumexp(logs, axis=1)
    np.testing.assert_allclose(total, expected, rtol=1e-14)
    np.testing.assert_allclose(shares, np.exp(logs - expected[:, None]), rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(logs, given)


def test_a_component_without_rows_is_an_error():
    Z = rows(100, 2)
    shares = np.eye(2)[np.zeros(100, int)]
    with pytest.raises(np.linalg.LinAlgError, match="lost its rows"):
        Seen.of(Grid(Z).basis(Z), shares)


def test_a_component_that_loses_its_rows_is_dropped():
    Z = rows(300, D) * [1.0, 2.0, 0.5]
    pair = bumpy()
    basis = pair.grid.basis(Z)
    first = replace(pair, theta=pair.theta[:1], log_weights=np.zeros(1))
    found = replace(pair, log_weights=np.array([0.0, -60.0])).maximised(basis, 1e-2)
    np.testing.assert_allclose(found.theta, first.maximised(basis, 1e-2).theta, atol=1e-3)
    assert found.log_weights == [0.0]
    nothing = replace(pair, log_weights=np.array([np.nan, 0.0]))
    with pytest.raises(np.linalg.LinAlgError, match="lost its rows"):
        nothing.maximised(basis, 1e-2)


def test_normal_rows_are_smoothed_without_limit():
    """Less smoothing is as good within its error, and the smoothest is taken."""
    Z = rows(2000, 2)
    grid = Grid(Z)
    seen = Seen.of(grid.basis(Z), np.ones((2000, 1)))
    fit = LogSplines.rough(grid, seen).smoothed(seen, 1e-2)
    assert _products._smoothest(fit, Z) == _products.SMOOTHING[-1]
    board = Checkerboard().sample(2000, random_state=0)[:, :1]
    grid = Grid(board)
    seen = Seen.of(grid.basis(board), np.ones((2000, 1)))
    fit = LogSplines.rough(grid, seen).smoothed(seen, 1e-2)
    assert _products._smoothest(fit, board) < 0.1


# What is found ----------------------------------------------------------------------------------

BOARD = Checkerboard()
ROWS = BOARD.sample(3000, random_state=0)


def test_a_checkerboard_is_two_products():
    found = likely_products(ROWS, EYE, 0.0, seed=0)
    assert len(found.fit.log_weights) == 2
    s = found.weighed().field(torch.device("cpu"), torch.float64)(torch.from_numpy(ROWS)).numpy()
    assert np.linalg.norm(s - BOARD.score(ROWS), axis=1).mean() < 1.1  # zero has 3.1


def test_independent_columns_are_one_product():
    X = np.random.default_rng(0).gamma(3.0, size=(3000, 8))
    found = likely_products(X - X.mean(axis=0), np.eye(8), 0.0, seed=0)
    assert len(found.fit.log_weights) == 1
    rotated = np.linalg.qr(rows(8, 8))[0]
    again = likely_products((X - X.mean(axis=0)) @ rotated.T, rotated.T, 0.0, seed=0)
    u = torch.from_numpy(X - X.mean(axis=0))
    s = found.weighed().field(torch.device("cpu"), torch.float64)(u).numpy()
    B = torch.from_numpy(rotated)
    turned = again.weighed().field(torch.device("cpu"), torch.float64)(u @ B.T).numpy()
    np.testing.assert_allclose(turned @ rotated, s, rtol=1e-6, atol=1e-6)
    inside = (X > 1.0).all(axis=1)
    truth = 2 / X - 1
    assert np.linalg.norm((s - truth)[inside], axis=1).mean() < 0.35  # the Gaussian has 1.1


@pytest.mark.parametrize("d", [1, 2, 7])
def test_one_gaussian_is_no_product(d):
    assert likely_products(rows(2000, d), np.eye(d), 0.0, seed=0) is None
    if d > 1:
        X = Gaussian.random(d, random_state=0).sample(2000, random_state=0)
        assert likely_products(X - X.mean(axis=0), np.eye(d), 0.0, seed=0) is None


def test_few_or_degenerate_rows_have_none():
    assert likely_products(ROWS[:15], EYE, 0.0, seed=0) is None
    assert likely_products(0 * ROWS, EYE, 0.0, seed=0) is None
    assert likely_products(np.full_like(ROWS, np.inf), EYE, 0.0, seed=0) is None


def test_a_likelier_rival_ends_the_search(monkeypatch):
    """Compared where components are counted, by fits to the other rows there, in units of X."""
    smoothest = _products._smoothest
    searched = []

    def search(*args):
        searched.append(args)
        return smoothest(*args)

    monkeypatch.setattr(_products, "_smoothest", search)

    class Rival:
        def __init__(self, gain, collapses=False):
            self.gain, self.collapses, self.seen = gain, collapses, []

        def again(self, rows):
            self.seen.append(rows)
            return None if self.collapses else self

        def log_density(self, rows):
            self.seen.append(rows)
            return plain.log_density(rows) + self.gain

    M, axes = np.diag([30.0, 2.0]), np.diag([0.1, 1.0])
    X = ROWS @ M
    plain = likely_products(X, axes, 0.0, seed=0)
    for gain in (-0.3, 0.3):  # the errors are far below
        searched.clear()
        rival = Rival(gain)
        found = likely_products(X, axes, 0.0, seed=0, rival=rival)
        assert (found is None, len(searched)) == ((True, 0) if gain > 0 else (False, 1))
        np.testing.assert_array_equal(rival.seen[0], X[:2400])
        np.testing.assert_allclose(rival.seen[1], X[2400:])
    assert likely_products(X, axes, 0.0, seed=0, rival=Rival(9.0, collapses=True)) is not None
    blurred = Rival(9.0)
    likely_products(X, axes, 2.0, seed=0, rival=blurred)
    np.testing.assert_array_equal(blurred.seen[0], X[:2400])  # it blurs what it finds itself
    assert 1.5 < (blurred.seen[1] - X[2400:]).std() < 2.5


def test_the_mixture_of_gaussians_is_the_rival(monkeypatch):
    given = []

    def likely(*args, rival, **params):
        given.append(rival)

    monkeypatch.setattr(_share, "likely_products", likely)
    pair = np.concatenate([ROWS, ROWS @ [[0.1, 0.0], [0.0, 0.1]] + 9.0])
    list(_share._candidates(pair, pair[None], EYE, 0.0, 0))
    assert isinstance(given[0], _share.FoundMixture)
    one = rows(2000, 2)
    list(_share._candidates(one, one[None], EYE, 0.0, 0))
    assert given[1] is None
    # Fitted to one of the members' rows it collapses: then it rules out no products either.
    heap = np.concatenate([ROWS[:200], np.full((200, 2), 9.0) + 1e-4 * ROWS[:200]])
    list(_share._candidates(pair, np.stack([pair[:400], heap]), EYE, 0.0, 0))
    assert given[2] is None


# What a fit makes of it -------------------------------------------------------------------------

QUICK = {"max_iter": 1, "random_state": 0, "device": "cpu"}
every = pytest.mark.parametrize(
    "make",
    [
        SlicedScoreEstimator,
        ScoreMatchingEstimator,
        lambda **p: SlicedScoreEstimator(n_members=1, **p),
        lambda **p: SlicedScoreEstimator(standardize="diag", **p),
        lambda **p: SlicedScoreEstimator(standardize=None, **p),
        lambda **p: SlicedScoreEstimator(parametrization="energy", hidden_layer_sizes=(8,), **p),
        lambda **p: DenoisingScoreEstimator(sigma=0.02, **p),
        DenoisingScoreEstimator,
    ],
    ids=["sliced", "exact", "one", "diag", "centred", "energy", "one level", "many levels"],
)


@pytest.mark.slow
@every
def test_columns_are_those_of_the_data(make):
    """Scaled by very different numbers, and shifted."""
    scales = np.array([1e-3, 50.0])
    est = make(**QUICK).fit(ROWS * scales + [7.0, -1.0])
    assert est.mixture_share_ == 1.0
    s = est.score_samples(ROWS * scales + [7.0, -1.0]) * scales
    assert np.linalg.norm(s - BOARD.score(ROWS), axis=1).mean() < 1.3
    copy = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(copy.score_samples(ROWS), est.score_samples(ROWS))
    assert np.isfinite(est.sample(300, random_state=0)).all()


def test_rows_of_a_noise_level_have_the_products_of_that_level():
    est = SlicedScoreEstimator(**QUICK, sigma=0.2).fit(ROWS)
    assert est.mixture_share_ == 1.0
    h = np.hypot(0.15, 0.2 * ROWS.std())
    truth = Checkerboard(smoothing=h).score(ROWS)
    assert np.linalg.norm(est.score_samples(ROWS) - truth, axis=1).mean() < 0.6


def test_the_products_are_weighed_on_rows_they_have_not_seen(monkeypatch):
    seen = []

    def again(self, X):
        seen.append(X)
        return own(self, X)

    own = _products.FoundProducts.again
    monkeypatch.setattr(_products.FoundProducts, "again", again)
    SlicedScoreEstimator(**QUICK).fit(ROWS)
    assert [len(X) for X in seen] == [2700, 2700]
    assert len(np.unique(np.concatenate(seen).round(5), axis=0)) == 3000


def test_products_are_looked_for_where_they_may_be(monkeypatch):
    def refuse(*args, **params):
        raise AssertionError("looked for")

    monkeypatch.setattr(_share, "likely_products", refuse)
    mixed = ROWS @ [[1.0, 0.8], [0.0, 0.6]]
    DenoisingScoreEstimator(standardize="full", **QUICK).fit(mixed)  # noise along no column
    SlicedScoreEstimator(**QUICK).fit(np.column_stack([ROWS, ROWS.sum(axis=1)]))  # collinear
    whole = np.round(ROWS)
    with pytest.warns(DataWarning, match="few distinct values"):
        SlicedScoreEstimator(**QUICK).fit(whole)  # which have no density
    for est, X in (
        (SlicedScoreEstimator(), ROWS),
        (SlicedScoreEstimator(sigma=0.1), whole),
        (DenoisingScoreEstimator(), whole),
        (DenoisingScoreEstimator(standardize="full", shrinkage=1.0), ROWS * [30.0, 0.02]),
    ):
        with pytest.raises(AssertionError, match="looked for"):
            est.set_params(**QUICK).fit(X)


@pytest.mark.parametrize("standardize", ["full", "diag", None])
def test_a_constant_column_takes_no_products_away(standardize):
    est = SlicedScoreEstimator(standardize=standardize, **QUICK)
    plain = est.fit(ROWS).score_samples(ROWS)
    with pytest.warns(DataWarning, match="Constant columns"):
        est.fit(np.insert(ROWS, 1, 3.0, axis=1))
    assert est.mixture_share_ == 1.0
    found = est.score_samples(np.insert(ROWS, 1, 3.0, axis=1))
    np.testing.assert_allclose(found, np.insert(plain, 1, 0.0, axis=1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_values", [2, 5])
def test_rows_without_a_density_can_be_sampled(n_values):
    X = np.random.default_rng(0).integers(0, n_values, (400, 2)).astype(float)
    with pytest.warns(DataWarning, match="few distinct values"):
        est = SlicedScoreEstimator(**QUICK).fit(X)
    assert np.abs(est.sample(100, random_state=0) - X.mean(axis=0)).max() < 10 * n_values


def test_the_search_sees_rows_in_an_order_of_its_own(monkeypatch):
    """In that of the split all held-out rows come first."""
    seen = {}

    def weigh(model, judge, U, train, x_held_out, **params):
        seen["held_out"] = x_held_out.numpy().reshape(-1, 2)
        return weighed(model, judge, U, train, x_held_out, **params)

    def candidates(rows, *args):
        seen["rows"] = rows.astype(np.float32)
        return iter(())

    weighed = _share.weigh
    monkeypatch.setattr("skscore.estimators._base.weigh", weigh)
    monkeypatch.setattr(_share, "_candidates", candidates)
    SlicedScoreEstimator(**QUICK).fit(ROWS)
    held_out = (seen["rows"][:, None, 0] == seen["held_out"][None, :, 0]).any(axis=1)
    assert held_out.sum() == 600
    assert 60 < held_out[:600].sum() < 180  # 120 are expected, with a deviation of 9


def test_candidates_are_compared_on_blurred_rows(monkeypatch):
    """Where the objective blurs its rows itself, and where it is given blurred ones."""
    seen, judged = [], []

    def model_of_rows(x):
        judged.append(x.detach())
        return -x

    def weigh(model, judge, U, train, x_held_out, **params):
        seen.append(x_held_out)
        if isinstance(model, ScoreModel):
            judge(model_of_rows)

    monkeypatch.setattr("skscore.estimators._base.weigh", weigh)
    for kind in (SlicedScoreEstimator, DenoisingScoreEstimator):
        kind(sigma=0.5, standardize="diag", **QUICK).fit(ROWS)
    np.testing.assert_array_equal(*seen)
    np.testing.assert_array_equal(judged[0], seen[0])
    assert abs(float(seen[0].var()) - 1.25) < 0.1


def test_the_likelier_candidate_is_weighed():
    """On held-out rows of each member, by fits to its training rows."""

    class Candidate:
        def __init__(self, mean, collapses=False):
            self.mean, self.collapses = mean, collapses

        def again(self, rows):
            return None if self.collapses else Candidate(self.mean + rows.mean())

        def log_density(self, rows):
            return -((rows - self.mean) ** 2).sum(axis=1)

    train = np.stack([np.full((5, 2), 0.1), np.full((5, 2), 0.2)])
    held_out = torch.ones(2, 3, 2)
    assert _share._fitted_again(None, train) == []
    assert _share._fitted_again(Candidate(0.85, collapses=True), train) == []
    candidates = [Candidate(mean) for mean in (0.0, 0.9, 3.0)]
    pairs = [(each, _share._fitted_again(each, train)) for each in candidates]
    found, again = _share._likeliest(iter(pairs), held_out)
    assert found is candidates[1]
    np.testing.assert_allclose([fit.mean for fit in again], [1.0, 1.1])
    assert _share._likeliest(iter([]), held_out) == (None, [])


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("cls", [SlicedScoreEstimator, DenoisingScoreEstimator])
def test_too_few_rows_to_count_components_on_are_no_warning(cls):
    """Twenty rows are held out by all members together, and single ones by each."""
    X = np.random.default_rng(0).normal(size=(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        est = cls(n_members=20, max_iter=1, random_state=0, device="cpu").fit(X)
    assert np.isfinite(est.score_samples(X)).all()


def test_weights_add_up_when_a_component_is_dropped_at_last():
    """As it loses its rows in the last step, there is no other that would mend them."""
    Z = np.random.default_rng(0).normal(size=(300, 1))
    grid = Grid(Z)
    basis = grid.basis(Z)
    shares = np.full((300, 2), 0.5)
    fit = LogSplines.rough(grid, Seen.of(basis, shares))
    lost = LogSplines(grid, fit.theta, np.log([0.999, 0.001]))
    left = lost.maximised(basis, 1.0, n_steps=1)
    assert left.theta.shape[0] == 1
    assert np.exp(left.log_weights).sum() == pytest.approx(1.0, abs=1e-12)


def test_the_log_density_of_what_is_found():
    M = np.diag([30.0, 2.0])
    found = likely_products(ROWS @ M, np.eye(2), 0.0, seed=0)
    away = found.log_density(ROWS @ M) - BOARD.log_density(ROWS) + np.log(30.0 * 2.0)
    assert abs(away.mean()) < 0.1
    plain = likely_products(ROWS, np.eye(2), 0.0, seed=0)  # the smoothing has no unit
    np.testing.assert_allclose(found.fit.theta, plain.fit.theta, rtol=1e-6, atol=1e-6)


def test_what_loses_a_component_is_not_found_again(monkeypatch):
    """Members' mixtures are stacked, and have as many components each."""
    found = likely_products(ROWS, EYE, 0.0, seed=0)
    started = _products._started

    def lost(*args):
        fit = started(*args)
        return replace(fit, log_weights=np.array([0.0, -300.0]))

    monkeypatch.setattr(_products, "_started", lost)
    assert found.again(ROWS) is None


def test_what_is_found_again_has_forgotten_other_rows():
    found = likely_products(ROWS, EYE, 0.0, seed=0)
    other = likely_products(ROWS[::2], EYE, 0.0, seed=0)
    same = replace(found, fit=replace(other.fit, grid=found.fit.grid))
    again, expected = same.again(ROWS[:2000]), found.again(ROWS[:2000])
    np.testing.assert_array_equal(again.fit.theta, expected.fit.theta)
