"""Laws of the flow: orders of the integrators, densities, codes that come back.

``w = S_sigma^-1/2 x`` with S_sigma the covariance of the blurred data, ``tau = log sigma``,
``dw/dtau = v(w, sigma)``, and ``d log p / dtau = -tr dv/dw``. float64.
"""

import itertools
import math

import pytest
import torch
from torch import nn

from skscore._autodiff import value_and_divergence
from skscore._denoiser import Denoiser
from skscore._integrate import SCHEMES, solve
from skscore.density import carry, flow_log_density, log_grid
from skscore.networks import NoiseConditionalMLP

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(autouse=True, scope="module")
def one_thread_and_no_graph():
    """Products this small are slower on two threads, and a graph of the whole path is long."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(n)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


def white(w):
    """The log density of N(0, I)."""
    return -0.5 * (w**2 + math.log(2 * math.pi)).sum(dim=1)


# The integrators --------------------------------------------------------------------------------


def euler(rate, y, t, h):
    return y + h * rate(y, t)


def stopped_clock(rate, y, t, h):
    """A twin of Heun's step that asks for the rate at the start alone."""
    return SCHEMES["heun"](lambda y, _: rate(y, t), y, t, h)


def unweighted(rate, y, t, h):
    """A twin of the fourth-order step that takes the plain mean of its four slopes."""
    k1 = rate(y, t)
    k2 = rate(y + h / 2 * k1, t + h / 2)
    k3 = rate(y + h / 2 * k2, t + h / 2)
    return y + h / 4 * (k1 + k2 + k3 + rate(y + h * k3, t + h))


def double_end(rate, y, t, h):
    """A twin of Heun's step that forgets to halve the sum of its slopes."""
    return y + h * (rate(y, t) + rate(y + h * rate(y, t), t + h))


def logistic(y, t):
    """Its solution is ``1 / (1 + (1 / y0 - 1) exp(cos 2t - 1))`` from t = 0."""
    return 2 * math.sin(2 * t) * y * (1 - y)


def orders(step, monkeypatch, uneven, last=1.2):
    """Orders of convergence by halving the steps."""
    monkeypatch.setitem(SCHEMES, "tested", step)
    y0, errors = torch.tensor([[0.2], [0.6], [1.4]], dtype=torch.float64), []
    right = 1 / (1 + (1 / y0 - 1) * math.exp(math.cos(2 * last) - 1))
    for n in (20, 40, 80):
        grid = [last * (i / n) ** (1.5 if uneven else 1.0) for i in range(n + 1)]
        errors.append(float((solve(logistic, y0, grid, "tested") - right).abs().max()))
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


ORDERS = {"heun": 2, "rk4": 4}
WRONG = {
    "euler": (euler, 1),
    "stopped clock": (stopped_clock, 1),
    "unweighted": (unweighted, 2),
    "double": (double_end, 0),
}


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_has_its_order(name, uneven, monkeypatch):
    assert orders(SCHEMES[name], monkeypatch, uneven) == pytest.approx([ORDERS[name]] * 2, abs=0.2)


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_wrong_schemes_have_a_lower_one(case, monkeypatch):
    step, order = case
    assert orders(step, monkeypatch, uneven=False) == pytest.approx([order] * 2, abs=0.2)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_constant_rate_is_exact_and_each_row_goes_its_own_way(name):
    y, slope = draw(4, 2), draw(4, 2, seed=2)
    grid = [0.0, 0.1, 0.7, 0.2]
    torch.testing.assert_close(solve(lambda y, t: slope, y, grid, name), y + 0.2 * slope, **TIGHT)
    other = y.clone()
    other[0] += 1
    a, b = (solve(lambda y, t: torch.sin(y) + t, s, grid, name) for s in (y, other))
    assert torch.equal(a[1:], b[1:])
    assert not torch.equal(a[0], b[0])
    assert torch.equal(solve(logistic, y, [0.3], name), y)


def test_the_grid_of_the_flow():
    for first, last in ((0.1, 10.0), (10.0, 0.1)):
        taus = log_grid(first, last, 7)
        assert len(taus) == 8
        assert (taus[0], taus[-1]) == pytest.approx((math.log(first), math.log(last)), rel=1e-15)
        gaps = torch.tensor(taus, dtype=torch.float64).diff()
        torch.testing.assert_close(gaps, gaps[:1].expand(7), **TIGHT)


# Densities --------------------------------------------------------------------------------------


class Mixture:
    """``0.4 N(-1.5, 0.5^2) + 0.6 N(1, 0.8^2)``, centred, and its flow in coordinates w."""

    mass = torch.tensor([0.4, 0.6], dtype=torch.float64)
    centre = torch.tensor([-1.5, 1.0], dtype=torch.float64)
    scale = torch.tensor([0.5, 0.8], dtype=torch.float64)

    def __init__(self, turn=1.0):
        self.turn = turn  # other than one is a twin of another velocity
        self.variance = float((self.mass * (self.scale**2 + self.centre**2)).sum())

    def log_density(self, x, sigma):
        v = self.scale**2 + sigma**2
        terms = -0.5 * ((x - self.centre) ** 2 / v + torch.log(2 * math.pi * v))
        return torch.logsumexp(terms + self.mass.log(), dim=1)

    def score(self, x, sigma):
        v = self.scale**2 + sigma**2
        terms = -0.5 * ((x - self.centre) ** 2 / v + torch.log(v)) + self.mass.log()
        return (torch.softmax(terms, dim=1) * (self.centre - x) / v).sum(dim=1, keepdim=True)

    def root(self, sigma):
        return math.sqrt(self.variance + sigma**2)

    def velocity(self, sigma):
        r = self.root(sigma)
        return lambda w: -self.turn * sigma**2 / r * (self.score(r * w, sigma) + w / r)


LOW, HIGH = 0.05, 300.0


def mixture_error(mixture, scheme="rk4", n_steps=60, **changes):
    """The largest error of the log density at the lowest level, and of its integral."""
    w = torch.linspace(-4, 4, 161, dtype=torch.float64)[:, None]
    got = flow_log_density(
        mixture.velocity, w, log_grid(LOW, HIGH, n_steps), scheme=scheme, **changes
    )
    assert got.shape == (1, 161)
    root = mixture.root(LOW)
    right = mixture.log_density(root * w, LOW) + math.log(root)
    mass = float(got.exp().sum()) * 0.05
    near = right > -12
    return float((got[0] - right)[near].abs().max()), abs(mass - 1)


@pytest.mark.parametrize(("scheme", "n_steps"), [("rk4", 60), ("heun", 400)])
def test_the_density_of_a_mixture(scheme, n_steps):
    error, missing = mixture_error(Mixture(), scheme, n_steps)
    assert error < 1e-3
    assert missing < 1e-4


def test_another_velocity_is_another_density():
    for turn in (-1.0, 0.0, 0.9):
        error, missing = mixture_error(Mixture(turn))
        assert error > 1e-2
        assert missing < 1e-2  # a flow keeps the mass, whichever it is


def test_the_trace_keeps_the_mass():
    """A twin without the trace, or with the other sign, has another mass."""
    mixture, w = Mixture(), torch.linspace(-4, 4, 161, dtype=torch.float64)[:, None]
    taus = log_grid(LOW, HIGH, 60)
    end = white(carry(mixture.velocity, w, taus))
    gain = flow_log_density(mixture.velocity, w, taus)[0] - end
    assert float((end + gain).exp().sum()) * 0.05 == pytest.approx(1, abs=1e-4)
    for part in (0.0, -1.0):
        assert abs(float((end + part * gain).exp().sum()) * 0.05 - 1) > 1e-2


def test_the_end_density_is_that_of_the_blurred_gaussian():
    """Exact on any grid, as no N(0, sigma^2 I) at the end would be."""
    P = draw(3, 3, seed=4) @ draw(3, 3, seed=4).T + torch.eye(3, dtype=torch.float64)
    network = NoiseConditionalMLP(3, 3, generator=stream(), hidden_layer_sizes=(5,))  # zero
    model = Denoiser(network.to(torch.float64), P, energy=False)
    for low, n_steps in ((0.01, 1), (0.5, 4)):
        x = draw(9, 3)
        w, log_det = model.to_flow(x, low)
        S = torch.linalg.inv(P) + low**2 * torch.eye(3, dtype=torch.float64)
        normal = torch.distributions.MultivariateNormal(torch.zeros(3).double(), S)
        for high in (5.0, 50.0):
            got = flow_log_density(model.flow, w, log_grid(low, high, n_steps))[0] + log_det
            torch.testing.assert_close(got, normal.log_prob(x), rtol=1e-11, atol=1e-11)


def test_a_flow_that_stands_still():
    w = draw(9, 3)
    still = flow_log_density(lambda sigma: torch.zeros_like, w, log_grid(0.1, 10.0, 3))
    torch.testing.assert_close(still, white(w)[None], **TIGHT)


@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
def test_the_density_of_any_network_integrates_to_one(energy, woken):
    network = woken(NoiseConditionalMLP(1, 1, generator=stream(), hidden_layer_sizes=(6, 5)))
    model = Denoiser(network, torch.tensor([[0.7]]).double(), energy=energy).requires_grad_(False)
    x = torch.linspace(-12, 12, 481, dtype=torch.float64)[:, None]
    w, log_det = model.to_flow(x, 0.2)
    got = flow_log_density(model.flow, w, log_grid(0.2, 20.0, 60))[0].detach() + log_det
    assert float(got.exp().sum()) * 0.05 == pytest.approx(1, abs=1e-5)
    gaussian = white(w) + log_det
    assert (got - gaussian).abs().max() > 1e-2


class Linear(nn.Module):
    """``v(w) = w A``, which commutes with itself at all levels."""

    def __init__(self, A, share=1.0):
        super().__init__()
        self.A, self.share = A, share

    def forward(self, w):
        return self.share * w @ self.A


@pytest.mark.parametrize("d", [1, 3])
def test_the_density_of_a_linear_flow(d):
    A, w, T = 0.5 * draw(d, d, seed=3), draw(9, d), math.log(20.0)
    taus = log_grid(0.5, 10.0, 60)
    right = white(w @ torch.linalg.matrix_exp(A * T)) + T * torch.trace(A)
    got = flow_log_density(lambda sigma: Linear(A), w, taus)[0]
    torch.testing.assert_close(got, right, rtol=1e-6, atol=1e-6)
    twin = white(w @ torch.linalg.matrix_exp(A * T)) - T * torch.trace(A)
    assert (got - twin).abs().max() > 1e-2
    # The level counts: a rate of sigma is that of another clock.
    got = flow_log_density(lambda sigma: Linear(A, sigma / 10), w, taus)[0]
    T = (10.0 - 0.5) / 10
    right = white(w @ torch.linalg.matrix_exp(A * T)) + T * torch.trace(A)
    torch.testing.assert_close(got, right, rtol=1e-6, atol=1e-6)


# Hutchinson -------------------------------------------------------------------------------------


def corners(n, d):
    v = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d)), dtype=torch.float64)
    return v[:, None].expand(-1, n, -1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_sign_vectors_average_to_the_exact_density(scheme, woken):
    """Along one path: the trace is linear in what it is made of, whatever the field."""
    d, taus = 3, log_grid(0.2, 5.0, 6)
    network = woken(NoiseConditionalMLP(d, d, generator=stream(), hidden_layer_sizes=(6, 5)))
    P = draw(d, d, seed=4) @ draw(d, d, seed=4).T + torch.eye(d, dtype=torch.float64)
    model = Denoiser(network, P, energy=False).requires_grad_(False)
    w, A = draw(9, d), draw(d, d, seed=3)
    for velocity in (model.flow, lambda sigma: Linear(A, sigma)):
        exact = flow_log_density(velocity, w, taus, scheme=scheme)
        each = flow_log_density(velocity, w, taus, scheme=scheme, directions=corners(9, d))
        assert (exact.shape, each.shape) == ((1, 9), (8, 9))
        torch.testing.assert_close(each.mean(dim=0, keepdim=True), exact, **TIGHT)
        assert (each - exact).abs().max() > 1e-3
        half = each[4:].mean(dim=0)  # v and -v are alike, so that half of them are enough
        torch.testing.assert_close(half, exact[0], **TIGHT)
        unit = flow_log_density(velocity, w, taus, scheme=scheme, directions=corners(9, d) / d**0.5)
        assert (unit.mean(dim=0) - exact[0]).abs().max() > 1e-3  # of unit norm: a share 1/d


def test_a_direction_is_kept_along_the_path_and_belongs_to_its_row():
    A, w, T = draw(2, 2, seed=3), draw(5, 2), math.log(10.0)
    v = draw(3, 5, 2, seed=6)
    each = flow_log_density(lambda s: Linear(A), w, log_grid(1.0, 10.0, 40), directions=v)
    end = white(carry(lambda s: Linear(A), w, log_grid(1.0, 10.0, 40)))
    quadratic = torch.einsum("mni,ij,mnj->mn", v, A, v)
    torch.testing.assert_close(each, end + T * quadratic, rtol=1e-10, atol=1e-10)


# Codes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "n_steps"), [("rk4", 200), ("heun", 600)])
def test_codes_come_back(scheme, n_steps):
    mixture, w = Mixture(), torch.linspace(-2.5, 2.5, 21, dtype=torch.float64)[:, None]
    there = carry(mixture.velocity, w, log_grid(LOW, 50.0, n_steps), scheme)
    back = carry(mixture.velocity, there, log_grid(50.0, LOW, n_steps), scheme)
    assert (back - w).abs().max() < (1e-6 if scheme == "rk4" else 1e-4)
    assert (there - w).abs().max() > 0.1
    assert (
        carry(mixture.velocity, w, log_grid(50.0, LOW, n_steps), scheme) - there
    ).abs().max() > 0.1
    assert (there.diff(dim=0) > 0).all()  # in one dimension paths do not cross


def test_codes_have_the_quantiles_of_the_data():
    """In one dimension the flow carries quantiles to quantiles: an exact path."""
    mixture = Mixture()
    x = torch.linspace(-2.5, 2.5, 21, dtype=torch.float64)[:, None]
    z = (x - mixture.centre) / (mixture.scale**2 + LOW**2).sqrt()
    share = (mixture.mass * torch.special.ndtr(z)).sum(dim=1)
    codes = carry(mixture.velocity, x / mixture.root(LOW), log_grid(LOW, HIGH, 150))
    torch.testing.assert_close(codes[:, 0], torch.special.ndtri(share), rtol=1e-3, atol=1e-3)
    backwards = torch.special.ndtri(1 - share)
    assert (codes[:, 0] - backwards).abs().max() > 1


def test_rows_of_a_flow_are_their_own():
    mixture, w = Mixture(), draw(9, 1)
    other = w.clone()
    other[0] += 0.5
    for f in (carry, flow_log_density):
        a, b = (f(mixture.velocity, s, log_grid(0.1, 10.0, 5)).flatten() for s in (w, other))
        torch.testing.assert_close(a[1:], b[1:], rtol=1e-15, atol=1e-15)
        assert a[0] != b[0]


def test_the_trace_is_taken_where_the_row_is(woken):
    """The density by hand: Heun's rule over the path, one step."""
    mixture, w = Mixture(), draw(9, 1)
    t, h = math.log(0.4), 0.3
    here = mixture.velocity(0.4)
    k1, trace1 = value_and_divergence(here, w)
    k2, trace2 = value_and_divergence(mixture.velocity(math.exp(t + h)), w + h * k1)
    by_hand = white(w + h / 2 * (k1 + k2)) + h / 2 * (trace1 + trace2)
    got = flow_log_density(mixture.velocity, w, [t, t + h], scheme="heun")[0]
    torch.testing.assert_close(got, by_hand, **TIGHT)
