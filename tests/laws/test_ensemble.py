"""Laws of an ensemble: the mean at (n, d), and at (k, n, d) each member by itself.

Stacked perceptrons, foreign networks in a loop, and energies of both; float64.
"""

import itertools
from functools import partial

import pytest
import torch
from scipy import stats
from torch import nn

from skscore._autodiff import (
    floats_per_row,
    unit_directions,
    value_and_curvature,
    value_and_divergence,
    value_and_jvp,
    value_and_products,
)
from skscore._model import GradientField, ScoreModel
from skscore.networks import MLP, Ensemble
from skscore.objectives import exact, sliced

K, N, D = 3, 6, 4
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


def perceptron(sizes, n_outputs, d=D):
    return MLP(d, n_outputs, generator=stream(), hidden_layer_sizes=sizes)


def foreign(n_outputs, d=D):
    return nn.Sequential(nn.Linear(d, 5), nn.Tanh(), nn.Linear(5, n_outputs))


FACTORIES = {
    "no layer": partial(perceptron, ()),
    "one layer": partial(perceptron, (5,)),
    "two layers": partial(perceptron, (5, 3)),
    "three layers": partial(perceptron, (5, 3, 4)),
    "foreign": foreign,
}
every_kind = pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
either = pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])


def fields(factory, woken, energy, d=D):
    """Return the model of an ensemble, and those of its members."""
    networks = [woken(factory(1 if energy else d, d), seed=seed) for seed in range(K)]
    A = draw(d, d, seed=4)
    P = A @ A.T + torch.eye(d, dtype=torch.float64)
    ensemble = ScoreModel(Ensemble(networks), P, energy=energy)
    return ensemble, [ScoreModel(network, P, energy=energy) for network in networks]


def products(score, x, v, w, metric):
    """Return all that is asked of a field, rows first."""
    s, jv = value_and_jvp(score, x, v)
    z, divergence = value_and_divergence(score, x, metric)
    y, jv_too, jw = value_and_products(score, x, v, w)
    r, curvature = value_and_curvature(score, x, v, v.flip(0))
    rows_first = [jv.movedim(0, -2), jv_too.movedim(0, -2), curvature.movedim(0, -1)]
    return [score(x), s, z, y, r, *rows_first, divergence, jw]


@either
@every_kind
@pytest.mark.parametrize("graph", [False, True])
def test_at_shared_rows_it_is_the_mean(factory, energy, graph, woken):
    ensemble, members = fields(factory, woken, energy)
    constant = energy and factory is FACTORIES["no layer"]  # but for the skip
    x, v, w, B = draw(N, D), draw(2, N, D, seed=2), draw(4, D, seed=3), draw(D, D, seed=5)
    assert len(ensemble.network) == K
    with torch.set_grad_enabled(graph):
        own = products(ensemble, x, v, w, B @ B.T)
        each = [products(member, x, v, w, B @ B.T) for member in members]
    for value, of_members in zip(own, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(value, torch.stack(of_members).mean(dim=0), **TIGHT)
        if not constant:
            assert (value - of_members[0]).abs().max() > 1e-6
    if energy:
        mean = torch.stack([member.energy(x) for member in members]).mean(dim=0)
        torch.testing.assert_close(ensemble.energy(x), mean, **TIGHT)


@either
@every_kind
def test_at_rows_of_their_own_each_is_alone(factory, energy, woken):
    ensemble, members = fields(factory, woken, energy)
    x, v, w = draw(K, N, D), draw(2, K, N, D, seed=2), draw(K, 4, D, seed=3)
    own = products(ensemble, x, v, w, None)
    for j, member in enumerate(members):
        alone = products(member, x[j], v[:, j], w[j], None)
        for value, expected in zip(own, alone, strict=True):
            torch.testing.assert_close(value[j], expected, **TIGHT)


OBJECTIVES = {
    "exact": exact,
    "sliced": partial(sliced, directions=draw(1, K, N, D, seed=2)),
    "sliced, curl": partial(sliced, directions=draw(2, K, N, D, seed=2), curl_penalty=10.0),
    "unit vectors, curl": partial(sliced, n_projections=D, curl_penalty=10.0),
}


def gradients(loss, networks):
    parameters = [list(network.parameters()) for network in networks]
    flat = list(itertools.chain(*parameters))
    pieces = iter(torch.autograd.grad(loss, flat, allow_unused=True, materialize_grads=True))
    return [torch.cat([next(pieces).reshape(-1) for _ in own]) for own in parameters]


@either
@every_kind
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_the_gradient_of_a_member_is_that_of_its_own_rows(objective, factory, energy, woken):
    if energy and factory is FACTORIES["no layer"]:
        pytest.skip("the energy is linear, and its field constant")
    ensemble, members = fields(factory, woken, energy)
    networks, x = [member.network for member in members], draw(K, N, D)
    values = objective(ensemble, x)
    assert values.shape == (K, N)
    together = gradients(values.mean(dim=-1).sum(), networks)
    for j, member in enumerate(members):
        known = dict(getattr(objective, "keywords", {}))
        if "directions" in known:
            known["directions"] = known["directions"][:, j]
        alone = partial(getattr(objective, "func", objective), **known)(member, x[j])
        torch.testing.assert_close(values[j], alone, **TIGHT)
        (expected,) = gradients(alone.mean(), [networks[j]])
        torch.testing.assert_close(together[j], expected, **TIGHT)
    moved = x.clone()
    moved[1] += 0.3
    other = gradients(objective(ensemble, moved).mean(dim=-1).sum(), networks)
    same = [torch.allclose(a, b, **TIGHT) for a, b in zip(together, other, strict=True)]
    assert same == [True, False, True]


def test_perceptrons_are_stacked_and_others_looped(woken):
    alike = Ensemble([woken(perceptron((5,), D)) for _ in range(2)])
    mixed = Ensemble([woken(perceptron((5,), D)), woken(foreign(D))])
    assert type(alike.stack) is not type(mixed.stack)
    x = draw(N, D)
    one, two = (member(x) for member in mixed.stack.members)
    torch.testing.assert_close(mixed(x), (one + two) / 2, **TIGHT)
    single = floats_per_row(alike.stack.members[0], D)
    assert floats_per_row(alike, D) == 2 * single


def test_a_field_of_an_ensemble_without_its_closed_forms(woken, jacobian):
    """The reverse passes of the loop, at rows of their own, against autograd of each."""
    ensemble, members = fields(foreign, woken, energy=False)
    x = draw(K, N, D)
    s, jv = value_and_jvp(ensemble, x, unit_directions(x))
    for j, member in enumerate(members):
        torch.testing.assert_close(s[j], member(x[j]), **TIGHT)
        torch.testing.assert_close(jv[:, j].permute(1, 2, 0), jacobian(member, x[j]), **TIGHT)
    energies = GradientField(Ensemble([woken(foreign(1), seed=s) for s in range(K)]))
    s, jv = value_and_jvp(energies, x, unit_directions(x))
    torch.testing.assert_close(jv.permute(1, 2, 3, 0), jv.permute(1, 2, 0, 3), **TIGHT)


# The spread of the first layer ------------------------------------------------------------------


def first_weights(spread, d=D, seed=0, units=4000):
    network = MLP(
        d, d, generator=stream(seed), hidden_layer_sizes=(units, 3), frequency_spread=spread
    )
    return [W.detach() for W in network.weights], [b.detach() for b in network.biases]


@pytest.mark.parametrize(("d", "spread"), [(1, 8.0), (4, 2.75), (7, 2.0), (4, 100.0)])
def test_the_units_of_the_first_layer_spread_log_uniformly(d, spread):
    asked = spread if spread == 100.0 else "auto"
    (W, *others), biases = first_weights(asked, d)
    (plain, *same), same_biases = first_weights(1.0, d)
    factor = W / plain
    torch.testing.assert_close(factor, factor[:1].expand_as(factor), rtol=1e-5, atol=0)
    octaves = factor[0].double().log() / torch.tensor(spread, dtype=torch.float64).log()
    assert stats.kstest(octaves.numpy(), "uniform").pvalue > 1e-4
    assert 0.99 < float(octaves.max()) < 1 + 1e-5
    assert -1e-5 < float(octaves.min()) < 0.01
    assert all(map(torch.equal, others, same))
    assert all(map(torch.equal, biases, same_biases))
    assert torch.equal(W, first_weights(asked, d)[0][0])
    assert not torch.equal(W, first_weights(asked, d, seed=1)[0][0])


def test_without_a_spread_all_units_are_alike():
    (W, V, _), (b, c, last) = first_weights(1.0, 4)
    assert stats.kstest(W.flatten().double().numpy() * 2, "norm").pvalue > 1e-4
    assert stats.kstest(V.flatten().double().numpy() * 4000**0.5, "norm").pvalue > 1e-4
    assert stats.kstest(b.double().numpy() / 4 + 0.5, "uniform").pvalue > 1e-4
    assert b.abs().max() < 2
    assert c.any()
    assert not last.any()
    # The largest norm is that of 4000 draws of chi with 4 degrees of freedom.
    assert float(W.norm(dim=0).max()) < 0.5 * stats.chi(4).isf(1e-4 / 4000)
    spread = first_weights("auto", 4)[0][0]
    assert float(spread.norm(dim=0).max()) > float(W.norm(dim=0).max()) * 1.5
