"""Laws of the noise levels: how often each is drawn, and the grids that samplers walk down.

n strata of equal mass: a batch of n rows has one level in each.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from skscore.noise import Ladder, LogNormal, LogUniform, _levels, geometric_grid, rho_grid

HIGH, LOW = 20.0, 0.05
N = 40


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(*shape, dtype=torch.float64):
    return torch.zeros(*shape, dtype=dtype)


def share(sigma):
    """Where a level lies between the two in its logarithm, in [0, 1]."""
    return torch.log(sigma / LOW) / math.log(HIGH / LOW)


class Independent:
    """A twin whose rows know nothing of one another."""

    def draw(self, x, generator):
        u = torch.rand(*x.shape[:-1], 1, generator=generator, dtype=x.dtype)
        return LOW * (HIGH / LOW) ** u


class Sorted(LogUniform):
    """A twin that gives the first rows of every batch the low levels."""

    def draw(self, x, generator):
        return super().draw(x, generator).sort(dim=-2).values


def one_in_each_stratum(levels, members=()):
    u = share(levels.draw(rows(*members, N, 2), stream())).squeeze(-1)
    strata = (u * N).floor().long().sort(dim=-1).values
    return bool((strata == torch.arange(N)).all())


@pytest.mark.parametrize("members", [(), (3,)])
def test_a_batch_has_one_level_in_each_stratum(members):
    assert one_in_each_stratum(LogUniform(HIGH, LOW), members)
    assert not one_in_each_stratum(Independent(), members)
    assert not one_in_each_stratum(LogUniform(HIGH, 2 * LOW), members)


@pytest.mark.parametrize(("center", "spread"), [(1.0, 1.5), (0.05, 3.0)])
def test_the_logs_of_the_levels_are_normal_between_the_ends(center, spread):
    """One level in each stratum of the law that is cut at the ends."""

    law = LogNormal(HIGH, LOW, center, spread)

    def strata(center, spread):
        levels = LogNormal(HIGH, LOW, center, spread)
        return strata_of(levels.draw(rows(N, 2), stream()).squeeze(-1), law)

    assert strata(center, spread) == list(range(N))
    assert strata(1.1 * center, spread) != list(range(N))
    assert strata(center, 1.1 * spread) != list(range(N))


@pytest.mark.parametrize("part", [0.25, 0.5])
def test_a_share_of_the_rows_is_spread_over_all_levels_below_the_center(part):
    levels, n = LogNormal(HIGH, LOW, 1.0, 2.0, uniform=part), int(part * N)
    sigma = levels.draw(rows(N, 2), stream()).squeeze(-1)
    alone = LogNormal(HIGH, LOW, 1.0, 2.0)
    assert strata_of(sigma, alone) != list(range(N))
    # The strata that the same stream draws tell which rows are of the uniform part.
    u = _levels._stratified(rows(N, 2), stream()).squeeze(-1)
    below, rest = sigma[u < part], sigma[u >= part]
    assert len(below) == n
    spread = torch.log(below / LOW) / math.log(1.0 / LOW)
    assert torch.equal((spread * n).floor().long().sort().values, torch.arange(n))
    assert strata_of(rest, alone) == list(range(N - n))


def strata_of(sigma, levels):
    """Return which of n equal parts of the cut normal law each of n levels is in, sorted."""
    ends = (math.log(end / levels.center) / levels.spread for end in (LOW, HIGH))
    law = stats.truncnorm(*ends, scale=levels.spread)
    u = law.cdf(np.log(sigma.numpy() / levels.center))
    return sorted(np.floor(u * len(sigma)).astype(int).clip(0, len(sigma) - 1))


def mean_z(levels, n=8, draws=2000):
    """The largest z, over the rows of a batch, of the mean share against one half."""
    generator = stream(1)
    u = torch.stack([share(levels.draw(rows(n, 1), generator)) for _ in range(draws)])
    return float((u.mean(dim=0) - 0.5).abs().max()) * math.sqrt(12 * draws)


def test_every_row_sees_every_level():
    assert mean_z(LogUniform(HIGH, LOW)) < 4.89
    assert mean_z(Sorted(HIGH, LOW)) > 4.89
    assert mean_z(LogUniform(HIGH, LOW, at_lowest=0.2)) > 4.89


def test_members_draw_their_own_levels():
    a, b = LogUniform(HIGH, LOW).draw(rows(2, N, 3), stream())
    assert a.shape == (N, 1)
    assert not torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "levels",
    [
        LogUniform(HIGH, LOW),
        LogNormal(HIGH, LOW, 1.0, 2.0),
        LogNormal(HIGH, LOW, 1.0, 2.0, uniform=0.3),
        LogNormal(HIGH, LOW, LOW / 2, 2.0, uniform=0.3),
        Ladder([HIGH, 1.0, LOW]),
    ],
)
def test_levels_are_in_range_seeded_and_of_the_rows_dtype(levels, dtype):
    x = rows(5000, 2, dtype=dtype)
    before = torch.get_rng_state()
    sigma = levels.draw(x, stream())
    assert (sigma.dtype, sigma.shape) == (dtype, (5000, 1))
    assert float(sigma.min()) >= LOW * (1 - 1e-6)
    assert float(sigma.max()) <= HIGH * (1 + 1e-6)
    assert torch.equal(sigma, levels.draw(x, stream()))
    assert not torch.equal(sigma, levels.draw(x, stream(1)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5])
def test_a_share_of_the_rows_is_at_the_lowest_level_and_the_rest_spread(part):
    sigma = LogUniform(HIGH, LOW, at_lowest=part).draw(rows(N, 2), stream())
    lowest = int(part * N)
    assert int((sigma == LOW).sum()) == lowest
    above = share(sigma[sigma > LOW])
    strata = (above * (N - lowest)).floor().long().sort().values
    assert torch.equal(strata, torch.arange(N - lowest))


@pytest.mark.parametrize(("n", "counts"), [(9, {3}), (10, {3, 4}), (2, {0, 1}), (300, {100})])
@pytest.mark.parametrize("members", [(), (2,)])
def test_each_rung_is_as_frequent_as_the_others(n, counts, members):
    sigmas = [3.0, 1.5, 0.7]
    drawn = Ladder(sigmas).draw(rows(*members, n, 2), stream())
    each = torch.stack([(drawn == s).sum(dim=(-2, -1)) for s in sigmas])
    assert set(each.flatten().tolist()) == counts
    assert (each.sum(dim=0) == n).all()


def test_the_rungs_are_in_random_order():
    ladder, generator = Ladder([2.0, 1.0]), stream()
    first = torch.stack([ladder.draw(rows(2, 1), generator)[0] for _ in range(400)])
    assert abs(float(first.mean()) - 1.5) < 4.89 * 0.5 / 20


# Grids ------------------------------------------------------------------------------------------

GRIDS = {
    "geometric": geometric_grid,
    "rho 7": rho_grid,
    "rho 1": lambda *ends: rho_grid(*ends, rho=1.0),
    "rho 3": lambda *ends: rho_grid(*ends, rho=3.0),
}


@pytest.mark.parametrize("ends", [(10.0, 0.01), (3.0, 0.7), (80.0, 0.002)])
@pytest.mark.parametrize("n", [2, 3, 10, 101])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_grid_goes_down_from_end_to_end(grid, n, ends):
    sigmas = grid(*ends, n)
    assert (sigmas[0], sigmas[-1]) == (pytest.approx(ends[0], rel=1e-14), ends[1])
    assert len(sigmas) == n
    assert sorted(set(sigmas), reverse=True) == sigmas
    assert grid(*ends, 1) == [ends[0]]


def curvature(values):
    """How far numbers are from equal spacing, in units of their range."""
    gaps = torch.tensor(values, dtype=torch.float64).diff()
    return float((gaps.max() - gaps.min()) / gaps.sum().abs())


ROOTS = {
    "geometric": math.log,
    "rho 7": lambda s: s ** (1 / 7),
    "rho 1": lambda s: s,
    "rho 3": lambda s: s ** (1 / 3),
}


@pytest.mark.parametrize("name", GRIDS)
def test_each_grid_is_equally_spaced_in_its_own_scale_alone(name):
    sigmas = GRIDS[name](10.0, 0.01, 30)
    for other, root in ROOTS.items():
        off = curvature([root(s) for s in sigmas])
        assert (off < 1e-13) == (other == name), (other, off)
