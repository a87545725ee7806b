"""Laws of the model at all noise levels: training's path equals evaluation's, and both the formula.

``S = P^-1``, ``S_sigma = S + sigma^2 I``, F the network, float64. The reference takes roots of
whole matrices, and knows no basis. In coordinates ``w = S_sigma^-1/2 x`` the velocity is
``-sigma^2 S_sigma^-1/2 r(S_sigma^1/2 w)``, with r the residual of the score.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from skscore._autodiff import (
    value_and_curvature,
    value_and_divergence,
    value_and_jvp,
    value_and_products,
)
from skscore._denoiser import FINE, Denoiser
from skscore._model import ScoreModel
from skscore.networks import (
    MLP,
    Conjugate,
    Ensemble,
    NoiseConditionalMLP,
    UNet,
    bind,
    conjugate,
)

D, N = 3, 8
TIGHT = {"rtol": 1e-12, "atol": 1e-12}
SIGMAS = [0.01, 0.3, 1.0, 20.0]


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


def precision(d=D, seed=4):
    A = draw(d, d, seed=seed)
    return A @ A.T + 0.3 * torch.eye(d, dtype=torch.float64)


class Foreign(nn.Module):
    """A network of a user's own, whose rows do not mix."""

    def __init__(self, n_outputs, conditional=True):
        super().__init__()
        self.a, self.b = nn.Linear(D + conditional, 5), nn.Linear(5, n_outputs)

    def forward(self, x, *condition):
        return self.b(torch.tanh(self.a(torch.cat([x, *condition], dim=-1))))


def noisy(n_outputs, sizes=(6, 5), activation="silu"):
    return NoiseConditionalMLP(
        D, n_outputs, generator=stream(), hidden_layer_sizes=sizes, activation=activation
    )


def plain(n_outputs):
    return MLP(D, n_outputs, generator=stream(), hidden_layer_sizes=(6, 5))


def unet(n_outputs):
    return UNet(D, n_outputs, generator=stream(), image_shape=(1, 1, D), widths=(4, 6))


def several(factory, k=3):
    return lambda n_outputs: [factory(n_outputs) for _ in range(k)]


NETWORKS = {  # factory, and whether it takes a condition
    "no layer": (partial(noisy, sizes=()), True),
    "one layer": (partial(noisy, sizes=(6,)), True),
    "two layers": (noisy, True),
    "three layers, softplus": (partial(noisy, sizes=(5, 6, 4), activation="softplus"), True),
    "ensemble": (several(noisy), True),
    "foreign": (Foreign, True),
    "foreign, ensemble": (several(Foreign), True),
    "plain": (plain, False),
    "plain, ensemble": (several(plain), False),
    "foreign, plain": (partial(Foreign, conditional=False), False),
}
every_network = pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)
SEEING = {name: case for name, case in NETWORKS.items() if case[1] and name != "no layer"}
seeing = pytest.mark.parametrize("case", SEEING.values(), ids=SEEING)
either = pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
levels = pytest.mark.parametrize("sigma", SIGMAS)


def awake(case, energy, woken):
    """Return a woken network, and its members."""
    made = case[0](1 if energy else D)
    members = made if isinstance(made, list) else [made]
    members = [woken(network, seed=seed) for seed, network in enumerate(members)]
    return (Ensemble(members) if isinstance(made, list) else members[0]), members


def model_of(case, energy, woken, P=None):
    network, _ = awake(case, energy, woken)
    P = precision() if P is None else P
    return Denoiser(network, P, energy=energy, conditional=case[1]).requires_grad_(False)


def rows(sigma=1.0, n=N, seed=1):
    return math.sqrt(1 + sigma**2) * draw(n, D, seed=seed)


def blurred(P, sigma):
    return torch.linalg.inv(P) + sigma**2 * torch.eye(len(P), dtype=P.dtype)


def root(S):
    return torch.from_numpy(np.real(sqrtm(S.numpy())))


# The two paths ----------------------------------------------------------------------------------


@either
@every_network
def test_a_level_to_each_row_equals_one_level_for_all(case, energy, woken):
    model = model_of(case, energy, woken)
    x, sigma = rows(), torch.tensor(SIGMAS, dtype=torch.float64).repeat(2)[:, None]
    together = model(x, sigma)
    alone = torch.cat([model.at(float(s))(row[None]) for row, s in zip(x, sigma, strict=True)])
    torch.testing.assert_close(together, alone, **TIGHT)
    swapped = model(x, sigma.roll(1, dims=0))
    assert ((together - swapped).abs().max(dim=1).values > 1e-6).all()


@either
@seeing
def test_the_network_sees_the_level(case, energy, woken):
    """A twin that takes the condition of another level is another field."""
    model, x = model_of(case, energy, woken), rows()
    right = model.at(0.5)(x)
    there = model._condition
    model._condition = lambda sigma: there(2 * sigma)
    assert (model.at(0.5)(x) - right).abs().max() > 1e-3


@either
@every_network
@pytest.mark.parametrize("m", [1, 2, 4, 8])
def test_levels_that_neighbours_share_equal_those_of_each(case, energy, m, woken):
    model, x = model_of(case, energy, woken), rows()
    sigma = torch.tensor([0.01, 0.3, 1.0, 20.0, 5.0, 0.1, 2.0, 0.7], dtype=torch.float64)[:m, None]
    each = sigma.repeat_interleave(N // m, dim=0)
    torch.testing.assert_close(model(x, sigma), model(x, each), **TIGHT)
    torch.testing.assert_close(model.weigh(x, sigma), model.weigh(x, each), **TIGHT)
    if 1 < m < 8:
        assert (model(x, sigma) - model(x, sigma.repeat(N // m, 1))).abs().max() > 1e-6


ENSEMBLES = {name: case for name, case in NETWORKS.items() if "ensemble" in name}


@either
@pytest.mark.parametrize("m", [8, 2])
@pytest.mark.parametrize("case", ENSEMBLES.values(), ids=ENSEMBLES)
def test_members_in_training_are_each_their_own(case, m, energy, woken):
    network, members = awake(case, energy, woken)
    make = partial(Denoiser, precision=precision(), energy=energy, conditional=case[1])
    together = make(network).requires_grad_(False)
    alone = [make(member).requires_grad_(False) for member in members]
    x, sigma = draw(3, N, D), draw(3, m, 1, seed=2).exp()
    each = torch.stack([f(*own) for f, *own in zip(alone, x, sigma, strict=True)])
    torch.testing.assert_close(together(x, sigma), each, **TIGHT)
    same, level = x[0], sigma[0]
    mean = torch.stack([f(same, level) for f in alone]).mean(dim=0)
    torch.testing.assert_close(together(same, level), mean, **TIGHT)
    at = torch.stack([f.at(0.7)(same) for f in alone]).mean(dim=0)
    torch.testing.assert_close(together.at(0.7)(same), at, **TIGHT)
    assert (each[0] - each[1]).abs().max() > 1e-6


@either
@pytest.mark.parametrize("case", [NETWORKS["two layers"], NETWORKS["foreign"]])
def test_fields_are_the_same_with_and_without_a_graph(case, energy, woken):
    model, x, sigma = model_of(case, energy, woken), rows(), draw(N, 1, seed=2).exp()
    with torch.no_grad():
        silent = model(x, sigma)
    assert not silent.requires_grad
    model.requires_grad_(True)
    traced = model(x, sigma)
    assert traced.requires_grad
    torch.testing.assert_close(silent, traced.detach(), **TIGHT)


# The formula ------------------------------------------------------------------------------------


@levels
@either
@every_network
def test_a_network_at_zero_leaves_the_blurred_gaussian(case, energy, sigma, woken):
    P = precision()
    network, members = awake(case, energy, woken)
    for member in members:
        for p in member.parameters():
            p.data.zero_()
    model = Denoiser(network, P, energy=energy, conditional=case[1]).requires_grad_(False)
    x = rows(sigma)
    right = -torch.linalg.solve(blurred(P, sigma), x.T).T
    torch.testing.assert_close(model.at(sigma)(x), right, **TIGHT)
    level = torch.full((N, 1), sigma, dtype=torch.float64)
    torch.testing.assert_close(model(x, level), right, **TIGHT)
    twin = -torch.linalg.solve(blurred(P, 1.1 * sigma + 0.1), x.T).T
    assert (model.at(sigma)(x) - twin).abs().max() > 1e-4
    still = model.flow(sigma)(x)
    assert torch.equal(still, torch.zeros_like(still))


def condition(P, sigma, n):
    """``log(sigma / c)``, c^2 the mean variance."""
    c = torch.linalg.inv(P).trace().div(len(P)).sqrt()
    return torch.log(torch.full((n, 1), sigma, dtype=torch.float64) / c)


@levels
@every_network
def test_the_residual_of_a_score_by_whole_matrices(case, sigma, woken):
    P = precision()
    model, (network, _) = model_of(case, False, woken, P), awake(case, False, woken)
    S, S_sigma, x = torch.linalg.inv(P), blurred(P, sigma), rows(sigma)
    eye = torch.eye(D, dtype=torch.float64)
    mean = float(S.trace()) / D
    G = root(S) @ torch.linalg.inv(S_sigma) * math.sqrt(1 + sigma**2 / mean)
    height = math.sqrt(mean / (sigma**2 + FINE**2 * mean))
    F = network(x @ G, *([condition(P, sigma, N)] if case[1] else [])).detach()
    residual = model.at(sigma)(x) + x @ torch.linalg.inv(S_sigma)
    torch.testing.assert_close(residual, height * F @ G, rtol=1e-9, atol=1e-9)
    level = torch.full((N, 1), sigma, dtype=torch.float64)
    torch.testing.assert_close(model.outputs(x, level), F, rtol=1e-9, atol=1e-9)
    assert (model.outputs(x, 2 * level) - F).abs().max() > 1e-6
    # The weights of errors, up to a rotation.
    unit = root(S @ torch.linalg.inv(S_sigma @ (sigma**2 * eye + FINE**2 * S)))
    weighed = (residual @ torch.linalg.inv(unit)).norm(dim=1)
    torch.testing.assert_close(
        model.weigh(residual, level).norm(dim=1), weighed, rtol=1e-9, atol=1e-9
    )
    assert (model.weigh(residual, 2 * level).norm(dim=1) - weighed).abs().max() > 1e-6
    target = rows(sigma, seed=5) / sigma
    error = model.weigh(model(x, level) - target, level)
    torch.testing.assert_close(model.weighed_error(x, target, level), error, rtol=1e-9, atol=1e-9)


def test_factors_stay_in_the_range_of_single_precision():
    lam = torch.tensor([1e-12, 1.0, 1e12])
    model = Denoiser(torch.zeros_like, torch.diag(1 / lam), energy=False, conditional=False)
    for sigma in (1e-9, 1.0, 1e10):
        level = torch.tensor(sigma)
        assert torch.isfinite(model._inside(level)).all()
        assert (model._inside(level) > 0).all()
        assert (model._k(level) > 0).all()


@levels
def test_data_that_are_gaussian_but_for_a_direction(sigma):
    """What is to be learnt is then ``V f(V' y)`` at every level, y the rows that F sees.

    Two Gaussians of one covariance C with means m and -m: ``S = C + m m'``, V along ``S^-1/2 m``.
    """
    m, C = draw(D, seed=7), torch.linalg.inv(precision(seed=8))
    S, eye = C + torch.outer(m, m), torch.eye(D, dtype=C.dtype)
    S_sigma, within = S + sigma**2 * eye, torch.linalg.inv(C + sigma**2 * eye)
    model = Denoiser(torch.zeros_like, torch.linalg.inv(S), energy=False, conditional=False)
    V = torch.linalg.inv(root(S)) @ m
    V /= V.norm()

    def F(x):
        score = -(x - torch.tanh(x @ within @ m)[:, None] * m) @ within
        residual = score + x @ torch.linalg.inv(S_sigma)
        factors = model._k(torch.tensor(sigma, dtype=S.dtype))
        return (residual @ model.basis / factors) @ model.basis.T

    x = rows(sigma, n=40)
    values = F(x)
    close = {"rtol": 0.0, "atol": 1e-9 * float(values.abs().max())}
    torch.testing.assert_close(values, torch.outer(values @ V, V), **close)
    aside = draw(40, D, seed=9) @ (eye - torch.outer(V, V))
    elsewhere = x + aside @ S_sigma @ torch.linalg.inv(root(S))
    torch.testing.assert_close(F(elsewhere), values, **close)
    beside = x + torch.outer(draw(40, seed=9), V) @ S_sigma @ torch.linalg.inv(root(S))
    assert (F(beside) - values).abs().max() > 1e-3 * values.abs().max()


@levels
@every_network
def test_the_residual_of_an_energy_by_whole_matrices(case, sigma, woken):
    P = precision()
    model, (network, _) = model_of(case, True, woken, P), awake(case, True, woken)
    S_sigma, x = blurred(P, sigma), rows(sigma)
    mean = float(torch.linalg.inv(P).trace()) / D
    height = math.sqrt(mean / (sigma**2 + FINE**2 * mean))
    G = root(torch.linalg.inv(P)) @ torch.linalg.inv(S_sigma) * math.sqrt(1 + sigma**2 / mean)
    F = network(x @ G, *([condition(P, sigma, N)] if case[1] else [])).detach()[:, 0]
    energy = model.at(sigma).energy(x)
    gaussian = 0.5 * ((x @ torch.linalg.inv(S_sigma)) * x).sum(dim=1)
    torch.testing.assert_close(energy, gaussian + height * F, rtol=1e-9, atol=1e-9)
    u = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.at(sigma).energy(u).sum(), u)
    torch.testing.assert_close(model.at(sigma)(x), -gradient, **TIGHT)
    assert (model.at(sigma)(x) - gradient).abs().max() > 1e-3


@pytest.mark.parametrize("sigma", [0.01, 1.0, 20.0])
@either
@every_network
def test_derivatives_at_a_level_equal_autograd(case, energy, sigma, woken, jacobian):
    model, x, v, A = (
        model_of(case, energy, woken).at(sigma),
        rows(sigma),
        draw(2, N, D),
        precision(),
    )
    J = jacobian(model, x)
    scale = {"rtol": 1e-10, "atol": 1e-10 * float(J.abs().max())}
    s, jv = value_and_jvp(model, x, v)
    torch.testing.assert_close(s, model(x), **TIGHT)
    torch.testing.assert_close(jv, torch.einsum("nij,mnj->mni", J, v), **scale)
    for metric, M in ((None, torch.eye(D, dtype=J.dtype)), (A, A)):
        s, trace = value_and_divergence(model, x, metric)
        torch.testing.assert_close(s, model(x), **TIGHT)
        torch.testing.assert_close(trace, torch.einsum("nij,ji->n", J, M), **scale)
    if not (energy and case is NETWORKS["no layer"]):  # see below
        _, _, jw = value_and_products(model, x, v, v[0, :5])
        torch.testing.assert_close(jw, torch.einsum("nij,ni->nj", J[:5], v[0, :5]), **scale)
    asymmetry = (J - J.mT).abs().max() / J.abs().max()
    assert (asymmetry < 1e-11) == energy


def test_products_of_a_constant_field_of_frozen_weights(woken):
    model, x, v = model_of(NETWORKS["no layer"], True, woken).at(0.5), rows(), draw(2, N, D)
    _, _, jw = value_and_products(model, x, v, v[0, :5])
    torch.testing.assert_close(jw, -v[0, :5] @ model.precision, **TIGHT)


# The flow ---------------------------------------------------------------------------------------


@levels
@either
@every_network
def test_the_velocity_by_whole_matrices(case, energy, sigma, woken, jacobian):
    P = precision()
    model, w = model_of(case, energy, woken, P), draw(N, D)
    half = root(blurred(P, sigma))
    x = w @ half
    residual = model.at(sigma)(x) + x @ torch.linalg.inv(blurred(P, sigma))
    expected = -(sigma**2) * residual @ torch.linalg.inv(half)
    velocity = model.flow(sigma)
    torch.testing.assert_close(velocity(w), expected, rtol=1e-8, atol=1e-9)
    assert (velocity(w) + expected).abs().max() > 1e-6  # the sign
    J = jacobian(velocity, w)
    scale = {"rtol": 1e-9, "atol": 1e-11 * max(1.0, float(J.abs().max()))}
    _, trace = value_and_divergence(velocity, w)
    torch.testing.assert_close(trace, torch.einsum("nii->n", J), **scale)
    v = draw(2, N, D, seed=3)
    _, jv = value_and_jvp(velocity, w, v)
    torch.testing.assert_close(jv, torch.einsum("nij,mnj->mni", J, v), **scale)


@either
def test_the_velocity_moves_rows_as_the_probability_flow(energy, woken):
    """Central differences of ``w = S_sigma^-1/2 x`` along ``dx = -sigma s dsigma``."""
    model, sigma, h = model_of(NETWORKS["two layers"], energy, woken), 0.8, 1e-5
    x = rows(sigma)
    moved = []
    for step in (h, -h):
        there = sigma * math.exp(step)
        y = x - (there - sigma) * (sigma + there) / 2 * model.at((sigma + there) / 2)(
            x - (there - sigma) / 2 * sigma * model.at(sigma)(x)
        )
        moved.append(model.to_flow(y, there)[0])
    slope = (moved[0] - moved[1]) / (2 * h)
    w, _ = model.to_flow(x, sigma)
    torch.testing.assert_close(model.flow(sigma)(w), slope, rtol=1e-6, atol=1e-6)
    assert (2 * model.flow(sigma)(w) - slope).abs().max() > 1e-3


@levels
def test_coordinates_of_the_flow(sigma, woken, jacobian):
    P = precision()
    model, x = model_of(NETWORKS["two layers"], False, woken, P), rows(sigma)
    w, log_det = model.to_flow(x, sigma)
    torch.testing.assert_close(
        w, x @ torch.linalg.inv(root(blurred(P, sigma))), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(model.from_flow(w, sigma), x, **TIGHT)
    J = jacobian(lambda u: model.to_flow(u, sigma)[0], x)
    torch.testing.assert_close(torch.linalg.slogdet(J[0])[1], log_det, rtol=1e-12, atol=1e-11)
    assert abs(float(log_det)) > 1e-3
    normal = torch.distributions.MultivariateNormal(
        torch.zeros(D, dtype=x.dtype), covariance_matrix=blurred(P, sigma)
    )
    white = -0.5 * (w**2 + math.log(2 * math.pi)).sum(dim=1)
    torch.testing.assert_close(white + log_det, normal.log_prob(x), rtol=1e-11, atol=1e-11)


# The Gaussian, dtypes, folding ------------------------------------------------------------------


@either
def test_another_gaussian_is_another_model(energy, woken):
    case, other = NETWORKS["two layers"], precision(seed=9)
    model, x, sigma = model_of(case, energy, woken), rows(), torch.full((N, 1), 0.7).double()
    before = model(x, sigma)
    given = other.clone()
    model.set_gaussian(given)
    given.zero_()
    fresh = model_of(case, energy, woken, other)
    assert torch.equal(model(x, sigma), fresh(x, sigma))
    assert torch.equal(model.at(0.7)(x), fresh.at(0.7)(x))
    assert torch.equal(model.precision, other)
    assert (model(x, sigma) - before).abs().max() > 1e-3


@either
@every_network
def test_single_precision_is_near_and_stays_single(case, energy, woken):
    model, x = model_of(case, energy, woken), rows()
    sigma = torch.tensor(SIGMAS * 2, dtype=torch.float64)[:, None]
    right, at, flow = model(x, sigma), model.at(0.3)(x), model.flow(0.3)(x)
    model = model.to(torch.float32)
    x, sigma = x.to(torch.float32), sigma.to(torch.float32)
    pairs = [(model(x, sigma), right), (model.at(0.3)(x), at), (model.flow(0.3)(x), flow)]
    for single, double in pairs:
        assert single.dtype == torch.float32
        gap = (single - double).abs().max()
        assert gap < 1e-4 * double.abs().max()


@pytest.mark.parametrize("name", NETWORKS)
def test_conjugates_and_bound_networks(name, woken):
    factory, conditional = NETWORKS[name]
    network, _ = awake((factory, conditional), False, woken)
    network.requires_grad_(False)
    x, inside, outside = draw(N, D), draw(D, D, seed=5), draw(D, D, seed=6)
    c = torch.tensor([0.4], dtype=torch.float64)
    bound = bind(network, c) if conditional else network
    expected = network(x, c.expand(N, 1)) if conditional else network(x)
    torch.testing.assert_close(bound(x), expected, **TIGHT)
    folded, wrapped = conjugate(bound, inside, outside), Conjugate(bound, inside, outside)
    there = bound(x @ inside) @ outside
    v = draw(2, N, D, seed=7)
    for field in (folded, wrapped):
        torch.testing.assert_close(field(x), there, **TIGHT)
        s, jv = value_and_jvp(field, x, v)
        torch.testing.assert_close(s, there, **TIGHT)
        torch.testing.assert_close(jv, value_and_jvp(wrapped, x, v)[1], **TIGHT)
        s, curvature = value_and_curvature(field, x, v, v.flip(0))
        torch.testing.assert_close(s, there, **TIGHT)
        torch.testing.assert_close(curvature, (v.flip(0) * jv).sum(dim=-1), **TIGHT)
    assert (conjugate(bound, outside, inside)(x) - there).abs().max() > 1e-3


def test_perceptrons_are_folded_and_others_are_wrapped(woken):
    model = model_of(NETWORKS["two layers"], False, woken)
    assert not isinstance(model.at(0.5).residual, Conjugate)
    assert isinstance(model_of(NETWORKS["foreign"], False, woken).at(0.5).residual, Conjugate)
    ensemble = model_of(NETWORKS["ensemble"], False, woken).at(0.5).residual
    assert isinstance(ensemble, Ensemble)
    assert not any(isinstance(member, Conjugate) for member in ensemble.stack.members)


# A multiple of the identity as a number -----------------------------------------------------------


IMAGES = {"unet": (unet, True), "unet, ensemble": (several(unet), True)}


@either
@levels
@pytest.mark.parametrize("name", ["foreign", *IMAGES])
def test_an_isotropic_gaussian_is_a_number(name, sigma, energy, woken):
    """A number for the precision is that multiple of the identity, in each method."""
    case, p = {**NETWORKS, **IMAGES}[name], torch.tensor(0.7, dtype=torch.float64)
    matrix = p * torch.eye(D, dtype=torch.float64)
    number, whole = (model_of(case, energy, woken, P) for P in (p, matrix))
    x, v, level = rows(sigma), draw(2, N, D, seed=3), torch.full((N, 1), sigma, dtype=torch.float64)
    for get in (
        lambda f: f(x, level),
        lambda f: f.weigh(x, level),
        lambda f: f.at(sigma)(x),
        lambda f: value_and_jvp(f.at(sigma), x, v)[1],
        lambda f: value_and_divergence(f.at(sigma), x)[1],
        lambda f: value_and_divergence(f.at(sigma), x, matrix)[1],
        lambda f: f.flow(sigma)(x),
        lambda f: f.to_flow(x, sigma)[0],
        lambda f: f.to_flow(x, sigma)[1],
        lambda f: f.from_flow(x, sigma),
    ):
        torch.testing.assert_close(get(number), get(whole), **TIGHT)
    twin = model_of(case, energy, woken, p + 0.1)
    assert (twin(x, level) - whole(x, level)).abs().max() > 1e-8
    network = plain(D).to(torch.float64)
    one, all_ = (ScoreModel(network, P, energy=False) for P in (p, matrix))
    torch.testing.assert_close(one(x), all_(x), **TIGHT)
