"""Laws of every sampler at one level: rows are independent, steps seen, divergence is an error."""

import math
import warnings
from itertools import pairwise

import pytest
import torch

from skscore.exceptions import DivergenceError, SamplingWarning
from skscore.samplers import AT_ONE_LEVEL, langevin, mala

every_sampler = pytest.mark.parametrize("sampler", AT_ONE_LEVEL.values(), ids=AT_ONE_LEVEL)


class Target:
    """The score and the energy of a density proportional to ``1 / cosh x``, column by column."""

    def __call__(self, x):
        return -torch.tanh(x)

    def energy(self, x):
        return torch.log(torch.cosh(x)).sum(dim=1)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def rows_are_independent(sampler):
    x = 2 * torch.randn(50, 3, generator=stream(9), dtype=torch.float64)
    other = x.clone()
    other[0] += 0.7
    a, b = (sampler(Target(), s, generator=stream(), step_size=0.3, n_steps=20) for s in (x, other))
    return torch.equal(a[1:], b[1:]) and not torch.equal(a[0], b[0])


def batch_step(score, x, *, generator, step_size, n_steps):
    """The twin whose step comes from the batch's mean force."""
    for _ in range(n_steps):
        eta = step_size / float(score(x).norm(dim=1).mean())
        x = langevin(score, x, generator=generator, step_size=eta, n_steps=1)
    return x


@every_sampler
def test_a_path_depends_on_its_row_alone(sampler):
    assert rows_are_independent(sampler)
    assert not rows_are_independent(batch_step)


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_callback_sees_every_step_and_the_result_is_seeded(sampler, dtype):
    start = torch.ones(5, 2, dtype=dtype)
    seen, before = [], torch.get_rng_state()

    def run(seed, callback=None):
        return sampler(
            Target(), start, generator=stream(seed), step_size=0.2, n_steps=7, callback=callback
        )

    last = run(0, lambda step, x: seen.append((step, x.clone())))
    assert [step for step, _ in seen] == list(range(1, 8))
    assert all(not torch.equal(a, b) for (_, a), (_, b) in pairwise(seen))
    assert torch.equal(seen[-1][1], last)
    assert last.dtype == dtype
    assert torch.equal(run(0), last)
    assert not torch.equal(run(1), last)
    assert torch.equal(start, torch.ones_like(start))
    assert torch.equal(before, torch.get_rng_state())


def pushed(x, which, force, at):
    """Run Langevin with no force but `force` on some rows, at step `at` alone; return all steps."""
    calls, seen = [], []

    def score(points):
        calls.append(None)
        field = torch.zeros_like(points)
        if len(calls) == at:
            field[which] = force
        return field

    last = langevin(
        score,
        x,
        generator=stream(),
        step_size=0.1,
        n_steps=at + 2,
        reach=50.0,
        callback=lambda step, points: seen.append(points.clone()),
    )
    assert torch.equal(last, seen[-1])
    return torch.stack(seen)


FORCES = [math.nan, math.inf, -math.inf, 1e3, 1e30]


@pytest.mark.parametrize("force", FORCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_lost_chain_begins_again_where_it_started_and_disturbs_no_other(force, dtype):
    x = torch.randn(9, 2, generator=stream(1), dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calm = pushed(x, [], 0.0, at=4)
    with pytest.warns(SamplingWarning, match="began again"):
        path = pushed(x, [3], force, at=4)
    assert torch.equal(path[3, 3], x[3])
    assert torch.equal(path[:3], calm[:3])
    others = [i for i in range(9) if i != 3]
    assert torch.equal(path[:, others], calm[:, others])
    step = calm[4, 3] - calm[3, 3]  # the noise of the step after
    torch.testing.assert_close(path[4, 3], x[3] + step, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("force", FORCES)
def test_many_lost_chains_are_an_error_that_names_the_step(force):
    x = torch.zeros(9, 2)
    with pytest.raises(DivergenceError, match=r"diverged at step 4: use step_size < 0\.1"):
        pushed(x, slice(0, 5), force, at=4)


def test_one_lost_chain_in_many_is_not_worth_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pushed(torch.zeros(100, 2), [7], math.nan, at=4)


def test_langevin_runs_away_beyond_twice_the_variance():
    with pytest.raises(DivergenceError, match="diverged at step"):
        langevin(torch.neg, torch.ones(9, 2), generator=stream(), step_size=2.5)
    langevin(torch.neg, torch.ones(9, 2), generator=stream(), step_size=1.9)


@pytest.mark.parametrize("energy", [1.0, math.nan, math.inf])
def test_mala_that_is_stuck_is_an_error(energy):
    class Normal(Target):
        def __call__(self, x):
            return -x

        def energy(self, x):
            return energy * 0.5 * (x * x).sum(dim=1)

    with pytest.raises(DivergenceError, match=r"stuck: 0\.00% .* step_size < 50,"):
        mala(Normal(), torch.ones(9, 20), generator=stream(), step_size=50.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_mala_refuses_a_move_to_where_the_energy_is_not_finite(bad):
    class Walled(Target):
        def energy(self, x):
            return torch.where((x > 1).any(dim=1), bad, super().energy(x))

    x = mala(Walled(), torch.zeros(500, 2), generator=stream(), step_size=0.5, n_steps=50)
    assert x.max() <= 1
    assert x.min() < -1
