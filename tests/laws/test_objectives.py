"""Laws of the objectives: floor, Fisher divergence, directions.

``J`` the mean of an objective, ``F`` the Fisher divergence, ``v`` directions. An objective with
``directions=`` is averaged over all 2^d sign vectors, so that nothing random is left. Those with
``noise=`` have another minimiser: test_denoising.py.
"""

import inspect
import itertools
import math
from functools import partial

import pytest
import torch

from skscore._autodiff import value_and_divergence, value_and_jvp
from skscore.networks import MLP
from skscore.objectives import OBJECTIVES, exact, sliced


def corners(n, d):
    v = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d)), dtype=torch.float64)
    return v[:, None, :].expand(-1, n, -1)


def without_noise(objective):
    return "noise" not in inspect.signature(objective).parameters


def exhausted(objective):
    if "directions" not in inspect.signature(objective).parameters:
        return objective
    return lambda score, x: objective(score, x, directions=corners(*x.shape))


def twin(sign=1.0, norm=0.5, share=False):
    def objective(score, x):
        s, divergence = value_and_divergence(score, x)
        trace = sign * divergence / (x.shape[1] if share else 1)
        return trace + norm * (s * s).sum(dim=1)

    return objective


def norm_over_m(score, x, *, directions):
    s, jv = value_and_jvp(score, x, directions)
    return (directions * jv).sum(dim=-1).mean(dim=0) + (s * s).sum(dim=-1) / (2 * len(directions))


RIGHT = {name: exhausted(f) for name, f in OBJECTIVES.items() if without_noise(f)}
RIGHT["sliced, plain"] = exhausted(partial(sliced, variance_reduction=False))
WRONG = {
    "sign": twin(sign=-1.0),
    "norm halved": twin(norm=0.25),
    "no half": twin(norm=1.0),
    "trace over d": twin(share=True),
    "norm over m": exhausted(norm_over_m),
    "1 % off": lambda score, x: 1.01 * exact(score, x),
}
right = pytest.mark.parametrize("objective", RIGHT.values(), ids=RIGHT)
wrong = pytest.mark.parametrize("objective", WRONG.values(), ids=WRONG)


def floor_error(objective, x):
    """How far J over s_a(x) = -a x is from a minimum at a = 1 with the value -d / 2."""
    a = torch.ones((), dtype=torch.float64, requires_grad=True)
    J = objective(lambda u: -a * u, x).mean()
    (slope,) = torch.autograd.grad(J, a)
    beside = [float(objective(lambda u, b=b: -b * u, x).mean().detach()) for b in (0.9, 1.1)]
    below = max(0.0, float(J.detach()) - min(beside))
    return max(abs(float(J.detach()) + x.shape[1] / 2), abs(float(slope)), below)


@right
@pytest.mark.parametrize("d", [1, 2, 5])
def test_floor_at_the_score_of_a_normal(objective, d, whitened):
    assert floor_error(objective, whitened(50, d)) < 1e-12


@wrong
def test_wrong_objectives_have_another_floor(objective, whitened):
    assert floor_error(objective, whitened(50, 5)) > 1e-3


def fisher_gap(objective, score, truth, x, w):
    """J - F + 1/2 E|truth|^2 under the weights w: zero for every field."""
    s, t = score(x), truth(x)
    F = 0.5 * (w * ((s - t) ** 2).sum(dim=1)).sum()
    return float(abs((w * objective(score, x)).sum() - F + 0.5 * (w * (t * t).sum(dim=1)).sum()))


def affine_case(whitened, d=4):
    stream = torch.Generator().manual_seed(3)
    A, B = torch.randn(2, d, d, generator=stream, dtype=torch.float64)
    b, m = torch.randn(2, d, generator=stream, dtype=torch.float64)
    S = B @ B.T + torch.eye(d, dtype=torch.float64)
    x = m + whitened(60, d) @ torch.linalg.cholesky(S).T
    P = torch.linalg.inv(S)
    weights = torch.full((60,), 1 / 60, dtype=torch.float64)
    return lambda u: b - u @ A.T, lambda u: -(u - m) @ P, x, weights


def quadrature_case(d, woken):
    """A mixture of two Gaussians on a grid, and a field that is nonlinear and no gradient."""
    half, n = (14.0, 20_001) if d == 1 else (11.0, 221)
    axis = torch.linspace(-half, half, n, dtype=torch.float64)
    x = torch.cartesian_prod(*[axis] * d).reshape(-1, d).requires_grad_()
    centres = torch.tensor([[-2.0, 1.0], [1.5, -0.5]], dtype=torch.float64)[:, :d]
    scales = torch.tensor([0.8, 1.2], dtype=torch.float64)
    mass = torch.tensor([0.3, 0.7], dtype=torch.float64)

    def log_density(u):
        square = torch.cdist(u, centres) ** 2 / scales**2
        constant = d * torch.log(scales * math.sqrt(2 * math.pi))
        return torch.logsumexp(-0.5 * square - constant + mass.log(), dim=1)

    p = log_density(x)
    (truth,) = torch.autograd.grad(p.sum(), x)
    w = p.detach().exp() * (2 * half / (n - 1)) ** d
    x = x.detach()
    network = woken(MLP(d, d, generator=torch.Generator().manual_seed(0), hidden_layer_sizes=(9,)))
    return network.requires_grad_(False), lambda u: truth, x, w


@right
def test_j_minus_f_is_constant_for_affine_fields(objective, whitened):
    assert fisher_gap(objective, *affine_case(whitened)) < 1e-10


@wrong
def test_wrong_objectives_leave_a_gap(objective, whitened):
    assert fisher_gap(objective, *affine_case(whitened)) > 1e-3


@right
@pytest.mark.parametrize("d", [1, 2])
def test_j_minus_f_is_constant_by_quadrature(objective, d, woken):
    assert fisher_gap(objective, *quadrature_case(d, woken)) < 1e-10


@wrong
def test_wrong_objectives_leave_a_gap_by_quadrature(objective, woken):
    assert fisher_gap(objective, *quadrature_case(2, woken)) > 1e-3


@right
def test_all_sign_vectors_give_the_exact_objective_row_by_row(objective, woken):
    d = 6
    network = woken(MLP(d, d, generator=torch.Generator().manual_seed(0), hidden_layer_sizes=(8,)))
    x = torch.randn(9, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(objective(network, x), exact(network, x), rtol=1e-12, atol=1e-12)
        alone = torch.cat([objective(network, row) for row in x.split(1)])
        torch.testing.assert_close(alone, objective(network, x), rtol=1e-12, atol=1e-12)


def by_hand(score, x, v, reduced):
    J = -torch.diag(torch.arange(1.0, x.shape[1] + 1, dtype=torch.float64))
    s = score(x)
    norm = (s * s).sum(dim=1) if reduced else (v * s).sum(dim=1) ** 2
    return torch.einsum("ni,ij,nj->n", v, J, v) + 0.5 * norm


@pytest.mark.parametrize("reduced", [True, False])
def test_directions_to_a_row_are_averaged(reduced):
    x, *v = torch.randn(4, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = torch.arange(1.0, 6.0, dtype=torch.float64)
    value = sliced(lambda u: -u * scale, x, directions=torch.stack(v), variance_reduction=reduced)
    one_by_one = [by_hand(lambda u: -u * scale, x, vj, reduced) for vj in v]
    torch.testing.assert_close(value, torch.stack(one_by_one).mean(dim=0), rtol=1e-12, atol=0)
