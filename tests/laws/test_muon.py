"""Laws of Muon: the orthogonal factor of a matrix, and which weights move along it."""

import math

import pytest
import torch
from torch import nn

from skscore._adamw import AdamW
from skscore._muon import LENGTH, Muon, has_convolutions, orthogonal
from skscore._training import History, Plan, fit_score
from skscore.networks import MLP, UNet

RATE = torch.tensor([[0.01]], dtype=torch.float64)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


class Mixed(nn.Module):
    """A convolution, a matrix, a vector, and a convolution that is not trained."""

    def __init__(self):
        super().__init__()
        self.before = nn.Parameter(draw(3, seed=1))
        self.frozen = nn.Parameter(draw(2, 2, 3, 3, seed=2), requires_grad=False)
        self.kernel = nn.Parameter(draw(4, 2, 3, 3, seed=3))
        self.matrix = nn.Parameter(draw(4, 5, seed=4))

    def loss(self, step):
        terms = [(p * draw(*p.shape, seed=10 + step)).sum() for p in self.trained()]
        return sum(terms) + sum(p.square().sum() for p in self.trained())

    def trained(self):
        return [self.before, self.kernel, self.matrix]


@pytest.mark.parametrize("shape", [(4, 36), (36, 4), (20, 20), (1, 7)])
@pytest.mark.parametrize("size", [1.0, 1e-3, 1e12])
def test_the_factor_has_the_directions_of_a_matrix_and_no_lengths(shape, size):
    U, S, Vh = torch.linalg.svd(draw(*shape), full_matrices=False)
    lengths = torch.logspace(0, -2, len(S), dtype=torch.float64)
    inside = U.T @ orthogonal(size * (U * lengths) @ Vh) @ Vh.T
    off = inside - torch.diag(inside.diagonal())
    assert off.abs().max() < 1e-10
    assert (inside.diagonal() > 0.6).all()
    assert (inside.diagonal() < 1.3).all()


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-30])
def test_the_factor_of_next_to_nothing_is_next_to_nothing(size):
    """In float32: a momentum whose gradients have stopped neither goes on nor is no number."""
    assert orthogonal(size * draw(4, 9).to(torch.float32)).abs().max() < 0.05


def test_convolutions_move_along_the_momentum_and_the_rest_as_adamw_moves_it():
    ours, twin = Mixed(), Mixed()
    options = {"weight_decay": 0.3, "max_norm": 1e9}
    muon, adamw = Muon(ours, **options), AdamW(twin, **options)
    momentum = torch.zeros(4, 18, dtype=torch.float64)
    for step in range(3):
        kernel = ours.kernel.detach().clone().view(4, 18)
        muon.step(ours.loss(step), RATE)
        momentum.lerp_(muon.gradient[0, 3:75].view(4, 18), 0.1)
        adamw.step(twin.loss(step), RATE)
        # To rounding: where a part begins decides which of its ends are not taken in whole vectors.
        torch.testing.assert_close(ours.before, twin.before, rtol=1e-14, atol=1e-15)
        torch.testing.assert_close(ours.matrix, twin.matrix, rtol=1e-14, atol=1e-15)
        moved = (ours.kernel.view(4, 18) - kernel * (1 - 0.3 * RATE)) / RATE
        wanted = -LENGTH * math.sqrt(18) * orthogonal(momentum)
        torch.testing.assert_close(moved, wanted, rtol=1e-9, atol=1e-9)
    assert not torch.equal(ours.kernel, twin.kernel)
    assert torch.equal(ours.frozen, Mixed().frozen)


def test_each_member_moves_at_its_own_rate():
    both = nn.ModuleList([Mixed(), Mixed()])
    rates = torch.tensor([[0.01], [0.0]], dtype=torch.float64)
    Muon(both, weight_decay=0.1, n_members=2).step(sum(m.loss(0) for m in both), rates)
    alone, still = Mixed(), Mixed()
    Muon(alone, weight_decay=0.1).step(alone.loss(0), RATE)
    for a, b in zip(both[0].parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
    for a, b in zip(both[1].parameters(), still.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("scales", [(1e4, 1e6, 1e5), (1e6, 1e3, 1e3)])
def test_how_much_too_long_a_gradient_is_does_not_matter(scales):
    """Clipped, each has the same length, and the same part in the momentum."""

    def moved(scales):
        module = Mixed()
        optimiser = Muon(module, weight_decay=0.0, max_norm=1e-3)
        for step, scale in enumerate(scales):
            optimiser.step(scale * module.loss(step), RATE)
        return optimiser.weights

    torch.testing.assert_close(moved(scales), moved((1.0, 1.0, 1.0)), rtol=1e-6, atol=1e-9)


def test_which_modules_have_convolutions():
    image = {"image_shape": (1, 4, 4), "widths": (4,)}
    assert has_convolutions(UNet(16, 16, generator=stream(), **image))
    assert not has_convolutions(MLP(3, 3, generator=stream()))
    assert not has_convolutions(UNet(16, 16, generator=stream(), **image).requires_grad_(False))


def test_training_moves_all_directions_of_a_convolution_equally():
    model = nn.Conv2d(3, 4, 3, dtype=torch.float64, bias=False)
    before = model.weight.detach().clone()
    budget = {"n_epochs": 1, "batch_size": 8, "learning_rate": 0.01, "weight_decay": 0.0}
    plan = Plan(**budget, n_iter_no_change=5, tol=0.0, adaptive=False, average=False)

    def objective(model, x, generator):
        return model(x.view(-1, 3, 4, 4)).square().flatten(1).sum(dim=1)

    fit_score(model, draw(8, 48), None, objective, plan, generator=stream(), history=History())
    lengths = torch.linalg.svdvals((model.weight - before).view(4, 27))
    assert lengths.max() < 2 * lengths.min()
