"""What the parts refuse, by name, when they are used without an estimator."""

import math

import pytest
import torch

from skscore.density import carry, flow_log_density, log_grid
from skscore.networks import MLP, Ensemble, NoiseConditionalMLP
from skscore.noise import Ladder, LogNormal, LogUniform, geometric_grid, rho_grid
from skscore.objectives import curl, denoising, exact, sliced
from skscore.samplers import AT_ONE_LEVEL, FROM_NOISE, conditional

NAN, INF = math.nan, math.inf


def stream():
    return torch.Generator().manual_seed(0)


class Normal:
    """N(0, I), at a noise level or none."""

    def __call__(self, x, sigma=0.0):
        return -x / (1 + sigma**2)

    def energy(self, x):
        return 0.5 * (x * x).sum(dim=1)


def walk(sampler, x=None, **params):
    x = torch.zeros(4, 2) if x is None else x
    if sampler == "conditional":
        params = {"given": torch.zeros(4, 2), "known": lambda v: 0 * v} | params
        return conditional(Normal(), x, generator=stream(), **params)
    one = sampler in AT_ONE_LEVEL
    found = AT_ONE_LEVEL[sampler] if one else FROM_NOISE[sampler]
    return found(Normal(), x, generator=stream(), **params)


ALL = {
    **{name: {"step_size": 0.1, "n_steps": 3} for name in AT_ONE_LEVEL},
    **{name: {"sigmas": [2.0, 1.0, 0.5]} for name in (*FROM_NOISE, "conditional")},
}
ALL["annealed_langevin"] |= {"step_size": 0.01}
STEPPED = [*AT_ONE_LEVEL, "annealed_langevin", "predictor_corrector", "conditional"]


@pytest.mark.parametrize("sampler", ALL)
def test_chains_start_at_finite_rows(sampler):
    assert walk(sampler, **ALL[sampler]).isfinite().all()
    for broken in (NAN, INF, -INF):
        x = torch.zeros(4, 2)
        x[2, 1] = broken
        with pytest.raises(ValueError, match="x has NaN or infinity in row 2"):
            walk(sampler, x, **ALL[sampler])
    for wrong in (torch.zeros(0, 2), torch.zeros(4), torch.zeros(4, 2, dtype=int), [[0.0, 0.0]]):
        with pytest.raises(ValueError, match="x must be a floating-point tensor of rows"):
            walk(sampler, wrong, **ALL[sampler])


@pytest.mark.parametrize("step_size", [0.0, -0.1, NAN, INF, None, "0.1"])
@pytest.mark.parametrize("sampler", STEPPED)
def test_a_step_is_positive(sampler, step_size):
    with pytest.raises(ValueError, match=r"step_size=.* is not valid"):
        walk(sampler, **ALL[sampler] | {"step_size": step_size})


@pytest.mark.parametrize(
    "sigmas", [[], [0.1, 1.0], [3.0, 1.0, 1.0], [3.0, 1.0, 0.0], [3.0, -1.0], [NAN], [INF, 1.0]]
)
@pytest.mark.parametrize("sampler", [*FROM_NOISE, "conditional"])
def test_levels_are_positive_and_fall(sampler, sigmas):
    with pytest.raises(ValueError, match=r"sigmas=\[.*decreasing"):
        walk(sampler, **ALL[sampler] | {"sigmas": sigmas})


def test_churn_is_not_negative():
    with pytest.raises(ValueError, match=r"churn=-5\.0"):
        walk("churned_heun", sigmas=[2.0, 1.0], churn=-5.0)


@pytest.mark.parametrize("grid", [geometric_grid, rho_grid])
def test_grids_have_ends(grid):
    for high, low, n in ((10.0, 0.01, 5), (7.3, 0.013, 2), (80.0, 1e-3, 40)):
        levels = grid(high, low, n)
        assert (levels[0], levels[-1], len(levels)) == (high, low, n)
        assert sorted(levels, reverse=True) == levels
    for wrong, name in (
        ((0.1, 1.0, 3), "low=1.0"),
        ((10.0, -0.1, 3), "low=-0.1"),
        ((10.0, 0.0, 3), "low=0.0"),
        ((10.0, NAN, 3), "low=nan"),
        ((INF, 1.0, 3), "high=inf"),
        ((10.0, 1.0, 0), "n_levels=0"),
        ((10.0, 1.0, 2.5), "n_levels=2.5"),
    ):
        with pytest.raises(ValueError, match=name):
            grid(*wrong)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: rho_grid(10.0, 0.1, 3, rho=0), "rho=0"),
        (lambda: log_grid(-0.1, 1.0, 2), "first=-0.1"),
        (lambda: log_grid(0.1, 1.0, 0), "n_steps=0"),
        (lambda: carry(lambda s: torch.neg, torch.ones(1, 1), [0.0, 1.0], "euler"), "scheme='e"),
        (lambda: Ladder([]), "sigmas"),
        (lambda: Ladder([1.0, 0.0]), "each of sigmas=0.0"),
        (lambda: LogUniform(10.0, 0.0), "low=0.0"),
        (lambda: LogUniform(0.1, 10.0), "low=10.0"),
        (lambda: LogUniform(10.0, 0.1, at_lowest=1.0), "at_lowest=1.0"),
        (lambda: LogNormal(10.0, 0.1, center=1.0, spread=0.0), "spread=0.0"),
        (lambda: LogNormal(10.0, 0.1, center=0.0, spread=1.0), "center=0.0"),
        (lambda: LogNormal(10.0, 0.1, center=1.0, spread=1.0, uniform=1.0), "uniform=1.0"),
        (lambda: denoising(torch.neg, torch.zeros(1, 2), sigma=0.0), "sigma=0.0"),
        (lambda: sliced(torch.neg, torch.zeros(1, 2), n_projections=1.5), "n_projections=1.5"),
        (lambda: sliced(torch.neg, torch.zeros(1, 2), n_projections=0), "n_projections=0"),
        (lambda: sliced(torch.neg, torch.zeros(1, 2), projection="foo"), "projection='foo'"),
        (lambda: MLP(0, 2, generator=stream()), "n_features=0"),
        (lambda: MLP(2, 2, generator=stream(), hidden_layer_sizes=(0,)), "hidden_layer_sizes"),
        (lambda: MLP(2, 2, generator=stream(), hidden_layer_sizes=3), "hidden_layer_sizes=3"),
        (lambda: MLP(2, 2, generator=stream(), frequency_spread=0.5), "frequency_spread=0.5"),
        (lambda: MLP(2, 2, generator=stream(), activation=["silu"]), "activation="),
        (lambda: Ensemble([]), "networks="),
    ],
)
def test_what_is_not_valid_is_named(make, name):
    with pytest.raises(ValueError, match=name):
        make()


def test_networks_of_two_designs_are_each_their_own():
    def network(cls=MLP, **params):
        made = cls(2, 2, generator=stream(), **params)
        for p in made.parameters():
            p.data.normal_(generator=stream())
        return made

    x = torch.randn(5, 2, generator=stream())
    for others in ({"activation": "tanh"}, {"hidden_layer_sizes": (16,)}):
        a, b = network(activation="silu"), network(**{"activation": "silu"} | others)
        torch.testing.assert_close(Ensemble([a, b])(x), (a(x) + b(x)) / 2)
    both = [network(NoiseConditionalMLP, activation=name) for name in ("silu", "gelu")]
    level = torch.zeros(5, 1)
    mean = (both[0](x, level) + both[1](x, level)) / 2
    torch.testing.assert_close(Ensemble(both)(x, level), mean)


def test_values_are_the_same_in_inference_mode():
    """A field without a closed form is differentiated there too."""

    def values():
        x = torch.linspace(-1, 1, 8).view(2, 4)
        v = torch.ones(1, 2, 4)
        return [
            exact(torch.sin, x),
            sliced(torch.sin, x, generator=stream()),
            curl(torch.sin, x, generator=stream()),
            flow_log_density(lambda sigma: torch.sin, x, [0.0, 1.0]),
            flow_log_density(lambda sigma: torch.sin, x, [0.0, 1.0], directions=v),
        ]

    plain = values()
    with torch.inference_mode():
        there = values()
    for a, b in zip(there, plain, strict=True):
        torch.testing.assert_close(a, b.detach())
    assert (plain[0] + 0.1 > 1).any()  # a divergence of zero would be seen
