"""Networks that act in a few directions: the algebra, the choice of the directions, the training.

``restrict(f, V)`` is ``x -> f(x V V') V V'`` for an orthonormal V, with V and f free to move.
"""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skscore import (
    DenoisingScoreEstimator,
    ScoreMatchingEstimator,
    SlicedScoreEstimator,
    _torch,
    _training,
)
from skscore._autodiff import value_and_divergence, value_and_jvp, value_and_products
from skscore._model import ScoreModel
from skscore._subspace import (
    can_be_restricted,
    counts,
    in_fewer_directions,
    principal_directions,
    restricted,
    widened,
)
from skscore._training import History, Plan, fit_score, held_out_objective
from skscore.estimators import _base
from skscore.estimators._sliced_step import SlicedStep, sliced_step
from skscore.estimators._steps import OfRestricted
from skscore.networks import MLP, Ensemble, NoiseConditionalMLP, UNet, restrict, widen
from skscore.objectives import exact, sliced

D, M, N = 5, 2, 7
TIGHT = {"rtol": 1e-11, "atol": 1e-11}
CONDITION = torch.full((N, 1), 0.4, dtype=torch.float64)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


def orthonormal(m=M, seed=3):
    return torch.linalg.qr(draw(D, D, seed=seed))[0][:, :m]


def perceptron(n_outputs=D, sizes=(6, 4), kind=MLP, seed=0):
    return kind(D, n_outputs, generator=stream(seed), hidden_layer_sizes=sizes)


def at(network):
    """Return the network of rows alone."""
    if hasattr(network, "film") or getattr(network, "shares_conditions", False):
        return network.at(CONDITION[0])
    return network


KINDS = {
    "no layer": partial(perceptron, sizes=()),
    "one layer": partial(perceptron, sizes=(6,)),
    "two layers": perceptron,
    "three layers": partial(perceptron, sizes=(6, 4, 5)),
    "conditional": partial(perceptron, kind=NoiseConditionalMLP),
    "conditional, three": partial(perceptron, kind=NoiseConditionalMLP, sizes=(6, 4, 5)),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
either = pytest.mark.parametrize("field", [True, False], ids=["field", "energy"])


# The algebra ------------------------------------------------------------------------------------


@every_kind
@either
def test_it_is_the_network_between_two_projections(kind, field, woken):
    network, V, x = woken(kind(D if field else 1)), orthonormal(), draw(N, D)
    before = at(network)(x)
    small = restrict(network, V, field=field)
    expected = at(network)(x @ V @ V.T)
    expected = expected @ V @ V.T if field else expected
    torch.testing.assert_close(at(small)(x), expected, **TIGHT)
    assert (expected - before).abs().max() > 1e-3
    with torch.no_grad():
        for p in small.parameters():
            p.add_(1.0)
    assert torch.equal(at(network)(x), before)  # it has parameters of its own


@every_kind
def test_its_derivatives_equal_autograd(kind, woken, jacobian):
    small = at(restrict(woken(kind()), orthonormal()).requires_grad_(False))
    x, v, A = draw(N, D), draw(3, N, D, seed=2), draw(D, D, seed=4)
    A = A + A.T
    J = jacobian(small, x)
    assert torch.linalg.matrix_rank(J[0]) <= M
    s, jv = value_and_jvp(small, x, v)
    torch.testing.assert_close(s, small(x), **TIGHT)
    torch.testing.assert_close(jv, torch.einsum("nij,mnj->mni", J, v), **TIGHT)
    _, trace = value_and_divergence(small, x, A)
    torch.testing.assert_close(trace, torch.einsum("nij,ji->n", J, A), **TIGHT)
    _, _, jw = value_and_products(small, x, v, v[0, :3])
    torch.testing.assert_close(jw, torch.einsum("nij,ni->nj", J[:3], v[0, :3]), **TIGHT)


@pytest.mark.parametrize("metric", [None, torch.diag(draw(D))], ids=["trace", "metric"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_restricted_networks_together_have_the_divergence_of_each(metric, shared, training, woken):
    each = [
        restrict(woken(perceptron(sizes=(6, 4, 5), seed=seed)), orthonormal(seed=seed))
        for seed in (3, 4)
    ]
    together = Ensemble(each)
    x = draw(N, D) if shared else draw(2, N, D)
    with torch.set_grad_enabled(training):
        s, divergence = value_and_divergence(together, x, metric)
    rows = [x, x] if shared else x
    pairs = [value_and_divergence(one, own, metric) for one, own in zip(each, rows, strict=True)]
    expected = [torch.stack(column) for column in zip(*pairs, strict=True)]
    if shared:
        expected = [column.mean(dim=0) for column in expected]
    torch.testing.assert_close(s, expected[0], **TIGHT)
    torch.testing.assert_close(divergence, expected[1], **TIGHT)
    inside = each[0].network.floats_per_row(M)
    assert together.floats_per_row(D) == 2 * (inside + 4 * D)  # rows have all columns


@every_kind
@either
def test_the_basis_learns(kind, field, woken):
    small, x = restrict(woken(kind(D if field else 1)), orthonormal(), field=field), draw(N, D)
    parameters = dict(small.named_parameters())

    def loss(V):
        return torch.func.functional_call(small, parameters | {"basis": V}, _input(small, x)).sum()

    assert torch.autograd.gradcheck(loss, small.basis.detach().requires_grad_())


def _input(network, x):
    return (x, CONDITION) if hasattr(network, "film") else (x,)


@every_kind
@either
def test_a_network_takes_the_weights_of_a_restricted_one(kind, field, woken):
    network, x = woken(kind(D if field else 1)), draw(N, D)
    small = restrict(network, orthonormal(), field=field)
    with torch.no_grad():
        for p in small.parameters():
            p.add_(0.3 * draw(*p.shape, seed=8))
    storage = [p.data_ptr() for p in network.parameters()]
    widen(small, network)
    torch.testing.assert_close(at(network)(x), at(small)(x), **TIGHT)
    assert [p.data_ptr() for p in network.parameters()] == storage  # views of a buffer stay so


@pytest.mark.parametrize("kind", [perceptron, KINDS["conditional"]], ids=["plain", "conditional"])
@either
def test_members_share_a_basis_at_the_start_and_part(kind, field, woken):
    n_outputs = D if field else 1
    networks = [woken(kind(n_outputs, seed=j), seed=j) for j in range(3)]
    P, V, x = torch.eye(D, dtype=torch.float64), orthonormal(), draw(3, N, D)
    model = ScoreModel(Ensemble(networks), P, energy=not field)
    small = restricted(model, V)
    members = list(small.network.stack.members)
    assert small.has_energy is not field
    assert len({id(f.basis) for f in members}) == 3
    assert isinstance(small.network.stack, type(model.network.stack))  # one product for all
    args = (CONDITION.expand(3, N, 1),) if hasattr(networks[0], "film") else ()
    alone = torch.stack([f(r, *(a[0] for a in args)) for f, r in zip(members, x, strict=True)])
    torch.testing.assert_close(small.network(x, *args), alone, **TIGHT)
    with torch.no_grad():
        members[1].basis.add_(1.0)
    assert torch.equal(members[0].basis, members[2].basis)
    widened(small, model)
    torch.testing.assert_close(model.network(x, *args), small.network(x, *args), **TIGHT)


def test_what_can_be_restricted():
    P = torch.eye(D)
    for network, possible in (
        (perceptron(), True),
        (Ensemble([perceptron(), perceptron()]), True),
        (perceptron(kind=NoiseConditionalMLP), True),
        (MLP(1, 1, generator=stream()), False),  # no fewer than one
        (nn.Linear(D, D), False),
        (Ensemble([nn.Linear(D, D), nn.Linear(D, D)]), False),
        (UNet(9, 9, generator=stream(), image_shape=(1, 3, 3), widths=(4,)), False),
    ):
        assert can_be_restricted(ScoreModel(network, P, energy=False)) is possible


# The choice -------------------------------------------------------------------------------------


def test_the_numbers_that_are_tried():
    assert counts(1) == []
    assert counts(2) == [1]
    assert counts(5) == [1, 2, 3, 4]
    assert counts(20) == [1, 2, 3, 4, 6, 8, 12, 16]
    assert counts(64) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]


def test_principal_directions_are_in_order_and_of_all_members():
    V, scales = orthonormal(D), torch.tensor([0.1, 3.0, 1.0, 0.01, 10.0], dtype=torch.float64)
    rows = draw(2, 4000, D) * scales @ V.T
    found = principal_directions(rows)
    order = scales.argsort(descending=True)
    overlap = (found.T @ V[:, order]).abs()
    torch.testing.assert_close(overlap, torch.eye(D, dtype=torch.float64), rtol=0.0, atol=0.1)
    torch.testing.assert_close(found.T @ found, torch.eye(D, dtype=torch.float64), **TIGHT)
    # A mean that is not zero counts: these are moments, not covariances.
    assert abs(float(principal_directions(rows + 100 * V[:, 3])[:, 0] @ V[:, 3])) > 0.99


def judge_of(values):
    """Return a judge that goes by the number of directions; D is the network as it is."""

    def judge(model, x):
        network = model.network
        m = network.basis.shape[1] if hasattr(network, "basis") else D
        noise = torch.linspace(-1, 1, len(x), dtype=torch.float64)
        mean, spread = values[m]
        return mean + spread * noise

    return judge


def chosen(values, outputs=None):
    model = ScoreModel(perceptron().double(), torch.eye(D, dtype=torch.float64), energy=False)
    outputs, judge, rows = (
        draw(30, D) if outputs is None else outputs,
        judge_of(values),
        draw(400, D),
    )
    return in_fewer_directions(model, outputs, judge, judge(model, rows), rows)


SAME = dict.fromkeys(range(1, D + 1), (0.0, 0.0))


def test_the_best_number_is_chosen_where_it_beats_all_by_a_standard_error():
    found = chosen(SAME | {2: (-1.0, 0.1), 3: (-0.5, 0.0), D: (0.0, 0.0)})
    assert found is not None
    model, rows, m = found
    assert m == 2
    assert model.network.basis.shape == (D, 2)
    assert math.isclose(float(rows.mean()), -1.0)
    error = math.sqrt(400 / 399) * 0.5788 / math.sqrt(400)  # of the mean of 400 in [-1, 1]
    for gain, taken in ((1.05 * error, True), (0.95 * error, False)):
        assert (chosen(SAME | {4: (-gain, 1.0)}) is not None) is taken


def test_all_directions_stay_where_they_are_as_good():
    assert chosen(SAME) is None
    assert chosen(SAME | dict.fromkeys(range(1, D), (0.1, 0.0))) is None
    assert chosen(SAME | {2: (-1.0, 0.0)}, draw(30, D).fill_(torch.inf)) is None


# The training -----------------------------------------------------------------------------------

PLAN = Plan(
    n_epochs=80,
    batch_size=100,
    learning_rate=0.02,
    weight_decay=0.0,
    n_iter_no_change=20,
    tol=0.0,
)


def bent(n=600, k=1, seed=0):
    """Rows that are Gaussian but for two directions, which are not those of the columns."""
    z = draw(k, n, D, seed=seed)
    z[..., 1] = (z[..., 1] + z[..., 0] ** 2 - 1) / math.sqrt(3)
    return (z @ orthonormal(D).T).squeeze(0)


def signs(n=3000, seed=0):
    """Rows that are Gaussian in no direction."""
    return 0.9 * torch.sign(draw(n, D, seed=seed)) + math.sqrt(0.19) * draw(n, D, seed=seed + 1)


def residual(model, x):
    return model.residual(x)


def train(model, x, held_out, outputs=residual, on_epoch=None, **changes):
    history, plan = History(), replace(PLAN, **changes)
    keywords = {"generator": stream(5), "history": history, "outputs": outputs}
    with _torch.one_thread:
        fit_score(model, x, held_out, exact, plan, **keywords, on_epoch=on_epoch)
    return history


def model_of(k=1, energy=False):
    networks = [perceptron(1 if energy else D, (16,), seed=j) for j in range(k)]
    network = networks[0] if k == 1 else Ensemble(networks)
    return ScoreModel(network, torch.eye(D), energy=energy).double()


def rank_of(model):
    """Return the directions that its residual has values in."""
    values = model.residual(draw(200, D, seed=9)).detach()
    return int((torch.linalg.svdvals(values) > 1e-9 * float(values.abs().max())).sum())


@pytest.mark.parametrize("k", [1, 2])
def test_training_goes_on_in_the_directions_that_are_not_gaussian(k):
    x, held_out = bent(k=k), bent(2000, k=k, seed=50)
    model, whole = model_of(k), model_of(k)
    weights = [p.data_ptr() for p in model.parameters()]
    history = train(model, x, held_out)
    assert history.n_directions is not None
    assert history.n_directions <= 3
    assert rank_of(model) == k * history.n_directions or rank_of(model) == history.n_directions
    assert type(model.network) is type(whole.network)
    assert len(weights) == len(list(model.parameters()))
    for networks in (model.network,) if k == 1 else model.network.stack.members:
        V = torch.linalg.svd(networks.layers[-1][0].detach())[2][: history.n_directions].T
        within = torch.linalg.svdvals(V.T @ orthonormal(D)[:, :2])
        assert within[1] > 0.98  # the two are among them
    plain = train(whole, x, held_out, subspace_test=False)
    assert plain.n_directions is None
    assert rank_of(whole) == D
    fresh = bent(4000, seed=77)
    better, worse = (float(held_out_objective(f, fresh).mean()) for f in (model, whole))
    assert better < worse


def test_all_directions_stay_where_none_is_gaussian():
    model = model_of()
    history = train(model, signs(), signs(2000, seed=50), n_epochs=20)
    assert history.n_directions is None
    assert rank_of(model) == D


@pytest.mark.parametrize(
    "changes",
    [{"subspace_test": False}, {"outputs": None}, {"held_out": None}],
    ids=["switched off", "no values", "no held-out rows"],
)
def test_nothing_is_asked_without(changes, monkeypatch):
    def never(*args):
        raise AssertionError

    monkeypatch.setattr(_training, "in_fewer_directions", never)
    train(**{"model": model_of(), "x": bent(), "held_out": bent(200, seed=50)} | changes)
    with pytest.raises(AssertionError):
        train(model_of(), bent(), bent(200, seed=50))


def test_it_is_asked_of_the_best_weights_at_two_times(monkeypatch):
    asked, runs = [], []
    model, held_out = model_of(), bent(2000, seed=50)

    def ask(own, values, judge, whole, rows):
        assert rows is held_out
        torch.testing.assert_close(whole.flatten(), judge(own, rows))
        torch.testing.assert_close(values, own.residual(x))
        asked.append((history.n_epochs, float(judge(own, rows).mean()), min(history.held_out)))

    real = _training._Run.__init__

    def init(self, *args):
        real(self, *args)
        runs.append(self)

    monkeypatch.setattr(_training, "in_fewer_directions", ask)
    monkeypatch.setattr(_training._Run, "__init__", init)
    x, history = bent(), History()
    plan = replace(PLAN, learning_rate=0.3)  # the last weights are not the best
    keywords = {"generator": stream(5), "history": history, "outputs": residual}
    with _torch.one_thread:
        fit_score(model, x, held_out, exact, plan, **keywords)
    assert [epochs for epochs, _, _ in asked] == [40, 60]
    for _, value, best in asked:
        assert math.isclose(value, best, rel_tol=1e-9)


def run_at_the_half(monkeypatch, found):
    """Return a run that is to ask, and what it asks."""
    monkeypatch.setattr(_training, "in_fewer_directions", lambda *args: found)
    history, held_out = History(n_epochs=40), bent(100, seed=50)
    plan = replace(PLAN, weight_decay=0.3)
    options = (exact, held_out_objective, plan, stream(), history, residual)
    run = _training._Run(model_of(), bent(), held_out, *options)
    run._check()
    run.stale += 2
    return run


def test_what_a_restriction_takes_along(monkeypatch):
    small, rows = restricted(model_of(), orthonormal()), draw(100, seed=3)
    run = run_at_the_half(monkeypatch, (small, rows, M))
    run._restrict()
    assert run.model is small
    assert run.history.n_directions == M
    assert torch.equal(run.rows_at_best, rows[None])
    assert int(run.stale) == 0
    assert (run.optimiser.weight_decay, run.ask_at) == (0.3, [])
    start = torch.nn.utils.parameters_to_vector(small.parameters())
    for weights in (run.optimiser.weights, run.average, run.best):
        assert torch.equal(weights[0], start)


def test_a_question_in_vain_changes_nothing(monkeypatch):
    run = run_at_the_half(monkeypatch, None)
    run.optimiser.weights += 0.1  # the best are others
    before = run.optimiser.weights.clone()
    run._restrict()
    assert torch.equal(run.optimiser.weights, before)
    assert int(run.stale) == 2
    assert run.ask_at == [0.75]
    assert run.history.n_directions is None


def test_the_search_ends_where_fewer_are_clearly_worse():
    tried = []

    def judge(model, x):
        network = model.network
        tried.append(network.basis.shape[1])
        return judge_of(dict.fromkeys(range(1, 41), (1.0, 0.1)) | {1: (-1.0, 0.0)})(model, x)

    network = MLP(40, 40, generator=stream(), hidden_layer_sizes=(6,)).double()
    model = ScoreModel(network, torch.eye(40, dtype=torch.float64), energy=False)
    rows = draw(50, 40)
    whole = torch.zeros(50, dtype=torch.float64)
    assert in_fewer_directions(model, rows, judge, whole, rows) is None
    assert tried == [32, 24]


def test_an_interrupt_keeps_the_best_of_the_restricted_network():
    def stop(epoch, history):
        if history.n_directions and epoch > 60:
            raise KeyboardInterrupt
        return False

    model, held_out = model_of(), bent(2000, seed=50)
    with pytest.raises(KeyboardInterrupt):
        train(model, bent(), held_out, on_epoch=stop)
    assert rank_of(model) <= 3
    assert (
        held_out_objective(model, held_out).mean() < held_out_objective(model_of(), held_out).mean()
    )


def test_what_did_not_help_returns_to_the_whole_start(monkeypatch):
    monkeypatch.setattr(_training, "gain_is_noise", lambda *args: True)
    model = model_of()
    with torch.no_grad():  # as in a warm start
        for p in model.parameters():
            p.add_(0.1 * draw(*p.shape, seed=4))
    start = [p.clone() for p in model.parameters()]
    history = train(model, bent(), bent(2000, seed=50))
    assert history.n_directions is None
    assert all(torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True))


def test_an_energy_goes_on_in_fewer_directions():
    model, held_out = model_of(energy=True), bent(2000, seed=50)
    history = train(model, bent(), held_out)
    assert history.n_directions is not None
    assert rank_of(model) == history.n_directions
    assert model.has_energy


# The estimators ---------------------------------------------------------------------------------

FITS = {
    "sliced": SlicedScoreEstimator(),
    "exact": ScoreMatchingEstimator(),
    "energy": ScoreMatchingEstimator(parametrization="energy", n_members=1),
    "blurred": SlicedScoreEstimator(sigma=0.3),
    "one level": DenoisingScoreEstimator(sigma=0.2),
    "many levels": DenoisingScoreEstimator(),
    "energy, many levels": DenoisingScoreEstimator(parametrization="energy", n_members=1),
    "correlated": DenoisingScoreEstimator(standardize="diag"),
}
LEAN = {"hidden_layer_sizes": (24, 24), "batch_size": 128, "max_iter": 40, "mixture": False}


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_estimators_find_the_directions(name):
    rows = bent(8000 if name == "energy" else 3000).numpy()
    if name == "correlated":
        rows = rows @ draw(D, D, seed=6).numpy()
    est = clone(FITS[name]).set_params(random_state=0, **LEAN).fit(rows)
    assert est.n_directions_ < D
    if not np.ndim(est.sigma) and est.sigma == 0:
        # Whitened, the residual score has values in these directions alone.
        S = np.cov(rows.T)
        gaussian = -(rows - est.location_) @ np.linalg.inv(S)
        residual = (est.score_samples(rows) - gaussian) @ np.linalg.cholesky(S)
        values = np.linalg.svd(residual, compute_uv=False)
        assert (values > 0.02 * values[0]).sum() <= est.n_members * est.n_directions_


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sliced", "many levels"])
def test_the_switch(name):
    est = clone(FITS[name]).set_params(random_state=0, **LEAN)
    assert est.set_params(subspace_test=False).fit(bent(3000).numpy()).n_directions_ == D


def test_each_network_trains_by_the_step_of_its_own_weights(monkeypatch):
    kinds, n_steps = [], []

    def counted(model, optimiser, **options):
        step, which = sliced_step(model, optimiser, **options), len(kinds)
        kinds.append(type(step))
        n_steps.append(0)

        def call(rows, generator):
            n_steps[which] += 1
            return step(rows, generator)

        return call

    monkeypatch.setitem(_base.STEPS, sliced, counted)
    est = clone(FITS["sliced"]).set_params(random_state=0, **LEAN).fit(bent(3000).numpy())
    assert est.n_directions_ < D
    assert kinds == [SlicedStep, OfRestricted]
    assert all(n_steps)
    assert sum(n_steps) == est.n_iter_ * (2700 // 128)


@pytest.mark.slow
def test_a_network_of_ones_own_has_all_directions():
    def own(n_features, n_outputs, *, generator):
        return MLP(n_features, n_outputs, generator=generator, hidden_layer_sizes=(24, 24))

    rows, est = bent(3000).numpy(), clone(FITS["sliced"]).set_params(random_state=0, **LEAN)
    assert est.set_params(network=own).fit(rows).n_directions_ == D
    assert est.set_params(network=None, early_stopping=False).fit(rows).n_directions_ == D
