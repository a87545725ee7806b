"""Laws of the denoising objectives: minimiser, value, variance, penalty and gradients.

``y = x + sigma z``. Rows (x, z) that are whitened together, or of signs, leave nothing to chance:
over ``s_a(y) = -a y`` both objectives have their minimum at ``a = 1 / (1 + sigma^2)``.
"""

import math
from functools import partial

import pytest
import torch
from torch import nn

from skscore._denoiser import Denoiser
from skscore.networks import MLP, Ensemble, NoiseConditionalMLP
from skscore.noise import Ladder, LogUniform
from skscore.objectives import OBJECTIVES, curl, denoising, noise_conditional
from skscore.objectives._curl import first_rows, on_all

TIGHT = {"rtol": 1e-12, "atol": 1e-12}
SIGMAS = [0.05, 0.5, 1.0, 3.0]


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


def signs(n, d, seed=1):
    return draw(n, d, seed=seed).sign()


def test_every_objective_of_noise_has_its_law_here():
    assert set(OBJECTIVES) - {"exact", "sliced"} == {"denoising", "noise_conditional"}


# One level --------------------------------------------------------------------------------------


def twin(noise=1.0, half=0.5, pull=1.0, power=1, share=False):
    """The same objective by hand, with a fault or with none."""

    def objective(score, x, *, sigma, noise_of_rows, **_):
        z = noise_of_rows
        total = 0.0
        for sign in (1, -1):
            s = score(x + sign * noise * sigma * z)
            inner = pull * sign * (s * z).sum(dim=1) / sigma**power
            total = total + half * (s * s).sum(dim=1) + inner
        return total / 2 / (x.shape[1] if share else 1)

    return lambda score, x, *, sigma, noise: objective(score, x, sigma=sigma, noise_of_rows=noise)


WRONG = {
    "sign": twin(pull=-1.0),
    "no half": twin(half=1.0),
    "no sigma": twin(power=0),
    "sigma squared": twin(power=2),
    "noise of sigma squared": lambda score, x, *, sigma, noise: twin(noise=sigma)(
        score, x, sigma=sigma, noise=noise
    ),
    "over d": twin(share=True),
}


def floor_error(objective, sigma, x, z):
    """How far J is from a minimum at a = 1 / (1 + sigma^2) with the value -d / 2 (1 + sigma^2)."""
    a = torch.tensor(1 / (1 + sigma**2), dtype=torch.float64, requires_grad=True)
    J = objective(lambda u: -a * u, x, sigma=sigma, noise=z).mean()
    (slope,) = torch.autograd.grad(J, a)
    at = float(J.detach())
    near = [
        float(objective(lambda u, b=b: -b * u, x, sigma=sigma, noise=z).mean())
        for b in (0.9 / (1 + sigma**2), 1.1 / (1 + sigma**2))
    ]
    value = -x.shape[1] / (2 * (1 + sigma**2))
    return max(abs(at - value), abs(float(slope)), max(0.0, at - min(near)))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("d", [1, 4])
def test_floor_of_denoising(d, sigma, whitened):
    x, z = whitened(60, 2 * d).split(d, dim=1)
    assert floor_error(denoising, sigma, x, z) < 1e-11
    assert floor_error(twin(), sigma, x, z) < 1e-11


@pytest.mark.parametrize("objective", WRONG.values(), ids=WRONG)
def test_wrong_denoising_has_another_floor(objective, whitened):
    x, z = whitened(60, 8).split(4, dim=1)
    assert floor_error(objective, 0.5, x, z) > 1e-3


@pytest.mark.parametrize("sigma", SIGMAS)
def test_what_denoising_leaves_out_is_a_constant(sigma):
    x, z, A = draw(9, 3), signs(9, 3, seed=2), draw(3, 3, seed=3)

    def s(y):
        return torch.tanh(y @ A)

    whole = [0.5 * ((s(x + w * sigma * z) + w * z / sigma) ** 2).sum(dim=1) for w in (1, -1)]
    gap = (whole[0] + whole[1]) / 2 - denoising(s, x, sigma=sigma, noise=z)
    torch.testing.assert_close(gap, torch.full_like(gap, 3 / (2 * sigma**2)), **TIGHT)


def test_denoising_tends_to_the_exact_objective(jacobian):
    """Signs along every axis average ``z' J z`` to the trace, up to terms of sigma^2."""
    x, A = draw(9, 2), draw(2, 2, seed=3)
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)

    def s(y):
        return torch.tanh(y @ A)

    J = jacobian(s, x)
    limit = J.diagonal(dim1=1, dim2=2).sum(dim=1) + 0.5 * (s(x) ** 2).sum(dim=1)
    gaps = []
    for sigma in (1e-1, 1e-2, 1e-3):
        values = [denoising(s, x, sigma=sigma, noise=z.expand(9, 2)) for z in corners]
        gaps.append(float((sum(values) / 2 - limit).abs().max()))
    assert gaps[0] > 1e-4
    assert gaps[1] / gaps[0] == pytest.approx(1e-2, rel=0.1)
    assert gaps[2] / gaps[1] == pytest.approx(1e-2, rel=0.1)


# Many levels ------------------------------------------------------------------------------------


class Field:
    """``-a y`` with an own a at each level of a ladder."""

    def __init__(self, sigmas, a):
        self.sigmas, self.a = torch.tensor(sigmas, dtype=torch.float64), a

    def __call__(self, y, sigma):
        assert sigma.shape == (len(y), 1)
        return -self.a[(sigma == self.sigmas).long().argmax(dim=1), None] * y


def level_twin(weight=lambda sigma: sigma, sign=1.0, half=0.5, mixed=False):
    """The same objective by hand, with a fault or with none."""

    def objective(score, x, *, generator, levels, noise):
        sigma, z, total = levels.draw(x, generator), noise, 0.0
        for w in (1, -1):
            there = sigma.flip(0) if mixed else sigma
            error = score(x + w * sigma * z, there) + sign * w * z / sigma
            total = total + half * ((weight(sigma) * error) ** 2).sum(dim=1)
        return total / 2

    return objective


WRONG_LEVELS = {
    "no weight": level_twin(weight=torch.ones_like),
    "weight of sigma squared": level_twin(weight=torch.square),
    "sign": level_twin(sign=-1.0),
    "no half": level_twin(half=1.0),
    "levels of other rows": level_twin(mixed=True),
}


def ladder_error(objective, sigmas, d=3):
    """How far J is from a minimum with a_i = 1 / (1 + sigma_i^2), of the mean d / 2 (1 + ..)."""
    n = 12 * len(sigmas)
    right = [1 / (1 + s**2) for s in sigmas]
    a = torch.tensor(right, dtype=torch.float64, requires_grad=True)
    case = {"levels": Ladder(sigmas), "noise": signs(n, d, seed=2)}
    J = objective(Field(sigmas, a), signs(n, d), generator=stream(), **case).mean()
    (slope,) = torch.autograd.grad(J, a)
    value = d * sum(right) / (2 * len(right))
    return max(abs(float(J.detach()) - value), float(slope.abs().max()))


LADDERS = [[1.0], [3.0, 0.5], [4.0, 2.0, 1.0, 0.1]]


@pytest.mark.parametrize("sigmas", LADDERS, ids=len)
def test_floor_of_many_levels(sigmas):
    assert ladder_error(noise_conditional, sigmas) < 1e-12
    assert ladder_error(level_twin(), sigmas) < 1e-12


@pytest.mark.parametrize("objective", WRONG_LEVELS.values(), ids=WRONG_LEVELS)
def test_wrong_levels_have_another_floor(objective):
    assert ladder_error(objective, LADDERS[2]) > 1e-3


def test_at_one_level_both_objectives_are_one():
    x, z, sigma = draw(9, 3), draw(9, 3, seed=2), 0.7
    many = noise_conditional(
        lambda y, _: torch.sin(y), x, generator=stream(), levels=Ladder([sigma]), noise=z
    )
    one = denoising(torch.sin, x, sigma=sigma, noise=z)
    torch.testing.assert_close(many, sigma**2 * one + (z * z).sum(dim=1) / 2, **TIGHT)


def for_each(rows, sigma):
    """Return a level for each row, of levels that neighbours may share."""
    return sigma.repeat_interleave(len(rows) // len(sigma), dim=0)


def test_a_field_that_weighs_its_levels_is_asked():
    class Plain:
        def __call__(self, y, sigma):
            return torch.sin(y) / for_each(y, sigma)

    class Weighing(Plain):
        def weighed_error(self, y, target, sigma):
            return (self(y, sigma) - target) / (1 + for_each(y, sigma))

    x, case = draw(9, 3), {"levels": LogUniform(5.0, 0.1), "noise": draw(9, 3, seed=2)}
    by_hand = level_twin(weight=lambda sigma: 1 / (1 + sigma))
    weighed = noise_conditional(Weighing(), x, generator=stream(), **case)
    expected = by_hand(Plain(), x, generator=stream(), **case)
    torch.testing.assert_close(weighed, expected, **TIGHT)
    plain = noise_conditional(Plain(), x, generator=stream(), **case)
    assert (plain - expected).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("n", "asked", "shared"),
    [
        (9, {}, 1),
        (12, {}, 4),
        (4, {}, 4),
        (3, {}, 1),
        (12, {"shared": 1}, 1),
        (9, {"shared": 3}, 3),
    ],
)
def test_the_two_of_a_pair_and_some_neighbours_share_a_level(n, asked, shared):
    x, z, seen = draw(n, 3), draw(n, 3, seed=2), []

    class Spy:
        def __call__(self, y, sigma):
            seen.append((y, for_each(y, sigma)))
            return -y

    class Weighing(Spy):
        def weighed_error(self, y, target, sigma):
            return (self(y, sigma) - target) * for_each(y, sigma)

    case = {"levels": LogUniform(5.0, 0.1), "noise": z, **asked}
    a, b = (noise_conditional(f, x, generator=stream(), **case) for f in (Spy(), Weighing()))
    torch.testing.assert_close(a, b, **TIGHT)
    (y, sigma), (other_y, other_sigma) = seen
    assert torch.equal(y, other_y)
    assert torch.equal(sigma, other_sigma)
    groups = sigma.view(n // shared, 2 * shared)
    assert (groups == groups[:, :1]).all()
    assert len(groups[:, 0].unique()) == n // shared
    noise = torch.stack([sigma[::2] * z, -sigma[1::2] * z], dim=1).view(2 * n, 3)
    torch.testing.assert_close(y, x.repeat_interleave(2, dim=0) + noise, **TIGHT)


def test_noise_is_seeded_and_drawn_after_the_levels():
    x, levels = draw(9, 3), LogUniform(5.0, 0.1)

    def s(y, sigma):
        return torch.sin(y)

    run = partial(noise_conditional, s, x, levels=levels)
    a, b, c = (run(generator=stream(seed)) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    g = stream(3)
    levels.draw(x, g)
    z = torch.randn(9, 3, generator=g, dtype=torch.float64)
    torch.testing.assert_close(
        run(generator=stream(3)), run(generator=stream(3), noise=z), rtol=0, atol=0
    )
    one = partial(denoising, torch.sin, x, sigma=0.3)
    assert torch.equal(one(generator=stream(3)), one(noise=draw(9, 3, seed=3)))
    assert not torch.equal(one(generator=stream(3)), one(generator=stream(4)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_members_in_one_batch_equal_members_alone(name):
    if name in ("exact", "sliced"):
        pytest.skip("test_ensemble.py has it")
    x, z = draw(3, 9, 2), draw(3, 9, 2, seed=2)
    if name == "denoising":
        together = denoising(torch.sin, x, sigma=0.4, noise=z)
        alone = [denoising(torch.sin, a, sigma=0.4, noise=b) for a, b in zip(x, z, strict=True)]
    else:
        case = {"generator": stream(), "levels": Ladder([0.4])}

        def s(y, sigma):
            return torch.sin(y) / sigma

        together = noise_conditional(s, x, noise=z, **case)
        alone = [noise_conditional(s, a, noise=b, **case) for a, b in zip(x, z, strict=True)]
    assert together.shape == (3, 9)
    torch.testing.assert_close(together, torch.stack(alone), **TIGHT)


# The variance as sigma goes to zero -------------------------------------------------------------


def unpaired(score, x, *, generator, sigma):
    """The twin that perturbs each row once."""
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    s = score(x + sigma * z)
    return 0.5 * (s * s).sum(dim=1) + (s * z).sum(dim=1) / sigma


def growth(objective):
    """The variance at sigma = 1e-4 over that at 1e-2."""
    x = draw(4000, 3)
    wide, narrow = (
        float(objective(torch.sin, x, generator=stream(), sigma=sigma).var())
        for sigma in (1e-2, 1e-4)
    )
    return narrow / wide


def test_the_variance_stays_finite_without_noise():
    assert growth(denoising) == pytest.approx(1, rel=1e-2)
    assert growth(unpaired) > 1e3


def gradient_growth(pairs):
    """The same of the gradient of one row's objective at many levels, by a parameter a."""
    x, spread = draw(4000, 3), []
    for sigma in (1e-2, 1e-4):
        a = torch.ones(4000, 1, dtype=torch.float64, requires_grad=True)
        both = a.repeat_interleave(2, dim=0)

        class Scaled:
            def __call__(self, y, _, both=both):
                return both * torch.sin(y)

            def weighed_error(self, y, target, _):
                return self(y, _) - target

        case = {"generator": stream(), "levels": Ladder([sigma])}
        if pairs:
            value = noise_conditional(Scaled(), x, **case)
        else:
            value = unpaired(lambda y, a=a: a * torch.sin(y), x, generator=stream(), sigma=sigma)
        (gradient,) = torch.autograd.grad(value.sum(), a)
        spread.append(float(gradient.var()))
    return spread[1] / spread[0]


def test_the_variance_of_gradients_at_many_levels_stays_finite():
    assert gradient_growth(pairs=True) == pytest.approx(1, rel=1e-2)
    assert gradient_growth(pairs=False) > 1e3


# The penalty ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 6, 7])
def test_the_penalty_is_that_of_the_blurred_first_rows(n, woken):
    network = woken(MLP(4, 4, generator=stream(), hidden_layer_sizes=(6,))).requires_grad_(False)
    x, z = draw(n, 4), draw(n, 4, seed=2)
    plain = denoising(network, x, sigma=0.5, noise=z)
    added = denoising(network, x, sigma=0.5, noise=z, generator=stream(3), curl_penalty=2.0) - plain
    penalty = curl(network, first_rows(x + 0.5 * z), generator=stream(3))
    torch.testing.assert_close(added, on_all(2.0 * penalty, n), **TIGHT)
    clean = curl(network, first_rows(x), generator=stream(3))
    assert (added - on_all(2.0 * clean, n)).abs().max() > 1e-6
    energy = denoising(torch.sin, x, sigma=0.5, noise=z, generator=stream(3), curl_penalty=2.0)
    torch.testing.assert_close(energy, denoising(torch.sin, x, sigma=0.5, noise=z), **TIGHT)


# Gradients --------------------------------------------------------------------------------------


class Foreign(nn.Module):
    """A network of a user's own, which sees the condition."""

    def __init__(self, d, n_outputs, conditional=True):
        super().__init__()
        self.a, self.b, self.conditional = nn.Linear(d + 1, 5), nn.Linear(5, n_outputs), conditional

    def forward(self, x, condition=None):
        if not self.conditional:
            condition = torch.ones_like(x[..., :1])
        return self.b(torch.sin(self.a(torch.cat([x, condition], dim=-1))))


def noisy(n_outputs, sizes=(5, 4), seed=0):
    return NoiseConditionalMLP(3, n_outputs, generator=stream(seed), hidden_layer_sizes=sizes)


NETWORKS = {
    "no layer": partial(noisy, sizes=()),
    "two layers": noisy,
    "ensemble": lambda o: Ensemble([noisy(o, seed=seed) for seed in range(2)]),
    "foreign": partial(Foreign, 3),
}


def denoiser(network, energy, woken):
    A = draw(3, 3, seed=4)
    P = A @ A.T + torch.eye(3, dtype=torch.float64)
    return Denoiser(woken(network(1 if energy else 3)), P, energy=energy)


def error(objective, model, gradient_error):
    x, levels = draw(7, 3), LogUniform(3.0, 0.3)

    def loss():
        return objective(model, x, generator=stream(2), levels=levels).mean()

    return gradient_error(loss, model.network)


def half_detached(score, x, *, generator, levels):
    """The twin whose square is a product with a number."""
    sigma = levels.draw(x, generator)
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    miss = score.weigh(score(x + sigma * z, sigma) + z / sigma, sigma)
    return 0.5 * (miss * miss.detach()).sum(dim=-1)


@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_gradient_equals_central_differences(network, energy, woken, gradient_error):
    model = denoiser(network, energy, woken)
    assert error(noise_conditional, model, gradient_error) < 1e-6
    assert error(half_detached, model, gradient_error) > 1e-3


def test_one_level_in_training_equals_one_level_bound(woken):
    """The objective of a Denoiser is that of its model at the level, in the metric of `weigh`."""
    model = denoiser(noisy, False, woken).requires_grad_(False)
    x, z, sigma = draw(9, 3), draw(9, 3, seed=2), 0.6
    case = {"generator": stream(), "levels": Ladder([sigma]), "noise": z}
    level = torch.full((1, 1), sigma, dtype=torch.float64)
    misses = [model.at(sigma)(x + w * sigma * z) + w * z / sigma for w in (1, -1)]
    by_hand = sum(0.5 * (model.weigh(m, level) ** 2).sum(dim=1) for m in misses) / 2
    torch.testing.assert_close(noise_conditional(model, x, **case), by_hand, **TIGHT)
    off = denoising(model.at(sigma), x, sigma=sigma, noise=z) + (z * z).sum(dim=1) / 2 / sigma**2
    assert math.isfinite(float(off.sum()))
    assert (off - by_hand).abs().max() > 1e-2
