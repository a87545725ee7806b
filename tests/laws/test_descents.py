"""Laws of the samplers that walk from noise to data: the exact law of each scheme on a Gaussian.

Data N(0, v), blurred score ``-x / (v + sigma^2)``. Every scheme is linear there: its end is
``a x0 + sum_j b_j z_j``, with coefficients that are worked out here from the published recursions;
from a Gaussian start the law is exactly Gaussian. 20,000 rows, fixed seeds, alpha = 1e-6 two-sided,
coarse levels, on which no fault is small.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from skscore.exceptions import DivergenceError
from skscore.noise import geometric_grid, rho_grid
from skscore.samplers import FROM_NOISE, conditional, langevin
from skscore.samplers._descent import denoised

ALPHA = 1e-6
N = 20_000
COARSE = [3.0, 1.5, 0.7]
START = (2.0, 16.0)  # mean and variance
VARIANCES = [1.0, 4.0]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Products this small are slower on two."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(v, drift=1.0):
    return lambda x, sigma: -drift * x / (v + sigma**2)


# The laws ---------------------------------------------------------------------------------------


class Linear:
    """A row as ``a x0 + sum_j b_j z_j``: the numbers (a, b_1, b_2, ...)."""

    def __init__(self, terms=(1.0,)):
        self.terms = list(terms)

    def __mul__(self, c):
        return Linear([c * t for t in self.terms])

    def __add__(self, other):
        n = max(len(self.terms), len(other.terms))
        pad = [t.terms + [0.0] * (n - len(t.terms)) for t in (self, other)]
        return Linear([s + t for s, t in zip(*pad, strict=True)])

    def noisy(self, c):
        """Add c times fresh noise."""
        return Linear([*self.terms, c])

    def law(self, mean, variance):
        a, *b = self.terms
        return a * mean, a * a * variance + sum(t * t for t in b)


def annealed_law(v, sigmas, step_size, n_steps, eta_of=None):
    x = Linear()
    for sigma in sigmas:
        eta = step_size * sigma**2 / sigmas[-1] ** 2
        for _ in range(n_steps):
            x = (x * (1 - eta / (v + sigma**2))).noisy(math.sqrt(2 * eta))
    return x


def reverse_law(v, sigmas):
    """The posterior of the lower level given the higher one and the clean row, which is its mean.

    With ``D = v x / (v + s^2)`` the clean row, ``x_l = (l/s)^2 x + (1 - (l/s)^2) D + noise``.
    """
    x = Linear()
    for s, low in pairwise(sigmas):
        r = (low / s) ** 2
        x = (x * (r + (1 - r) * v / (v + s**2))).noisy(low * math.sqrt(1 - r))
    return x


def corrected_law(v, sigmas, step_size=0.1, n_corrections=1):
    x = Linear()
    for s, low in pairwise(sigmas):
        r, eta = (low / s) ** 2, step_size * low**2
        x = (x * (r + (1 - r) * v / (v + s**2))).noisy(low * math.sqrt(1 - r))
        for _ in range(n_corrections):
            x = (x * (1 - eta / (v + low**2))).noisy(math.sqrt(2 * eta))
    return x


def multistep_law(v, sigmas, n_corrections=0, corrected=(0.0, math.inf)):
    """Lu et al. 2022, SDE-DPM-Solver++(2M), alpha = 1: D extrapolated to the middle of the step."""
    x, before = Linear(), None
    for s, low in pairwise(sigmas):
        r = (low / s) ** 2
        D, h = x * (v / (v + s**2)), math.log(s) - math.log(low)
        aim = D
        if before is not None:
            ratio = before[1] / h
            aim = D * (1 + 0.5 / ratio) + before[0] * (-0.5 / ratio)
        x = (x * r + aim * (1 - r)).noisy(low * math.sqrt(1 - r))
        before = D, h
        inside = corrected[0] <= low <= corrected[1]
        for _ in range(n_corrections if inside else 0):  # up and back, as in `reverse_law`
            up = min(2 * low, sigmas[0])
            r = (low / up) ** 2
            x = x.noisy(math.sqrt(up**2 - low**2))
            x = (x * (r + (1 - r) * v / (v + up**2))).noisy(low * math.sqrt(1 - r))
            before = None
    return x


def heun_factor(v, s, low):
    """Of ``dx/ds = s x / (v + s^2)``, by the trapezium with Euler's value at its end."""
    here, there = s / (v + s**2), low / (v + low**2)
    gap = low - s
    return 1 + gap / 2 * (here + there * (1 + gap * here))


def churned_law(v, sigmas, churn=20.0):
    x, gamma = Linear(), min(churn / (len(sigmas) - 1), math.sqrt(2) - 1)
    for s, low in pairwise(sigmas):
        up = min(s * (1 + gamma), sigmas[0])
        x = x.noisy(math.sqrt(up**2 - s**2)) * heun_factor(v, up, low)
    return x


def flow_law(v, sigmas):
    return churned_law(v, sigmas, churn=0.0)


# sampler: its law, the levels, its hyperparameters
TABLE = {
    "annealed_langevin": [(annealed_law, COARSE, {"step_size": 0.15, "n_steps": 4})],
    "churned_heun": [
        (churned_law, [3.0, 2.0, 1.5, 1.0, 0.7], {"churn": 20.0}),
        (churned_law, [3.0, 2.0, 1.5, 1.0, 0.7], {"churn": 1.0}),
        (churned_law, [3.0, 2.0, 1.5, 1.0, 0.7], {}),
    ],
    "dpm_solver": [
        (multistep_law, [3.0, 2.0, 1.5, 0.7], {}),
        (multistep_law, COARSE, {}),
        (multistep_law, [3.0, 2.0, 1.5, 0.7], {"n_corrections": 2}),
        (multistep_law, [3.0, 2.0, 1.5, 0.7], {"n_corrections": 1, "corrected": (1.5, 1.9)}),
    ],
    "predictor_corrector": [
        (corrected_law, COARSE, {"step_size": 0.3, "n_corrections": 2}),
        (corrected_law, COARSE, {}),
    ],
    "probability_flow": [(flow_law, COARSE, {})],
    "reverse_sde": [(reverse_law, COARSE, {})],
}
CASES = [(name, *case, v) for name, cases in TABLE.items() for case in cases for v in VARIANCES]
every_case = pytest.mark.parametrize(
    "case", CASES, ids=[f"{c[0]}-{i // 2}-v {c[-1]:g}" for i, c in enumerate(CASES)]
)


def test_a_correction_goes_up_to_twice_its_level_and_not_above_the_highest():
    seen = []

    def watched(x, sigma):
        seen.append(sigma)
        return -x / (1 + sigma**2)

    walk = {"sigmas": [3.0, 2.0, 1.0, 0.5], "n_corrections": 2, "corrected": (0.6, 2.0)}
    FROM_NOISE["dpm_solver"](watched, torch.ones(1, 1), generator=stream(), **walk)
    assert seen == [3.0, 3.0, 3.0, 2.0, 2.0, 2.0, 1.0, 0.5]


def test_every_sampler_has_its_law_here():
    assert sorted(TABLE) == sorted(FROM_NOISE)


def p_value(x, mean, variance):
    """The smaller p of the exact tests of mean and variance of Gaussian rows."""
    x = np.asarray(x).ravel()
    z = (x.mean() - mean) / math.sqrt(variance / len(x))
    tail = stats.chi2.cdf((len(x) - 1) * x.var(ddof=1) / variance, len(x) - 1)
    return min(2 * stats.norm.sf(abs(z)), 2 * min(tail, 1 - tail))


def expected(law, sigmas, v, hyper):
    """Mean and variance at the end, the denoising step among the rest."""
    shrink = v / (v + sigmas[-1] ** 2)
    mean, variance = law(v, sigmas, **hyper).law(*START)
    return shrink * mean, shrink**2 * variance


def end(sampler, sigmas, v, hyper, drift=1.0):
    mean, variance = START
    x = mean + math.sqrt(variance) * torch.randn(N, 1, generator=stream(5), dtype=torch.float64)
    return sampler(normal(v, drift), x, generator=stream(), sigmas=sigmas, **hyper)


@every_case
def test_the_end_has_the_exact_law(case):
    name, law, sigmas, hyper, v = case
    assert (
        p_value(end(FROM_NOISE[name], sigmas, v, hyper), *expected(law, sigmas, v, hyper)) > ALPHA
    )


@every_case
def test_another_field_another_start_or_another_end_is_another_law(case):
    name, law, sigmas, hyper, v = case
    sampler, right = FROM_NOISE[name], expected(law, sigmas, v, hyper)
    assert p_value(end(sampler, sigmas, v, hyper, drift=1.3), *right) < ALPHA
    assert p_value(end(sampler, sigmas, 1.5 * v, hyper), *right) < ALPHA
    seen = []
    end(sampler, sigmas, v, {**hyper, "callback": lambda _, x: seen.append(x.clone())})
    assert p_value(seen[-2], *right) < ALPHA  # before the denoising step
    assert p_value(seen[-1], *right) > ALPHA


NOISY = [case for case in CASES if case[0] != "probability_flow"]


@pytest.mark.parametrize("scale", [0.0, math.sqrt(0.5), math.sqrt(2)])
@pytest.mark.parametrize("case", NOISY, ids=[f"{c[0]}-{i // 2}" for i, c in enumerate(NOISY)])
def test_wrong_noise_is_another_law(case, scale, monkeypatch):
    name, law, sigmas, hyper, v = case
    draw = torch.randn
    monkeypatch.setattr(torch, "randn", lambda *a, **k: scale * draw(*a, **k))
    x = START[0] + 4 * draw(N, 1, generator=stream(5), dtype=torch.float64)
    x = FROM_NOISE[name](normal(v), x, generator=stream(), sigmas=sigmas, **hyper)
    assert p_value(x, *expected(law, sigmas, v, hyper)) < ALPHA


def annealed_twin(
    drift=1.0, noise=2.0, power=2, quiet=False, denoise=1.0, first=0, upside=False, ladder=-1, lag=0
):
    """Annealed Langevin with a fault or with none."""

    def sampler(score, x, *, generator, sigmas, step_size, n_steps):
        walk = list(reversed(sigmas)) if upside else list(sigmas)
        for i, sigma in enumerate(walk[first:]):
            eta = step_size * (sigma / sigmas[ladder]) ** power
            for step in range(n_steps):
                last = quiet and step == n_steps - 1 and i == len(walk) - 1
                z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
                x = x + drift * eta * score(x, walk[max(0, i - lag)])
                x = x + (0.0 if last else math.sqrt(noise * eta)) * z
        return x + denoise * sigmas[-1] ** 2 * score(x, sigmas[-1])

    return sampler


ANNEALED_MUTANTS = {
    "noise of eta": annealed_twin(noise=1.0),
    "noise of 4 eta": annealed_twin(noise=4.0),
    "drift doubled": annealed_twin(drift=2.0),
    "drift halved": annealed_twin(drift=0.5),
    "last step quiet": annealed_twin(quiet=True),
    "no denoising": annealed_twin(denoise=0.0),
    "denoised twice": annealed_twin(denoise=2.0),
    "steps of sigma": annealed_twin(power=1),
    "one step for all": annealed_twin(power=0),
    "upwards": annealed_twin(upside=True),
    "first level left out": annealed_twin(first=1),
    "steps of the first level": annealed_twin(ladder=0),
    "score of the level before": annealed_twin(lag=1),
}


@pytest.mark.parametrize("mutant", ANNEALED_MUTANTS.values(), ids=ANNEALED_MUTANTS)
def test_broken_annealing_has_another_law(mutant):
    law, sigmas, hyper = TABLE["annealed_langevin"][0]
    right = expected(law, sigmas, 1.0, hyper)
    assert p_value(end(mutant, sigmas, 1.0, hyper), *right) < ALPHA
    assert p_value(end(annealed_twin(), sigmas, 1.0, hyper), *right) > ALPHA


def multistep_twin(first_order=False, ratio=1.0, swapped=False, gain=2.0):
    """DPM-Solver++(2M) with a fault or with none."""

    def sampler(score, x, *, generator, sigmas):
        before = None
        for s, low in pairwise(sigmas):
            h = math.log(s / low)
            D = aim = denoised(score, x, s)
            if before is not None and not first_order:
                r = before[1] / h if not swapped else h / before[1]
                aim = D + ratio * (D - before[0]) / (2 * r)
            keep = math.exp(-gain * h)
            z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x = keep * x + (1 - keep) * aim + low * math.sqrt(1 - math.exp(-2 * h)) * z
            before = D, h
        return denoised(score, x, sigmas[-1])

    return sampler


MULTISTEP_MUTANTS = {
    "first order": multistep_twin(first_order=True),
    "no half": multistep_twin(ratio=2.0),
    "backwards": multistep_twin(ratio=-1.0),
    "ratio upside down": multistep_twin(swapped=True),
    "of the flow": multistep_twin(gain=1.0),
}


@pytest.mark.parametrize("mutant", MULTISTEP_MUTANTS.values(), ids=MULTISTEP_MUTANTS)
def test_broken_multisteps_have_another_law(mutant):
    law, sigmas, hyper = TABLE["dpm_solver"][0]
    right = expected(law, sigmas, 1.0, hyper)
    assert p_value(end(mutant, sigmas, 1.0, hyper), *right) < ALPHA
    assert p_value(end(multistep_twin(), sigmas, 1.0, hyper), *right) > ALPHA


@pytest.mark.parametrize("name", FROM_NOISE)
def test_fine_levels_end_near_the_data(name):
    """The law of every scheme tends to N(0, v): a check of the laws above."""
    (law, _, hyper), v = TABLE[name][0], 2.0
    if name == "annealed_langevin":
        sigmas, hyper = geometric_grid(20.0, 0.05, 300), {"step_size": 4e-4, "n_steps": 10}
    else:
        sigmas = rho_grid(20.0, 0.01, 600)
    shrink = v / (v + sigmas[-1] ** 2)
    mean, variance = law(v, sigmas, **hyper).law(0.0, v + sigmas[0] ** 2)
    assert mean == 0
    assert shrink**2 * variance == pytest.approx(v, rel=0.05)


# The flow ---------------------------------------------------------------------------------------


def euler(score, x, *, generator, sigmas):
    for s, low in pairwise(sigmas):
        x = x - (low - s) * s * score(x, s)
    return denoised(score, x, sigmas[-1])


def orders(sampler, v, grid):
    """Orders of convergence to ``x0 sqrt((v + low^2) / (v + high^2))``, denoised, by halving."""
    x, (high, low) = torch.tensor([[1.7]], dtype=torch.float64), (5.0, 0.3)
    shrink = v / (v + low**2)
    right = shrink * 1.7 * math.sqrt((v + low**2) / (v + high**2))
    errors = []
    for n in (40, 80, 160):
        y = sampler(normal(v), x, generator=stream(), sigmas=grid(high, low, n + 1))
        errors.append(abs(float(y) - right))
    return [math.log2(a / b) for a, b in pairwise(errors)]


@pytest.mark.parametrize("grid", [geometric_grid, rho_grid])
@pytest.mark.parametrize("v", [0.5, 1.0, 4.0])
def test_the_flow_converges_with_order_two(v, grid):
    def still(*args, **kwargs):
        return FROM_NOISE["churned_heun"](*args, churn=0.0, **kwargs)

    for sampler in (FROM_NOISE["probability_flow"], still):
        assert orders(sampler, v, grid) == pytest.approx([2, 2], abs=0.15)
    assert orders(euler, v, grid) == pytest.approx([1, 1], abs=0.15)


def test_the_flow_is_the_linear_map_exactly():
    x, v = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None], 1.3
    y = FROM_NOISE["probability_flow"](normal(v), x, sigmas=COARSE)
    a = math.prod(heun_factor(v, *pair) for pair in pairwise(COARSE)) * v / (v + COARSE[-1] ** 2)
    torch.testing.assert_close(y, a * x, rtol=1e-13, atol=0)
    assert a != pytest.approx(math.sqrt((v + 0.49) / (v + 9)) * v / (v + 0.49), rel=1e-2)


# Every sampler: rows, steps, divergence ---------------------------------------------------------

HYPER = {"annealed_langevin": {"step_size": 0.02, "n_steps": 3}}
SAMPLERS = {**FROM_NOISE, "conditional": conditional}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def run(name, x, seed=0, score=None, **changes):
    hyper = {"sigmas": rho_grid(4.0, 0.2, 8), **HYPER.get(name, {})}
    if name == "conditional":
        first = torch.zeros_like(x[0])
        first[0] = 1
        hyper |= {"given": 0.5 * first.expand_as(x), "known": lambda v: v * first, "n_final": 5}
    score = score or (lambda x, sigma: -torch.tanh(x) / (1 + sigma**2))
    return SAMPLERS[name](score, x, generator=stream(seed), **hyper | changes)


def n_calls(name):
    return 8 * 3 + 1 if name == "annealed_langevin" else 8


def batch_step(x):
    """The twin whose field knows the whole batch."""
    return run("reverse_sde", x, score=lambda x, sigma: -x / x.norm(dim=1).mean() / (1 + sigma**2))


@every_sampler
def test_a_path_depends_on_its_row_alone(name):
    x = 4 * torch.randn(50, 3, generator=stream(9), dtype=torch.float64)
    other = x.clone()
    other[0] += 0.7
    a, b = run(name, x), run(name, other)
    assert torch.equal(a[1:], b[1:])
    assert not torch.equal(a[0], b[0])
    assert not torch.equal(batch_step(x)[1:], batch_step(other)[1:])


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_callback_sees_every_step_and_the_result_is_seeded(name, dtype):
    start = torch.ones(5, 2, dtype=dtype)
    seen, before = [], torch.get_rng_state()
    last = run(name, start, callback=lambda step, x: seen.append((step, x.clone())))
    assert [step for step, _ in seen] == list(range(1, n_calls(name) + 1))
    assert all(not torch.equal(a, b) for (_, a), (_, b) in pairwise(seen))
    assert torch.equal(seen[-1][1], last)
    assert last.dtype == dtype
    assert torch.equal(run(name, start), last)
    assert torch.equal(run(name, start, seed=1), last) == (name == "probability_flow")
    assert torch.equal(start, torch.ones_like(start))
    assert torch.equal(before, torch.get_rng_state())


@every_sampler
@pytest.mark.parametrize("force", [math.nan, math.inf, -math.inf])
def test_running_away_is_an_error_that_names_the_step(name, force):
    calls, seen = [], []

    def score(x, sigma):
        calls.append(sigma)
        field = -x / (1 + sigma**2)
        if sigma < 1.0:
            field = field.clone()
            field[2] = force
        return field

    levels = rho_grid(4.0, 0.2, 8)
    above = sum(sigma >= 1.0 for sigma in levels)
    # Corrections at a level, and Heun's second evaluation there, belong to the step towards it.
    early = name in ("churned_heun", "probability_flow", "predictor_corrector", "conditional")
    bad = 3 * above + 1 if name == "annealed_langevin" else above + (not early)
    with pytest.raises(DivergenceError, match=rf"diverged at step {bad}:"):
        run(
            name, torch.zeros(9, 2), score=score, sigmas=levels,
            callback=lambda step, _: seen.append(step),
        )  # fmt: skip
    assert seen == list(range(1, bad))


@every_sampler
def test_one_level_is_one_denoising_step(name):
    if name in ("conditional", "annealed_langevin"):
        return
    x = torch.randn(9, 2, generator=stream(1), dtype=torch.float64)
    y = run(name, x, score=normal(2.0), sigmas=[0.5])
    torch.testing.assert_close(y, x * 2 / 2.25, rtol=1e-14, atol=1e-14)


def test_long_steps_run_away():
    case = {"sigmas": [1.0, 0.5], "n_steps": 2000}
    with pytest.raises(DivergenceError, match="diverged at step"):
        run("annealed_langevin", torch.ones(9, 2), score=normal(1.0), step_size=2.0, **case)
    run("annealed_langevin", torch.ones(9, 2), score=normal(1.0), step_size=0.5, **case)


# Given values -----------------------------------------------------------------------------------

ROOT = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [-0.5, 0.4, 0.7]])
S = ROOT @ ROOT.T
VALUES = np.array([1.5, -0.5, 0.0])


def conditional_law(k, sigmas, *, step_size, n_corrections, n_final, start=16.0):
    """Mean and covariance at the end when the first k columns are given, from N(0, start I)."""
    eye = np.eye(3)
    K = np.diag([1.0] * k + [0.0] * (3 - k))
    F, g = eye - K, K @ VALUES
    m, C = np.zeros(3), start * eye

    def move(A, b=0.0, noise=0.0):
        nonlocal m, C
        m, C = A @ m + b, A @ C @ A.T + noise

    def correct(sigma):
        eta = step_size * sigma**2
        move(eye - eta * F @ np.linalg.inv(S + sigma**2 * eye), noise=2 * eta * F)

    move(F, g, sigmas[0] ** 2 * K)
    for s, low in pairwise(sigmas):
        gap = s**2 - low**2
        move(eye - gap * np.linalg.inv(S + s**2 * eye), noise=gap * (low / s) ** 2 * eye)
        move(F, g, low**2 * K)
        for _ in range(n_corrections):
            correct(low)
            move(F, g, low**2 * K)
    move(F, g)
    for _ in range(n_final):
        correct(sigmas[-1])
    low = sigmas[-1]
    move(eye - low**2 * F @ np.linalg.inv(S + low**2 * eye))
    return m[k:], C[k:, k:]


def true_conditional(k, sigma=0.0):
    """The law of the rest given the first k columns, of rows blurred at a level."""
    B = S + sigma**2 * np.eye(3)
    gain = B[k:, :k] @ np.linalg.inv(B[:k, :k])
    return gain @ VALUES[:k], B[k:, k:] - gain @ B[:k, k:]


def denoised_conditional(k, sigma):
    """The same after the denoising step, in which the known part counts as noisy too."""
    m, C = true_conditional(k, sigma)
    A = np.eye(3) - sigma**2 * np.linalg.inv(S + sigma**2 * np.eye(3))
    return A[k:, :k] @ VALUES[:k] + A[k:, k:] @ m, A[k:, k:] @ C @ A[k:, k:].T


def walk(k, sigmas, n=N, given=True, **hyper):
    P = torch.from_numpy(S)
    known = torch.zeros(3, dtype=torch.float64)
    if given:
        known[:k] = 1
    inverse = {s: torch.linalg.inv(P + s**2 * torch.eye(3)) for s in set(sigmas)}
    return conditional(
        lambda x, sigma: -x @ inverse[sigma],
        4 * torch.randn(n, 3, generator=stream(5), dtype=torch.float64),
        generator=stream(),
        sigmas=sigmas,
        given=(torch.from_numpy(VALUES) * known).expand(n, 3),
        known=lambda v: v * known,
        **hyper,
    )


def law_p(x, mean, covariance):
    """The smallest p, of three, of the exact tests along the whitened axes."""
    L = np.linalg.cholesky(covariance)
    w = np.linalg.solve(L, (x.numpy() - mean).T)
    pairs = [(w[0] + w[-1]) / math.sqrt(2)] if len(w) > 1 else []
    return min(p_value(row, 0.0, 1.0) for row in [*w, *pairs])


LEVELS = [4.0, 2.0, 1.0, 0.5]
GIVEN = [
    (1, {"step_size": 0.2, "n_corrections": 3, "n_final": 7}),
    (2, {"step_size": 0.2, "n_corrections": 3, "n_final": 7}),
    (1, {"step_size": 0.1, "n_corrections": 4, "n_final": 20}),
    (2, {"step_size": 0.4, "n_corrections": 1, "n_final": 1}),
]


@pytest.mark.parametrize(("k", "hyper"), GIVEN)
def test_given_values_are_kept_and_the_rest_has_the_exact_law(k, hyper):
    x, law = walk(k, LEVELS, **hyper), conditional_law(k, LEVELS, **hyper)
    # x + g - x by floats: a few roundings of numbers up to 16.
    torch.testing.assert_close(
        x[:, :k], torch.from_numpy(VALUES[:k]).expand(N, k), rtol=0, atol=1e-14
    )
    assert law_p(x[:, k:], *law) > ALPHA
    assert law_p(walk(k, LEVELS, given=False, **hyper)[:, k:], *law) < ALPHA
    more = {**hyper, "n_corrections": 20}
    assert law_p(walk(k, LEVELS, **more)[:, k:], *law) < ALPHA


@pytest.mark.parametrize("k", [1, 2])
def test_a_long_walk_at_the_lowest_level_has_the_conditional_law(k):
    """Steps so short and so many that the bias is below a fifth of the standard errors.

    At most 0.002, where 4,000 rows have a standard error of 0.009 in a mean.
    """
    hyper = {"step_size": 0.02, "n_corrections": 4, "n_final": 1300}
    right = denoised_conditional(k, LEVELS[-1])
    mean, covariance = conditional_law(k, LEVELS, **hyper)
    np.testing.assert_allclose(mean, right[0], atol=2e-3)
    np.testing.assert_allclose(covariance, right[1], atol=2e-3)
    x = walk(k, LEVELS, n=4000, **hyper)[:, k:]
    assert law_p(x, *right) > ALPHA
    assert law_p(walk(k, LEVELS, n=4000, given=False, **hyper)[:, k:], *right) < ALPHA


@pytest.mark.parametrize("k", [1, 2])
def test_more_corrections_are_nearer_to_the_conditional_law(k):
    """Where the lowest level is too low to forget the start: by the law alone, which is exact."""
    sigmas, right = rho_grid(10.0, 0.01, 100), true_conditional(k)[0]
    gaps = []
    for n_corrections in (1, 8, 64):
        hyper = {"step_size": 0.1, "n_corrections": n_corrections, "n_final": 100}
        mean, _ = conditional_law(k, sigmas, **hyper, start=100.0)
        gaps.append(np.abs(mean - right).max())
    assert gaps[0] > 2 * gaps[1] > 8 * gaps[2]


# Weights of modes -------------------------------------------------------------------------------


def two_modes(x, sigma=0.0):
    """The blurred score of 0.8 N(3, 1/4) + 0.2 N(-3, 1/4)."""
    v = 0.25 + sigma**2
    share = torch.sigmoid(6 * x / v + math.log(4))  # of the right mode
    return (6 * share - 3 - x) / v


def weight_error(name, n=4000):
    g = stream(2)
    if name == "langevin":
        x = torch.randn(n, 1, generator=g, dtype=torch.float64)
        x = langevin(two_modes, x, generator=g, step_size=0.02, n_steps=500)
    else:
        high = 20.0
        x = high * torch.randn(n, 1, generator=g, dtype=torch.float64)
        hyper, sigmas = {}, rho_grid(high, 0.02, 80)
        if name == "annealed_langevin":
            hyper, sigmas = (
                {"step_size": 0.1 * 0.05**2, "n_steps": 10},
                geometric_grid(high, 0.05, 40),
            )
        x = FROM_NOISE[name](two_modes, x, generator=g, sigmas=sigmas, **hyper)
    near = (x.abs() - 3).abs() < 5 * 0.5
    assert near.double().mean() > 0.995
    return abs(float((x > 0).double().mean()) - 0.8)


LARGEST_ERROR = 5 * math.sqrt(0.8 * 0.2 / 4000) + 0.02


@pytest.mark.parametrize("name", FROM_NOISE)
def test_modes_have_their_weights(name):
    assert weight_error(name) < LARGEST_ERROR


def test_langevin_alone_has_not():
    assert weight_error("langevin") > LARGEST_ERROR
