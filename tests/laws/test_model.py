"""Laws of the score model: one sign, the Gaussian skip, symmetric Jacobians of energies.

``s(u) = -P u + r(u)``, ``E`` an energy with ``s = -grad E``, float64.
"""

import pytest
import torch
from torch import nn

from skscore._autodiff import value_and_curvature, value_and_divergence, value_and_jvp
from skscore._model import GradientField, ScoreModel
from skscore.networks import MLP, NETWORKS

D = 3
TIGHT = {"rtol": 1e-11, "atol": 1e-11}


def precision():
    B = torch.randn(D, D, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return B @ B.T + torch.eye(D, dtype=torch.float64)


class Custom(nn.Module):
    """A network of a user's own, without a closed form."""

    def __init__(self, n_features, n_outputs, *, generator):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_features, n_outputs))

    def forward(self, x):
        return torch.sin(2 * x) @ self.weight + (x**3) @ self.weight


def model_of(network, woken, energy):
    inner = network(D, 1 if energy else D, generator=torch.Generator().manual_seed(0))
    inner = woken(inner)
    if hasattr(inner, "at"):  # it takes a condition
        inner = inner.at(torch.full((1,), 0.7, dtype=torch.float64))
    return ScoreModel(inner, precision(), energy=energy)


OF_VECTORS = {name: made for name, made in NETWORKS.items() if name != "unet"}  # see test_unet.py
every_network = pytest.mark.parametrize(
    "network", [*OF_VECTORS.values(), Custom], ids=[*OF_VECTORS, "custom"]
)
both = pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])


@pytest.fixture
def x():
    return torch.randn(6, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@every_network
def test_the_field_is_minus_the_gradient_of_the_energy(network, x, woken):
    model = model_of(network, woken, energy=True)
    u = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.energy(u).sum(), u)
    torch.testing.assert_close(model(x), -gradient, **TIGHT)
    assert model.energy(x).shape == (6,)
    assert (model(x) - gradient).abs().max() > 1e-3  # the sign


def asymmetry(model, x, jacobian):
    J = jacobian(model, x)
    return float((J - J.transpose(1, 2)).abs().max())


@every_network
def test_only_an_energy_has_a_symmetric_jacobian(network, x, woken, jacobian):
    assert asymmetry(model_of(network, woken, energy=True), x, jacobian) < 1e-11
    assert asymmetry(model_of(network, woken, energy=False), x, jacobian) > 1e-3


@both
def test_the_skip_alone_is_the_score_of_a_gaussian(energy, x):
    network = MLP(D, 1 if energy else D, generator=torch.Generator().manual_seed(0))
    P = precision()
    model = ScoreModel(network.to(torch.float64), P, energy=energy)
    normal = torch.distributions.MultivariateNormal(
        torch.zeros(D, dtype=P.dtype), precision_matrix=P
    )
    u = x.clone().requires_grad_()
    (truth,) = torch.autograd.grad(normal.log_prob(u).sum(), u)
    torch.testing.assert_close(model(x), truth, **TIGHT)
    s, divergence = value_and_divergence(model, x)
    torch.testing.assert_close(s, truth, **TIGHT)
    torch.testing.assert_close(divergence, (-P.trace()).expand(6), **TIGHT)
    if energy:
        shift = model.energy(x) + normal.log_prob(x)
        torch.testing.assert_close(shift, shift[:1].expand(6), **TIGHT)


@both
@every_network
@pytest.mark.parametrize("grad", [False, True], ids=["evaluating", "training"])
def test_derivatives_equal_autograd(network, energy, grad, x, woken, jacobian):
    model = model_of(network, woken, energy)
    J = jacobian(model, x)
    v = torch.randn(4, 6, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    A = precision() + 1.0
    with torch.set_grad_enabled(grad):
        s, jv = value_and_jvp(model, x, v)
        pairs = [value_and_divergence(model, x, metric) for metric in (None, A)]
        r, curvature = value_and_curvature(model, x, v, v.flip(0))
    torch.testing.assert_close(curvature, torch.einsum("mni,nij,mnj->mn", v.flip(0), J, v), **TIGHT)
    torch.testing.assert_close(jv, torch.einsum("nij,mnj->mni", J, v), **TIGHT)
    torch.testing.assert_close(pairs[0][1], torch.einsum("nii->n", J), **TIGHT)
    torch.testing.assert_close(pairs[1][1], torch.einsum("nij,ji->n", J, A), **TIGHT)
    for tensor in (s, jv, r, curvature, *(t for pair in pairs for t in pair)):
        assert tensor.requires_grad == grad
    for value in (s, r, *(pair[0] for pair in pairs)):
        torch.testing.assert_close(value, model(x), **TIGHT)


@both
def test_second_derivatives_reach_the_weights(energy, x, woken, jacobian):
    """The gradient of the divergence in the weights equals autograd's through the Jacobian."""
    model = model_of(MLP, woken, energy)
    _, divergence = value_and_divergence(model, x)
    slow = torch.einsum("nii->", jacobian(model, x, create_graph=True))
    weights = model.network.weights
    for a, b in zip(
        torch.autograd.grad(divergence.sum(), list(weights)),
        torch.autograd.grad(slow, list(weights)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
        assert b.abs().max() > 0


@both
def test_only_the_network_is_trained(energy, woken):
    model = model_of(MLP, woken, energy)
    trained = {id(p) for p in model.parameters()}
    assert trained == {id(p) for p in model.network.parameters()}
    assert isinstance(model.residual, GradientField) == energy


class Backwards(GradientField):
    """The twin: plus the gradient."""

    def forward(self, x):
        return -super().forward(x)


def test_the_wrong_sign_is_seen(x, woken):
    model = model_of(MLP, woken, energy=True)
    model.residual = Backwards(model.residual.network)
    u = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.energy(u).sum(), u)
    assert (model(x) + gradient).abs().max() > 1e-3
