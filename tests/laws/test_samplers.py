"""Laws of the samplers at one level: the exact law of a chain on a Gaussian.

``lam`` the variance of the target N(0, lam), ``eta`` the step, ``a = 1 - eta / lam``. From any
Gaussian start a Langevin chain stays Gaussian: mean ``a^k x0`` and variance
``lam / (1 - eta / (2 lam)) (1 - a^2k)`` after k steps. 20,000 chains see 8 % of a variance. Fixed
seeds, alpha = 1e-6 two-sided. Never at eta = 1/2, where a missing root of 2 eta is invisible.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from skscore.samplers import AT_ONE_LEVEL, FROM_NOISE, SAMPLERS, langevin, mala

ALPHA = 1e-6
N = 20_000
TABLE = [(0.25, 1.0), (1.5, 1.0), (0.4, 4.0)]
steps = pytest.mark.parametrize(("eta", "lam"), TABLE)


class Normal:
    """The score and the energy of N(0, lam)."""

    def __init__(self, lam, drift=1.0):
        self.lam, self.drift = lam, drift

    def __call__(self, x):
        return -self.drift * x / self.lam

    def energy(self, x):
        return 0.5 * (x * x).sum(dim=1) / self.lam


class TwoHills:
    """The score and the energy of a mixture of N(-2, 1/2) and N(2, 1/2), column by column."""

    def __call__(self, x):
        return 2 * (2 * torch.tanh(4 * x) - x)

    def energy(self, x):
        return -torch.logaddexp(-((x - 2) ** 2), -((x + 2) ** 2)).sum(dim=1)

    def draw(self, shape):
        signs = torch.randint(2, shape, generator=stream(8)) * 2 - 1
        noise = torch.randn(shape, generator=stream(9), dtype=torch.float64)
        return 2.0 * signs + math.sqrt(0.5) * noise


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def p_value(x, mean, variance):
    """The smaller p of the exact tests of mean and variance of Gaussian rows."""
    x = np.asarray(x).ravel()
    z = (x.mean() - mean) / math.sqrt(variance / len(x))
    tail = stats.chi2.cdf((len(x) - 1) * x.var(ddof=1) / variance, len(x) - 1)
    return min(2 * stats.norm.sf(abs(z)), 2 * min(tail, 1 - tail))


def langevin_p(sampler, eta, lam, k=4, start=3.0, drift=1.0):
    x = torch.full((N, 1), start, dtype=torch.float64)
    x = sampler(Normal(lam, drift), x, generator=stream(), step_size=eta, n_steps=k)
    a = 1 - eta / lam
    return p_value(x, a**k * start, lam / (1 - eta / (2 * lam)) * (1 - a ** (2 * k)))


def test_every_sampler_has_its_law_here():
    assert sorted(AT_ONE_LEVEL) == ["langevin", "mala"]
    assert {**AT_ONE_LEVEL, **FROM_NOISE} == SAMPLERS  # the others: test_descents.py


@steps
@pytest.mark.parametrize("k", [1, 4, 30])
def test_langevin_has_the_exact_law(eta, lam, k):
    assert langevin_p(langevin, eta, lam, k) > ALPHA


def broken(drift=1.0, noise=lambda eta: math.sqrt(2 * eta), quiet_end=False):
    def chain(score, x, *, generator, step_size, n_steps, callback=None):
        for step in range(1, n_steps + 1):
            z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            loud = 0.0 if quiet_end and step == n_steps else noise(step_size)
            x = x + drift * step_size * score(x) + loud * z
            if callback is not None:
                callback(step, x)
        return x

    return chain


MUTANTS = {
    "root of eta": broken(noise=math.sqrt),
    "no root": broken(noise=lambda eta: 2 * eta),
    "root of 4 eta": broken(noise=lambda eta: math.sqrt(4 * eta)),
    "drift doubled": broken(drift=2.0),
    "drift halved": broken(drift=0.5),
    "last step silent": broken(quiet_end=True),
}


@steps
@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_broken_chains_have_another_law(mutant, eta, lam):
    assert langevin_p(mutant, eta, lam) < ALPHA
    assert langevin_p(broken(), eta, lam) > ALPHA


def correlation_z(sampler, eta, lam):
    """Fisher's z of the correlation of two steps of a stationary chain against a."""
    variance = lam / (1 - eta / (2 * lam))
    x = math.sqrt(variance) * torch.randn(N, 1, generator=stream(3), dtype=torch.float64)
    seen = [x]
    kwargs = {"generator": stream(4), "step_size": eta, "n_steps": 3}
    sampler(Normal(lam), x, callback=lambda _, y: seen.append(y), **kwargs)
    r = np.corrcoef(seen[-2].ravel(), seen[-1].ravel())[0, 1]
    return abs(math.atanh(r) - math.atanh(1 - eta / lam)) * math.sqrt(N - 3)


@steps
def test_neighbouring_steps_have_the_exact_correlation(eta, lam):
    assert correlation_z(langevin, eta, lam) < 4.89
    assert correlation_z(broken(drift=0.5), eta, lam) > 4.89


def mala_p(sampler, eta, lam, k=10, d=2):
    x = math.sqrt(lam) * torch.randn(N, d, generator=stream(1), dtype=torch.float64)
    x = sampler(Normal(lam), x, generator=stream(2), step_size=eta, n_steps=k)
    return p_value(x, 0.0, lam)


def without_reverse_move(score, x, *, generator, step_size, n_steps):
    """The twin that accepts by the energies alone."""
    for _ in range(n_steps):
        y = broken()(score, x, generator=generator, step_size=step_size, n_steps=1)
        u = torch.rand(len(x), generator=generator, dtype=x.dtype)
        take = torch.log(u) < score.energy(x) - score.energy(y)
        x = torch.where(take[:, None], y, x)
    return x


@pytest.mark.parametrize(("eta", "lam"), [(0.3, 1.0), (1.2, 1.0), (3.0, 4.0)])
def test_mala_is_stationary_at_any_step(eta, lam):
    assert mala_p(mala, eta, lam) > ALPHA
    for twin in (langevin, without_reverse_move):
        assert mala_p(twin, eta, lam) < ALPHA


def two_hills_z(sampler):
    """The largest z of second and fourth moments after and before, row by row in pairs."""
    before = TwoHills().draw((N, 1))
    after = sampler(TwoHills(), before, generator=stream(2), step_size=0.4, n_steps=10)
    gaps = [
        after**2 - before**2,
        after**4 - before**4,
        (after.abs() < 1.0).double() - (before.abs() < 1.0).double(),
    ]
    return max(abs(float(g.mean() / g.std())) * math.sqrt(N) for g in gaps)


def test_mala_keeps_a_law_that_is_not_gaussian():
    assert two_hills_z(mala) < 4.89
    assert two_hills_z(langevin) > 4.89
    assert two_hills_z(without_reverse_move) > 4.89


def test_mala_moves():
    x = torch.zeros(2000, 1, dtype=torch.float64)
    x = mala(Normal(1.0), x, generator=stream(), step_size=0.5, n_steps=30)
    assert p_value(x, 0.0, 1.0) > ALPHA


def ball_z(reach_given, reach=1.5):
    """z of the second moment of N(0, 1) cut off at `reach`, after steps from exact draws of it."""
    law = stats.truncnorm(-reach, reach)
    x = torch.tensor(law.rvs((N, 1), random_state=0))
    kwargs = {"step_size": 0.8, "n_steps": 10, "reach": reach_given}
    x = mala(Normal(1.0), x, generator=stream(2), **kwargs)
    spread = math.sqrt(law.moment(4) - law.moment(2) ** 2)
    return abs(float((x * x).mean()) - law.moment(2)) / spread * math.sqrt(N)


def test_mala_within_a_reach_has_the_law_cut_off_there():
    assert ball_z(1.5) < 4.89
    assert ball_z(None) > 4.89
