"""Training: what it converges to, what it never sees, and what it leaves behind."""

import inspect
import itertools
import math
from dataclasses import replace

import pytest
import torch

from skscore._model import ScoreModel
from skscore._torch import isolated
from skscore._training import (
    History,
    Plan,
    fit_score,
    gain_is_noise,
    held_out_objective,
    with_weights,
)
from skscore.exceptions import DivergenceError
from skscore.networks import MLP
from skscore.objectives import OBJECTIVES, exact

D = 3
PLAN = Plan(
    n_epochs=10, batch_size=20, learning_rate=0.01, weight_decay=0.0, n_iter_no_change=5, tol=0.0
)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n=200, seed=0):
    x = torch.randn(n, D, generator=stream(seed), dtype=torch.float64)
    mixing = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.8, 0.3], [0.0, 0.0, 1.2]], dtype=torch.float64)
    return x @ mixing + 0.7


def linear():
    return MLP(D, D, generator=stream(), hidden_layer_sizes=()).to(torch.float64)


def curved(sizes=(16,)):
    """A network over the score of N(0, I), as the estimators train it."""
    network = MLP(D, D, generator=stream(), hidden_layer_sizes=sizes)
    return ScoreModel(network, torch.eye(D), energy=False).to(torch.float64)


def train(model, x, held_out=None, objective=exact, on_epoch=None, seed=0, **changes):
    history = History()
    plan = replace(PLAN, **changes)
    keywords = {"generator": stream(seed), "history": history, "on_epoch": on_epoch}
    fit_score(model, x, held_out, objective, plan, **keywords)
    return history


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def held_out_mean(model, x):
    return float(held_out_objective(model, x).mean())


SIGMA = 0.5  # of the denoising objective


def without_chance(objective):
    """Return the mean over all sign vectors, which for a linear field is that of any noise."""
    names = inspect.signature(objective).parameters
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=D)), dtype=torch.float64)

    def along_all(score, x, *, generator):
        return objective(score, x, directions=signs[:, None].expand(-1, len(x), -1))

    def over_all(score, x, *, generator):
        values = [objective(score, x, sigma=SIGMA, noise=z.expand(x.shape)) for z in signs[:4]]
        return torch.stack(values).mean(dim=0)  # the others are their opposites

    return over_all if "noise" in names else along_all if "directions" in names else objective


# What it converges to ---------------------------------------------------------------------------

# A field at many levels is no linear field: test_denoising.py has its minimiser.
AT_ONE_LEVEL = [name for name in OBJECTIVES if name != "noise_conditional"]


@pytest.mark.parametrize("name", AT_ONE_LEVEL)
def test_a_linear_field_recovers_the_closed_form(name):
    x, model = rows(), linear()
    objective = without_chance(OBJECTIVES[name])
    train(model, x, objective=objective, n_epochs=1200, batch_size=200, learning_rate=0.03)
    S = torch.cov(x.T, correction=0)
    P = torch.linalg.inv(S + SIGMA**2 * torch.eye(D) if name == "denoising" else S)
    torch.testing.assert_close(-model.weights[0].data, P, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.biases[0].data, P @ x.mean(dim=0), rtol=1e-4, atol=1e-4)


def test_an_objective_with_the_wrong_sign_recovers_nothing():
    x, model = rows(), linear()

    def wrong(score, x, *, generator):
        return (score(x) ** 2).sum(dim=1) - exact(score, x)

    train(model, x, objective=wrong, n_epochs=300, batch_size=200, learning_rate=0.03)
    P = torch.linalg.inv(torch.cov(x.T, correction=0))
    assert (model.weights[0].data + P).abs().max() > 0.5


def test_a_training_repeats_itself_whatever_the_grad_mode():
    a, b, c = (curved() for _ in range(3))
    train(a, rows(), rows(60, seed=1))
    with torch.no_grad():
        train(b, rows(), rows(60, seed=1))
    train(c, rows(), rows(60, seed=1), seed=1)
    assert torch.equal(weights(a), weights(b))
    assert not torch.equal(weights(a), weights(c))


# What it sees -----------------------------------------------------------------------------------


class Spy:
    """An objective that remembers the rows it was given."""

    def __init__(self):
        self.batches = []

    def __call__(self, score, x, *, generator):
        self.batches.append(x.clone())
        return exact(score, x)

    def saw(self, held_out):
        seen = torch.cat(self.batches)
        return bool((seen[:, None] == held_out[None]).all(dim=-1).any())


def test_held_out_rows_are_never_trained_on():
    x, held_out, spy = rows(), rows(60, seed=1), Spy()
    train(curved(), x, held_out, objective=spy)
    assert not spy.saw(held_out)
    twin = Spy()
    train(curved(), torch.cat([x, held_out[:1]]), held_out, objective=twin)
    assert twin.saw(held_out)


@pytest.mark.parametrize(("n", "size", "n_batches"), [(200, 20, 10), (50, 20, 2), (7, 20, 1)])
def test_an_epoch_sees_each_row_at_most_once_in_an_order_of_its_own(n, size, n_batches):
    x, spy = rows(n), Spy()
    train(curved(), x, objective=spy, batch_size=size, n_epochs=2)
    assert [len(b) for b in spy.batches] == [min(n, size)] * (2 * n_batches)
    epochs = [torch.cat(spy.batches[:n_batches]), torch.cat(spy.batches[n_batches:])]
    for epoch in epochs:
        assert len(epoch.unique(dim=0)) == len(epoch)
        assert torch.isin(epoch, x).all()
    assert not torch.equal(*epochs)


# What it leaves ---------------------------------------------------------------------------------


def turning(after):
    """Return the exact objective for so many steps, then minus it."""
    calls = itertools.count()

    def objective(score, x, *, generator):
        return exact(score, x) * (1 if next(calls) < after else -1)

    return objective


def test_the_best_weights_are_kept():
    x, held_out = 3 * rows(), 3 * rows(60, seed=1)
    model, twin = curved(), curved()
    history = train(model, x, held_out, objective=turning(100), n_epochs=20)
    assert min(history.held_out) < history.held_out[0]
    assert history.held_out[-1] > min(history.held_out) + 0.1
    assert held_out_mean(model, held_out) == pytest.approx(min(history.held_out), abs=1e-12)
    train(twin, x, objective=turning(100), n_epochs=20)  # without held-out rows: those at the end
    assert held_out_mean(twin, held_out) > min(history.held_out) + 0.1


def test_the_held_out_objective_is_the_exact_one_of_every_row():
    x, model = rows(2500), curved()
    value = held_out_objective(model, x)
    torch.testing.assert_close(value, exact(model, x).detach(), rtol=1e-12, atol=1e-12)
    assert not value.requires_grad


def test_history_starts_at_the_model_that_was_given():
    model, held_out = curved(), rows(60, seed=1)
    before = held_out_mean(model, held_out)
    history = train(model, rows(), held_out)
    assert history.held_out[0] == before
    assert len(history.loss) == history.n_epochs == 10
    assert len(history.held_out) == 11


def test_a_gain_that_is_noise_returns_the_residual_to_its_start():
    x = torch.randn(200, D, generator=stream(), dtype=torch.float64)
    normal, hills = curved(), curved()
    start = weights(normal)
    train(normal, x, torch.randn(500, D, generator=stream(1), dtype=torch.float64))
    assert torch.equal(weights(normal), start)
    signs = torch.sign(torch.randn(2500, D, generator=stream(2), dtype=torch.float64))
    bimodal = signs + 0.3 * torch.randn(2500, D, generator=stream(3), dtype=torch.float64)
    train(hills, bimodal[:2000], bimodal[2000:])
    assert not torch.equal(weights(hills), start)


def alternating(mean, n):
    """Rows with this mean and a standard deviation of exactly one."""
    return mean + torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(n // 2)


@pytest.mark.parametrize(
    ("gain", "noise"),
    [
        (torch.zeros(10), True),
        (torch.full((10,), -0.5), True),
        (torch.full((10,), 1e-3), False),
        (alternating(0.19, 100), True),  # two standard errors are 0.2
        (alternating(0.21, 100), False),
        (alternating(0.06, 1000), True),
        (alternating(0.07, 1000), False),
    ],
)
def test_gain_is_noise_within_two_standard_errors(gain, noise):
    best = torch.randn(len(gain), generator=stream(), dtype=torch.float64)
    assert gain_is_noise(best + gain, best) == noise


def test_one_held_out_row_cannot_tell_a_gain_from_noise():
    assert gain_is_noise(torch.tensor([1.0]), torch.tensor([0.999]))


def failing(at, value=math.nan):
    calls = itertools.count(1)

    def objective(score, x, *, generator):
        return exact(score, x) * (value if next(calls) == at else 1)

    return objective


@pytest.mark.parametrize("held_out", [None, rows(60, seed=1)], ids=["all rows", "held out"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("at", [1, 10, 37])
def test_divergence_names_the_step_and_leaves_finite_weights(at, value, held_out):
    model = curved()
    remedy = r"learning_rate_init below 0\.01" if at > 1 else "before the first step: X or"
    with pytest.raises(DivergenceError, match=rf"step {at}: .*{remedy}"):
        train(model, rows(), held_out, objective=failing(at, value))
    assert torch.isfinite(weights(model)).all()


def test_a_wild_rate_diverges_and_leaves_finite_weights():
    model = curved()
    with pytest.raises(DivergenceError):
        train(model, rows(), rows(60, seed=1), learning_rate=1e200)
    assert torch.isfinite(weights(model)).all()


@pytest.mark.parametrize("error", [KeyboardInterrupt, DivergenceError, ZeroDivisionError])
def test_an_interrupted_training_leaves_its_best_weights(error):
    x, held_out = 3 * rows(), 3 * rows(60, seed=1)
    model, seen = curved(), []

    def on_epoch(epoch, history):
        seen.append(min(history.held_out))
        if epoch == 14:
            raise error

    with pytest.raises(error):
        train(model, x, held_out, turning(100), on_epoch, n_epochs=20)
    assert len(seen) == 15
    assert held_out_mean(model, held_out) == pytest.approx(seen[-1], abs=1e-12)


def test_on_epoch_can_stop():
    seen = []

    def on_epoch(epoch, history):
        seen.append(epoch)
        return epoch == 3

    assert train(curved(), rows(), on_epoch=on_epoch).n_epochs == 4
    assert seen == [0, 1, 2, 3]


def test_weights_of_a_sixteenth_of_the_budget_are_kept():
    """33 steps: the average after the third, which a training that stops there ends with."""
    budget = {"n_epochs": 33, "batch_size": 200}
    model, stopped, other = curved(), curved(), curved()
    history = train(model, rows(), **budget)
    train(stopped, rows(), on_epoch=lambda epoch, _: epoch == 2, **budget)
    early = with_weights(model, history.early)
    assert torch.equal(weights(early), weights(stopped))
    train(other, rows(), on_epoch=lambda epoch, _: epoch == 1, **budget)
    assert not torch.equal(weights(early), weights(other))
    assert not torch.equal(weights(early), weights(model))


def test_a_training_that_did_not_help_leaves_no_early_weights():
    x = torch.randn(200, D, generator=stream(1), dtype=torch.float64)
    few = {"x": x[:150], "held_out": x[150:], "learning_rate": 1e-9}
    assert train(curved(), **few).early is None
    assert train(curved(), residual_test=False, **few).early is not None


@pytest.mark.parametrize("held_out", [None, rows(50, seed=1)], ids=["all rows", "held-out rows"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, DivergenceError])
def test_early_weights_that_nothing_outdid_are_not_left(failure, held_out):
    """One epoch of 32 steps; the early weights are those after the second."""
    seen = []

    def failing(score, rows, generator):
        seen.append(1)
        if failure is KeyboardInterrupt and len(seen) == 20:
            raise KeyboardInterrupt
        lost = math.nan if len(seen) > 20 else 1.0
        return exact(score, rows) * lost

    history = History()
    plan = replace(PLAN, n_epochs=1, batch_size=6)
    with pytest.raises(failure):
        fit_score(curved(), rows(192), held_out, failing, plan, generator=stream(), history=history)
    assert len(seen) >= 20
    assert history.early is None


def test_better_weights_from_before_the_early_ones_do_not_outdo_them():
    """Three steps to an epoch: two checks, then the seventh step of 111, and no check after it."""
    seen = []

    def failing(score, rows, generator):
        seen.append(1)
        if len(seen) == 8:
            raise KeyboardInterrupt
        return exact(score, rows)

    history = History()
    plan = replace(PLAN, n_epochs=37, batch_size=64)
    few = {"generator": stream(), "history": history}
    with pytest.raises(KeyboardInterrupt):
        fit_score(curved(), rows(192), rows(50, seed=1), failing, plan, **few)
    assert history.held_out[0] > history.held_out[1]
    assert history.early is None


class Shifted(torch.nn.Module):
    """A field that is asked elsewhere from some step on."""

    def __init__(self):
        super().__init__()
        self.model, self.shift = curved(), 0.0

    def forward(self, x):
        return self.model(x + self.shift)


@pytest.mark.parametrize("held_out", [None, rows(60, seed=1)], ids=["all rows", "held-out rows"])
def test_what_was_best_before_a_model_saw_more_is_judged_anew(held_out):
    """Of 20 steps the second: from there the field errs, more than what is left can undo."""
    model, seen, steps = Shifted(), [], []
    history = History()

    def shift(given):
        assert given is model
        seen.append((len(steps), history.early.clone(), weights(model)))
        given.shift = 3.0

    def counted(score, x, *, generator):
        steps.append(1)
        return exact(score, x)

    plan = replace(PLAN, n_epochs=2, learning_rate=1e-3, residual_test=False)
    more = {"generator": stream(), "history": history, "at_early": shift}
    fit_score(model, rows(), held_out, counted, plan, **more)
    ((step, early, running),) = seen
    assert step == 2
    assert not torch.equal(early.flatten(), running)
    assert not torch.equal(weights(model), running)
    if held_out is not None:
        before, *after = history.held_out
        assert min(after) > before
        assert held_out_mean(model, held_out) == min(after)


def test_products_in_bfloat16_train_about_as_others_do():
    """They differ in the third digit, and a step in float32 does not."""

    def linear32():
        return linear().float()

    x = rows().float()
    exact_steps, again, mixed = linear32(), linear32(), linear32()
    seen = []

    def objective(score, rows, generator):
        seen.append(torch.is_autocast_enabled("cpu"))
        return exact(score, rows)

    train(exact_steps, x, objective=objective, n_epochs=3)
    assert not any(seen)
    train(again, x, n_epochs=3)
    assert torch.equal(weights(exact_steps), weights(again))
    seen.clear()
    with isolated():  # which is a context of that kind, too
        train(mixed, x, objective=objective, n_epochs=3, mixed=True)
    assert all(seen)
    assert not torch.is_autocast_enabled("cpu")
    assert weights(mixed).dtype == torch.float32
    torch.testing.assert_close(weights(mixed), weights(exact_steps), rtol=0.05, atol=0.01)
    assert not torch.equal(weights(mixed), weights(exact_steps))
