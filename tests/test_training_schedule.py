"""The rate of each step, the drops, and the optimiser against torch's."""

from dataclasses import replace

import pytest
import torch

from skscore import _training
from skscore._adamw import AdamW
from skscore._training import History, Plan, fit_score, held_out_objective
from skscore.networks import MLP
from skscore.objectives import exact

D = 3
PLAN = Plan(
    n_epochs=20, batch_size=10, learning_rate=0.01, weight_decay=0.0, n_iter_no_change=5, tol=0.0
)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def network(sizes=(6,)):
    return MLP(D, D, generator=stream(), hidden_layer_sizes=sizes).to(torch.float64)


@pytest.fixture
def steps(monkeypatch):
    """The rate of each step, and the optimiser's own count of steps before it."""
    seen = []

    class Watched(AdamW):
        def move(self, rate):
            seen.append((float(rate), int(self.n_steps)))
            super().move(rate)

    monkeypatch.setattr(_training, "AdamW", Watched)
    return seen


def train(objective=exact, held_out=False, **changes):
    x = torch.randn(140, D, generator=stream(1), dtype=torch.float64)
    history, model = History(), network()
    held = x[100:] if held_out else None
    plan = replace(PLAN, **changes)
    fit_score(model, x[:100], held, objective, plan, generator=stream(), history=history)
    return history, model


def still(score, x, *, generator):
    """An objective without a gradient: nothing is ever gained."""
    return 0.0 * score(x).sum(dim=1)


def single(values):
    """Round to float32, in which the rates of the members are."""
    return torch.tensor(values, dtype=torch.float32).tolist()


@pytest.mark.parametrize("n_epochs", [3, 20])
def test_the_rate_warms_up_stays_and_falls_to_zero(n_epochs, steps):
    train(n_epochs=n_epochs)
    budget = 10 * n_epochs
    warm = min(50, budget)
    expected = [0.01 * min(1.0, (k + 1) / warm, (1 - k / budget) / 0.3) for k in range(budget)]
    assert [rate for rate, _ in steps] == pytest.approx(single(expected), rel=1e-12)
    assert (max(expected) == 0.01) == (n_epochs == 20)
    assert expected[-1] < 0.01 * 0.12


def test_the_rate_drops_and_training_stops_at_the_fourth_time(steps):
    # 600 epochs are checked every tenth; two checks without a gain are a drop.
    history, _ = train(still, held_out=True, n_epochs=600, n_iter_no_change=2)
    assert history.n_epochs == 80
    assert len(history.held_out) == 9
    rates = [rate for rate, _ in steps[50:]]
    for drop in range(4):
        part = rates[max(0, 200 * drop - 50) : 200 * (drop + 1) - 50]
        assert part == pytest.approx([single([0.01 * 0.3**drop])[0]] * len(part), rel=2**-23)
    counts = [count for _, count in steps]
    assert counts == [k % 200 for k in range(800)]  # the moments are forgotten at each drop


def test_a_drop_goes_back_to_the_best_weights(monkeypatch):
    x = torch.randn(140, D, generator=stream(1), dtype=torch.float64)
    history, model, drops = History(), network(), []

    class Watched(AdamW):
        def forget(self, members):
            super().forget(members)
            if history.held_out and members.any():
                value = float(held_out_objective(model, x[100:]).mean())
                drops.append((value, min(history.held_out), history.held_out[-1]))

    monkeypatch.setattr(_training, "AdamW", Watched)
    plan = replace(PLAN, n_epochs=60, n_iter_no_change=1, learning_rate=0.3)
    fit_score(model, x[:100], x[100:], exact, plan, generator=stream(), history=history)
    assert len(drops) == 4
    for there, best, last in drops:
        assert there == pytest.approx(best, abs=1e-12)
        assert last > best


def test_tol_counts_small_gains_as_none_but_keeps_them():
    patient, _ = train(held_out=True, n_epochs=60, n_iter_no_change=1)
    hasty, model = train(held_out=True, n_epochs=60, n_iter_no_change=1, tol=1e9)
    assert hasty.n_epochs == 4 < patient.n_epochs
    assert hasty.held_out[-1] < hasty.held_out[0]
    assert any(p.abs().max() > 0 for p in model.weights[-1:])


def test_looking_at_held_out_rows_changes_no_step():
    alone, _ = train()
    watched, _ = train(held_out=True, n_iter_no_change=100)
    assert watched.loss == alone.loss
    dropped, _ = train(held_out=True, n_iter_no_change=1, tol=1e9)
    assert dropped.loss != alone.loss[: len(dropped.loss)]


def test_the_weights_left_are_an_average_that_forgets_the_start(monkeypatch):
    path = []

    class Watched(AdamW):
        def move(self, rate):
            super().move(rate)
            path.append(self.weights.clone())

    monkeypatch.setattr(_training, "AdamW", Watched)
    _, model = train(n_epochs=60)
    average = torch.full_like(path[0], 1e6)  # the start has no weight
    for k, there in enumerate(path):
        average = average + max(1 / (1 + k / 10), 1 / 200) * (there - average)
    left = torch.cat([p.detach().reshape(-1) for p in model.parameters()])[None]
    torch.testing.assert_close(left, average, rtol=1e-9, atol=1e-9)
    assert not torch.equal(left, path[-1])


# The optimiser ----------------------------------------------------------------------------------


def losses(model, n_steps, size=1.0):
    x = torch.randn(n_steps, 8, D, generator=stream(2), dtype=torch.float64)
    for rows in x:
        yield lambda rows=rows: size * ((model(rows) - rows.flip(1)) ** 2).mean()


def ours(n_steps=150, size=1.0, weight_decay=0.03, rate=lambda k: 0.01 / (1 + k / 50), **hyper):
    model = network()
    optimiser = AdamW(model, weight_decay=weight_decay, **hyper)
    for k, loss in enumerate(losses(model, n_steps, size)):
        optimiser.step(loss(), torch.tensor([[rate(k)]], dtype=torch.float64))
    return optimiser.weights[0]


def torchs(n_steps=150, size=1.0, clip=None, betas=(0.9, 0.99)):
    model = network()
    optimiser = torch.optim.AdamW(model.parameters(), betas=betas, weight_decay=0.03)
    for k, loss in enumerate(losses(model, n_steps, size)):
        optimiser.zero_grad()
        loss().backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.param_groups[0]["lr"] = 0.01 / (1 + k / 50)
        optimiser.step()
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def test_adamw_equals_torchs():
    torch.testing.assert_close(ours(), torchs(), rtol=1e-6, atol=1e-9)
    for twin in (ours(weight_decay=0.0), ours(betas=(0.9, 0.999)), ours(rate=lambda k: 0.01)):
        assert (twin - torchs()).abs().max() > 1e-4


def test_adamw_clips_the_norm_of_the_gradient():
    wild = {"size": 30.0}
    close = {"rtol": 1e-5, "atol": 1e-7}
    torch.testing.assert_close(ours(max_norm=2.0, **wild), torchs(clip=2.0, **wild), **close)
    torch.testing.assert_close(ours(**wild), torchs(clip=10.0, **wild), **close)
    assert (ours(max_norm=2.0, **wild) - torchs(**wild)).abs().max() > 1e-4


def test_adamw_owns_the_trainable_parameters_as_views():
    model = network()
    model.biases[0].requires_grad_(False)
    frozen = model.biases[0].clone()
    before = torch.cat([p.reshape(-1) for p in model.parameters() if p.requires_grad]).detach()
    optimiser = AdamW(model, weight_decay=0.1)
    assert torch.equal(optimiser.weights, before[None])
    optimiser.weights.add_(1.0)
    after = torch.cat([p.reshape(-1) for p in model.parameters() if p.requires_grad]).detach()
    assert torch.equal(after, before + 1.0)
    optimiser.step(next(losses(model, 1))(), torch.full((1, 1), 0.1))
    assert torch.equal(model.biases[0], frozen)
    assert not torch.equal(optimiser.weights[0], after)


def test_forgetting_equals_a_fresh_start():
    model = network()
    optimiser = AdamW(model, weight_decay=0.0)
    first, second = losses(model, 2)
    rate = torch.full((1, 1), 0.1)
    optimiser.step(first(), rate)
    there = optimiser.weights.clone()
    optimiser.forget(torch.tensor([True]))
    optimiser.step(second(), rate)
    fresh = network()
    other = AdamW(fresh, weight_decay=0.0)
    other.weights.copy_(there)
    _, second = losses(fresh, 2)
    other.step(second(), rate)
    assert torch.equal(optimiser.weights, other.weights)
