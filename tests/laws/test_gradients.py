"""Parameter gradients of the objectives of one field: central differences, float64, step 1e-5."""

from functools import partial

import pytest
import torch
from torch import nn

from skscore._model import ScoreModel
from skscore.networks import MLP
from skscore.objectives import OBJECTIVES, PROJECTIONS, denoising, sliced

D = 3
OBJECTIVE_CASES = {
    **{name: f for name, f in OBJECTIVES.items() if name != "noise_conditional"},
    "denoising": partial(denoising, sigma=0.5),
    **{
        f"sliced, {name}": partial(sliced, projection=name, n_projections=2) for name in PROJECTIONS
    },
    "sliced, plain": partial(sliced, variance_reduction=False, n_projections=2),
}

WITH_A_DERIVATIVE = {k: f for k, f in OBJECTIVE_CASES.items() if "denoising" not in k}


class Custom(nn.Module):
    """A network of a user's own: residual, normalised, and no closed form."""

    def __init__(self, n_outputs, norm=nn.RMSNorm):
        super().__init__()
        self.a, self.b = nn.Linear(D, D), nn.Linear(D, n_outputs)
        self.norm = norm(D)

    def forward(self, x):
        return self.b(x + torch.sin(self.norm(self.a(x) + x)))


def mlp(sizes, n_outputs, kind=MLP):
    return kind(D, n_outputs, generator=torch.Generator().manual_seed(0), hidden_layer_sizes=sizes)


NETWORK_CASES = {
    "one layer": partial(mlp, (5,)),
    "two layers": partial(mlp, (5, 4)),
    "three layers": partial(mlp, (5, 4, 5)),
    "custom": Custom,
}


def model_of(network, woken, energy):
    A = torch.randn(D, D, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return ScoreModel(woken(network), A @ A.T + torch.eye(D, dtype=torch.float64), energy=energy)


def error(objective, model, gradient_error):
    x = torch.randn(7, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def loss():
        return objective(model, x, generator=torch.Generator().manual_seed(2)).mean()

    return gradient_error(loss, model.network)


every_objective = pytest.mark.parametrize(
    "objective", OBJECTIVE_CASES.values(), ids=OBJECTIVE_CASES
)


@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
@pytest.mark.parametrize("network", NETWORK_CASES.values(), ids=NETWORK_CASES)
@every_objective
def test_gradient_equals_central_differences(objective, network, energy, woken, gradient_error):
    model = model_of(network(1 if energy else D), woken, energy)
    assert error(objective, model, gradient_error) < 1e-6


@every_objective
def test_gradient_of_a_linear_energy(objective, woken, gradient_error):
    model = model_of(mlp((), 1), woken, energy=True)
    assert error(objective, model, gradient_error) < 1e-6


def test_gradient_of_a_linear_field(woken, gradient_error):
    model = model_of(mlp((), D), woken, energy=False)
    assert error(OBJECTIVES["exact"], model, gradient_error) < 1e-6


@pytest.mark.xfail(reason="torch's layer_norm has a wrong second derivative, pytorch issue 196700")
@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
def test_gradient_through_layer_norm(energy, woken, gradient_error):
    model = model_of(Custom(1 if energy else D, nn.LayerNorm), woken, energy)
    assert error(OBJECTIVES["sliced"], model, gradient_error) < 1e-6


class Forgetful(MLP):
    """A twin whose derivatives are numbers: right values, wrong gradients."""

    def value_and_divergence(self, x, metric=None):
        s, divergence = super().value_and_divergence(x, metric)
        return s, divergence.detach()

    def value_and_jvp(self, x, v):
        s, jv = super().value_and_jvp(x, v)
        return s, jv.detach()


@pytest.mark.parametrize("objective", WITH_A_DERIVATIVE.values(), ids=WITH_A_DERIVATIVE)
def test_a_detached_derivative_is_seen(objective, woken, gradient_error):
    model = model_of(mlp((5, 4), D, Forgetful), woken, energy=False)
    assert error(objective, model, gradient_error) > 1e-3
