"""Laws of the curl penalty and of the exact directions, whatever the path to the derivatives.

``J = ds/dx`` (n, i, j), ``v`` directions, float64. A wrapper that hides the closed forms of a
network sends every product through reverse mode, which is the reference here.
"""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn

from skscore import SlicedScoreEstimator
from skscore._autodiff import value_and_products
from skscore._model import GradientField, ScoreModel
from skscore.datasets import GaussianMixture
from skscore.networks import ACTIVATIONS, MLP
from skscore.objectives import PROJECTIONS, curl, denoising, exact, sliced
from skscore.objectives._curl import first_rows, on_all

DEPTHS = [(), (7,), (7, 5), (6, 7, 5), (5, 6, 7, 5)]
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n=7, d=4, seed=1):
    return torch.randn(n, d, generator=stream(seed), dtype=torch.float64)


class Plain(nn.Module):
    """A module without its closed forms."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def precision(d):
    A = torch.randn(d, d, generator=stream(4), dtype=torch.float64)
    return A @ A.T + torch.eye(d, dtype=torch.float64)


def mlp(woken, d=4, sizes=(7, 5), activation="softplus", n_outputs=None):
    network = MLP(d, n_outputs or d, generator=stream(), hidden_layer_sizes=sizes)
    network.activation = activation
    return woken(network)


def gradient(objective, score, network, x):
    value = objective(score, x, generator=stream(3))
    grads = torch.autograd.grad(
        (value * torch.arange(1.0, len(x) + 1, dtype=x.dtype)).sum(), list(network.parameters())
    )
    return value.detach(), torch.cat([g.reshape(-1) for g in grads])


PENALISED = {
    "sliced": partial(sliced, curl_penalty=10.0),
    "sliced, three": partial(sliced, curl_penalty=2.0, n_projections=3),
    "sliced, gaussian, plain": partial(
        sliced, curl_penalty=3.0, projection="gaussian", variance_reduction=False
    ),
    "sliced, unit vectors": partial(sliced, curl_penalty=10.0, n_projections=4),
    "exact": partial(exact, curl_penalty=10.0),
    "exact, no penalty": exact,
    "denoising": partial(denoising, sigma=0.5, curl_penalty=10.0),
}


@pytest.mark.parametrize("sizes", DEPTHS, ids=len)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("objective", PENALISED.values(), ids=PENALISED)
def test_gradients_equal_those_of_reverse_mode(objective, activation, sizes, woken):
    x, network = rows(), mlp(woken, sizes=sizes, activation=activation)
    P = precision(4)
    closed, plain = (ScoreModel(f, P, energy=False) for f in (network, Plain(network)))
    (a, da), (b, db) = (gradient(objective, f, network, x) for f in (closed, plain))
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * float(b.abs().max()))
    assert (da - db).abs().max() < 1e-8 * db.abs().max()
    assert da.abs().max() > 1e-2
    with torch.no_grad():  # and without a graph
        torch.testing.assert_close(objective(closed, x, generator=stream(3)), a, **TIGHT)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_exact_objective_of_few_columns_is_penalised_alike(d, woken):
    x, network = rows(d=d), mlp(woken, d=d)
    for objective in (partial(exact, curl_penalty=10.0), partial(sliced, n_projections="auto")):
        (a, da), (b, db) = (gradient(objective, f, network, x) for f in (network, Plain(network)))
        torch.testing.assert_close(a, b, **TIGHT)
        torch.testing.assert_close(da, db, rtol=1e-8, atol=1e-10)
    generator = stream()
    before = generator.get_state()
    whole = sliced(network, x, n_projections=d, curl_penalty=10.0)
    assert torch.equal(exact(network, x, curl_penalty=10.0, generator=generator), whole)
    assert torch.equal(generator.get_state(), before)


# The penalty ------------------------------------------------------------------------------------


def test_a_gradient_has_no_curl(woken):
    x = rows()
    energy = GradientField(mlp(woken, n_outputs=1))
    skip = ScoreModel(MLP(4, 4, generator=stream()).to(torch.float64), precision(4), energy=False)
    model = ScoreModel(mlp(woken, n_outputs=1), precision(4), energy=True)
    for field in (energy, skip, model, torch.sin, torch.neg):
        for seed in range(3):
            assert curl(field, x, generator=stream(seed)).abs().max() < 1e-25
    assert curl(mlp(woken), x, generator=stream()).min() > 1e-6


def test_the_curl_of_a_linear_field_by_hand():
    x, v = rows(), rows(seed=2)[None]
    B = torch.randn(4, 4, generator=stream(5), dtype=torch.float64)
    value = curl(lambda u: u @ B.T, x, directions=v)
    scale = (v[0] @ B.T).square().sum(dim=1).mean() / 4 + 1
    by_hand = (v[0] @ (B - B.T).T).square().sum(dim=1) / scale.sqrt()
    torch.testing.assert_close(value, by_hand, **TIGHT)
    signs = PROJECTIONS["rademacher"]((1, 7, 4), stream(3), x)
    drawn = curl(lambda u: u @ B.T, x, generator=stream(3))
    torch.testing.assert_close(drawn, curl(lambda u: u @ B.T, x, directions=signs), **TIGHT)


def test_the_scale_has_no_part_in_the_gradient():
    x, v = rows(), rows(seed=2)[None]
    B = torch.randn(4, 4, generator=stream(5), dtype=torch.float64)
    a = torch.ones((), dtype=torch.float64, requires_grad=True)
    value = curl(lambda u: a * u @ B.T, x, directions=v).sum()
    (slope,) = torch.autograd.grad(value, a)
    torch.testing.assert_close(slope, 2 * value.detach(), **TIGHT)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_unit_vectors_give_the_mean_over_all_sign_vectors(d, woken, jacobian):
    x, network = rows(d=d), mlp(woken, d=d).requires_grad_(False)
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d)), dtype=torch.float64)
    numerators, scales = [], []
    for v in corners:
        v = v.expand(len(x), d)[None]
        _, jv, _ = value_and_products(network, x, v, v[0])
        scales.append((jv[0] ** 2).sum(dim=1).mean() / d)
        numerators.append(curl(network, x, directions=v) * (scales[-1] + 1).sqrt())
    mean = torch.stack(numerators).mean(dim=0) / (torch.stack(scales).mean() + 1).sqrt()
    whole = sliced(network, x, n_projections=d, curl_penalty=1.0)
    torch.testing.assert_close(whole - exact(network, x), mean, rtol=1e-10, atol=1e-10)
    J = jacobian(network, x)
    frobenius = (J - J.mT).square().sum(dim=(1, 2))
    frobenius = frobenius / (J.square().sum(dim=(1, 2)).mean() / d + 1).sqrt()
    torch.testing.assert_close(mean, frobenius, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 7, 8])
@pytest.mark.parametrize("members", [(), (3,)])
def test_a_penalty_of_every_second_row_keeps_its_mean(n, members):
    x = torch.rand(*members, n, 4, generator=stream(), dtype=torch.float64)
    penalty = first_rows(x)[..., 0] + 1
    assert penalty.shape[-1] == math.ceil(n / 2)
    spread = on_all(penalty, n)
    assert spread.shape == (*members, n)
    torch.testing.assert_close(spread.mean(dim=-1), penalty.mean(dim=-1), **TIGHT)
    assert not spread[..., penalty.shape[-1] :].any()


@pytest.mark.parametrize("reduced", [True, False])
def test_the_penalty_is_added_to_the_first_rows(reduced, woken):
    x, network = rows(), mlp(woken).requires_grad_(False)
    plain = partial(sliced, network, x, directions=(v := rows(14, seed=2).view(2, 7, 4)))
    added = plain(variance_reduction=reduced, curl_penalty=3.0) - plain(variance_reduction=reduced)
    penalty = curl(network, x[:4], directions=v[:1, :4])
    # The scale is that of all rows, which only the sliced objective knows.
    some, every = ((network_jv(network, x[:n], v[:1, :n]) ** 2).mean() for n in (4, 7))
    penalty = penalty * ((some + 1) / (every + 1)).sqrt()
    torch.testing.assert_close(added, on_all(3.0 * penalty, 7), rtol=1e-10, atol=1e-10)
    drawn = exact(network, x, generator=stream(3), curl_penalty=3.0) - exact(network, x)
    penalty = curl(network, x[:4], generator=stream(3))
    torch.testing.assert_close(drawn, on_all(3.0 * penalty, 7), rtol=1e-10, atol=1e-10)


def network_jv(network, x, v):
    return value_and_products(network, x, v, v[0])[1][0]


# The directions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("d", "n_projections"), [(1, 1), (2, "auto"), (3, "auto"), (4, 4), (4, 9), (6, 6)]
)
@pytest.mark.parametrize("penalty", [0.0, 10.0])
def test_as_many_directions_as_columns_are_exact(d, n_projections, penalty, woken):
    x, network = rows(d=d), mlp(woken, d=d).requires_grad_(False)
    generator = stream()
    before = generator.get_state()
    plain = partial(sliced, network, x, n_projections=n_projections)
    torch.testing.assert_close(plain(generator=generator), exact(network, x), **TIGHT)
    a = plain(generator=generator, curl_penalty=penalty)
    assert torch.equal(generator.get_state(), before)
    for projection in ("gaussian", "sphere"):
        assert torch.equal(a, plain(curl_penalty=penalty, projection=projection))
    for random in ({"variance_reduction": False}, {"n_projections": d - 1}):
        if random.get("n_projections") != 0:
            plain(**random, generator=generator, projection="gaussian")
            assert not torch.equal(generator.get_state(), before)
            before = generator.get_state()


def test_auto_is_one_direction_beyond_three_columns(woken):
    x, network = rows(), mlp(woken).requires_grad_(False)
    auto, one, two = (
        sliced(network, x, generator=stream(), n_projections=n) for n in ("auto", 1, 2)
    )
    assert torch.equal(auto, one)
    assert not torch.equal(auto, two)


# What it is for ---------------------------------------------------------------------------------


def test_a_penalised_field_is_nearly_a_gradient(jacobian):
    law = GaussianMixture.random(n_features=10, random_state=0)
    X, Q = law.sample(400, random_state=0), law.sample(100, random_state=1)
    asymmetry = {}
    for penalty in (0.0, 10.0):
        est = SlicedScoreEstimator(
            hidden_layer_sizes=(32, 32),
            curl_penalty=penalty,
            n_members=1,
            max_iter=100,
            batch_size=64,
            early_stopping=False,
            device="cpu",
            random_state=0,
        ).fit(X)
        J = jacobian(est._model, torch.tensor(est._affine.transform(Q)))
        gap = (J - J.mT).flatten(1).norm(dim=1) / J.flatten(1).norm(dim=1)
        asymmetry[penalty] = float(gap.mean())
    assert asymmetry[10.0] < 0.5 * asymmetry[0.0]
    assert asymmetry[0.0] > 0.05
