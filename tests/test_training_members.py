"""Training of several networks at once, and the switches of a plan."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from skscore import _training
from skscore._adamw import AdamW
from skscore._model import ScoreModel
from skscore._training import History, Plan, fit_score, gain_is_noise, held_out_objective
from skscore.networks import MLP, Ensemble
from skscore.objectives import exact

K, D = 3, 2
PLAN = Plan(
    n_epochs=60,
    batch_size=80,
    learning_rate=0.01,
    weight_decay=0.01,
    n_iter_no_change=5,
    tol=0.0,
    residual_test=False,
)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def hills(*shape, seed=0):
    signs = torch.sign(torch.randn(*shape, D, generator=stream(seed), dtype=torch.float64))
    noise = torch.randn(*shape, D, generator=stream(seed + 100), dtype=torch.float64)
    return signs + 0.4 * noise


def perceptron(seed):
    return MLP(D, D, generator=stream(seed), hidden_layer_sizes=(12,))


def foreign(seed):
    network = nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, D))
    for p in network.parameters():
        nn.init.normal_(p, std=0.3, generator=stream(seed))
    return network


def model_of(networks):
    network = networks[0] if len(networks) == 1 else Ensemble(networks)
    return ScoreModel(network, torch.eye(D), energy=False).to(torch.float64)


def weights(module):
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()


@pytest.fixture
def watch(monkeypatch):
    """The rates of each step, and the weights after it."""
    rates, path = [], []

    class Watched(AdamW):
        def move(self, rate):
            super().move(rate)
            rates.append(rate.flatten().tolist())
            path.append(self.weights.clone())

    monkeypatch.setattr(_training, "AdamW", Watched)
    return rates, path


def train(model, x, held_out=None, objective=exact, **changes):
    history, plan = History(), replace(PLAN, **changes)
    fit_score(model, x, held_out, objective, plan, generator=stream(), history=history)
    return history


# Each member by itself --------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [perceptron, foreign])
def test_a_member_is_trained_as_it_would_be_alone(factory, watch):
    # One batch is all the rows, and the objective has nothing random: the order does not matter.
    rates, _ = watch
    x, held_out = hills(K, 80), hills(K, 40, seed=1)
    hasty = {"learning_rate": 0.15, "n_iter_no_change": 1, "n_epochs": 120}
    networks = [factory(seed) for seed in range(K)]
    history = train(model_of(networks), x, held_out, **hasty)
    together = list(rates)
    found, curves = [], []
    for j in range(K):
        rates.clear()
        alone = factory(j)
        curves.append(train(model_of([alone]), x[j], held_out[j], **hasty).held_out)
        n = len(rates)
        np.testing.assert_allclose([r[j] for r in together[:n]], [r[0] for r in rates], rtol=1e-6)
        found.append(n)
        if n == len(together):  # a member that is done waits for the others, at a low rate
            torch.testing.assert_close(weights(networks[j]), weights(alone), rtol=1e-5, atol=1e-6)
    assert max(found) == len(together)
    # The drops came at steps of their own, and the history is the mean of the members.
    while_all_train = np.array(together[: min(found)])
    assert (while_all_train.max(axis=1) > 2 * while_all_train.min(axis=1)).any()
    n = min(map(len, curves))
    np.testing.assert_allclose(history.held_out[:n], np.mean([c[:n] for c in curves], axis=0))


def test_each_member_keeps_its_own_best_weights(watch):
    _, path = watch
    x, held_out = hills(K, 60), hills(K, 40, seed=1)
    networks = [perceptron(seed) for seed in range(K)]
    start = weights(nn.ModuleList(networks)).double().view(K, -1)
    # Members are best at checks of their own; without averages the weights are those of a step.
    plan = {"learning_rate": 0.1, "average": False, "n_iter_no_change": 1000, "n_epochs": 200}
    history = train(model_of(networks), x, held_out, **plan)
    left = weights(nn.ModuleList(networks)).view(K, -1)
    model = model_of([*networks])
    every = 200 // _training.N_CHECKS
    checks = [start, *(path[k] for k in (*range(every - 1, 200, every), 199))]
    values = []
    for there in checks:
        torch.nn.utils.vector_to_parameters(there.flatten(), nn.ModuleList(networks).parameters())
        values.append(held_out_objective(model, held_out).mean(dim=1))
    values = torch.stack(values)
    best = values.argmin(dim=0)
    assert len(set(best.tolist())) > 1
    for j in range(K):
        torch.testing.assert_close(left[j], checks[best[j]][j], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(history.held_out, values.mean(dim=1))


@pytest.mark.parametrize("factory", [perceptron, foreign])
def test_rows_of_another_member_change_nothing(factory):
    x, held_out = hills(K, 80), hills(K, 40, seed=1)
    moved, moved_held_out = x.clone(), held_out.clone()
    moved[1] *= 1.3
    moved_held_out[1] *= 1.3
    fits = []
    for rows, others in ((x, held_out), (moved, moved_held_out)):
        networks = [factory(seed) for seed in range(K)]
        train(model_of(networks), rows, others, batch_size=20, n_iter_no_change=100)
        fits.append([weights(network) for network in networks])
    close = [torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(*fits, strict=True)]
    assert close == [True, False, True]


def test_members_see_orders_of_their_own():
    rows = torch.arange(40.0, dtype=torch.float64).view(-1, 1).expand(-1, D).expand(K, -1, -1)
    seen = []

    def objective(score, x, *, generator):
        seen.append(x[..., 0].clone())
        return 0.0 * score(x).sum(dim=-1)

    train(model_of([perceptron(s) for s in range(K)]), rows, objective=objective, n_epochs=1)
    assert seen[0].shape == (K, 40)
    assert all(own.unique().tolist() == list(range(40)) for own in seen[0])
    assert len({tuple(own.tolist()) for own in seen[0]}) == K


def test_the_gain_of_all_members_is_pooled():
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(50)  # two errors are 0.2
    best = torch.zeros(4, 100, dtype=torch.float64)
    gain = (0.15 + signs).expand(4, -1)
    assert gain_is_noise(best[0] + gain[0], best[0])
    assert not gain_is_noise(best + gain, best)
    assert gain_is_noise(best + torch.stack([gain[0], -gain[1], gain[2], -gain[3]]), best)


def test_members_return_to_the_gaussian_together():
    normal = torch.randn(K, 80, D, generator=stream(5), dtype=torch.float64)
    held_out = torch.randn(K, 40, D, generator=stream(6), dtype=torch.float64)
    changes = {"n_epochs": 30, "learning_rate": 0.003}
    for residual_test in (True, False):
        networks = [perceptron(seed) for seed in range(K)]
        start = weights(nn.ModuleList(networks)).double()
        train(model_of(networks), normal, held_out, residual_test=residual_test, **changes)
        assert torch.equal(weights(nn.ModuleList(networks)), start) == residual_test
    # A member with a great gain decides for all, and for none where the rest loses as much.
    networks = [perceptron(seed) for seed in range(K)]
    rows = torch.randn(K, 800, D, generator=stream(7), dtype=torch.float64)
    rows[0] = hills(800)
    plan = {"residual_test": True, "n_epochs": 40, "learning_rate": 0.02, "n_iter_no_change": 100}
    train(model_of(networks), rows[:, :600], rows[:, 600:], **plan)
    assert networks[0].weights[-1].any()


def test_the_optimiser_clips_each_member_and_forgets_some():
    def run(seeds, sizes, forgotten=(), n_steps=6):
        networks = nn.ModuleList([perceptron(seed).to(torch.float64) for seed in seeds])
        optimiser = AdamW(networks, weight_decay=0.1, n_members=len(seeds), max_norm=1.0)
        rates = torch.tensor([[0.01 * (seed + 1)] for seed in seeds], dtype=torch.float64)
        x = hills(8)
        for step in range(n_steps):
            if step == 3 and forgotten:
                optimiser.forget(torch.tensor([seed in forgotten for seed in seeds]))
            losses = [c * ((f(x) - x) ** 2).mean() for f, c in zip(networks, sizes, strict=True)]
            optimiser.step(sum(losses), rates)
        return optimiser.weights.clone()

    together = run((0, 1, 2), (1e4, 1.0, 1e-3))
    for j, size in enumerate((1e4, 1.0, 1e-3)):
        torch.testing.assert_close(together[j], run((j,), (size,))[0], rtol=1e-12, atol=1e-14)
    forgot = run((0, 1, 2), (1e4, 1.0, 1e-3), forgotten=(1,))
    assert torch.equal(forgot[[0, 2]], together[[0, 2]])
    assert (forgot[1] - together[1]).abs().max() > 1e-4
    torch.testing.assert_close(forgot[1], run((1,), (1.0,), forgotten=(1,))[0], rtol=1e-12, atol=0)


# The switches of a plan -------------------------------------------------------------------------


def still(score, x, *, generator):
    return 0.0 * score(x).sum(dim=-1)


def test_without_averages_it_ends_at_the_last_weights(watch):
    _, path = watch
    for average in (False, True):
        path.clear()
        network = perceptron(0)
        train(model_of([network]), hills(80), average=average)
        assert torch.equal(weights(network), path[-1][0]) != average


def test_a_constant_rate_stays_and_stops_at_the_first_plateau(watch):
    rates, _ = watch
    train(model_of([perceptron(0)]), hills(80), adaptive=False, n_epochs=100)
    assert [r[0] for r in rates] == pytest.approx(
        [0.01 * min(1.0, (k + 1) / 50) for k in range(100)], rel=1e-6
    )
    rates.clear()
    plan = {"objective": still, "adaptive": False, "n_epochs": 600, "n_iter_no_change": 2}
    history = train(model_of([perceptron(0)]), hills(80), hills(40, seed=1), **plan)
    assert history.n_epochs == 20  # checked every tenth
    assert len({r[0] for r in rates[50:]}) <= 1
    patient = train(
        model_of([perceptron(0)]), hills(80), hills(40, seed=1), **plan | {"n_iter_no_change": 4}
    )
    assert patient.n_epochs == 40


# Rows that are blurred --------------------------------------------------------------------------


@pytest.mark.parametrize("members", [(), (K,)])
def test_rows_are_blurred_anew_in_each_batch(members):
    x, seen = hills(*members, 400), []

    def objective(score, rows, *, generator):
        seen.append(rows.clone())
        return 0.0 * score(rows).sum(dim=-1)

    networks = [perceptron(seed) for seed in range(K if members else 1)]
    train(model_of(networks), 0 * x, objective=objective, sigma=0.3, n_epochs=3, batch_size=200)
    z = torch.stack(seen)  # of rows at zero
    assert len(z) == 6
    assert len(z.flatten().unique()) == z.numel()
    assert float(z.std()) == pytest.approx(0.3, rel=0.1)
    assert abs(float(z.mean())) < 0.03
    seen.clear()
    train(model_of(networks), 0 * x, objective=objective, n_epochs=1, batch_size=200)
    assert not torch.stack(seen).any()


@pytest.mark.parametrize("members", [(), (K,)])
def test_held_out_rows_are_blurred_once(members):
    networks = [perceptron(seed) for seed in range(K if members else 1)]
    x, held_out = hills(*members, 80), hills(*members, 4000, seed=1)
    frozen = {"objective": still, "weight_decay": 0.0, "n_epochs": 12, "n_iter_no_change": 100}
    blurred = train(model_of(networks), x, held_out, sigma=0.5, **frozen).held_out
    assert len(blurred) == 13
    assert len(set(blurred)) == 1
    sharp = train(model_of(networks), x, held_out, **frozen).held_out
    # New networks are the Gaussian: 1/2 |x|^2 - d, of rows with more variance.
    gain = (blurred[0] - sharp[0]) / (0.5 * D * 0.25)
    assert 0.7 < gain < 1.3


@pytest.mark.parametrize("adaptive", [True, False])
def test_a_member_that_is_done_stays_as_it_is(adaptive):
    model = model_of([perceptron(j) for j in range(K)])
    plan = replace(PLAN, adaptive=adaptive)
    run = _training._Run(
        model, hills(K, 80), None, exact, _training.held_out_objective, plan, stream(), History()
    )
    run._epoch(0)
    run.drops[1] = _training.N_DROPS + 1
    before = run.optimiser.weights.clone()
    run._epoch(1)
    moved = (run.optimiser.weights != before).any(dim=1)
    assert moved.tolist() == [True, False, True]
