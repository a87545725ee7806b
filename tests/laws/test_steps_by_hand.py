"""Steps by hand have the gradient of `sliced` and of `exact`, for every option and network."""

import itertools

import pytest
import torch

from skscore._adamw import AdamW
from skscore._model import ScoreModel
from skscore.estimators._exact_step import ExactStep, exact_step
from skscore.estimators._sliced_step import SlicedStep, sliced_step
from skscore.estimators._steps import OfRestricted
from skscore.networks import ACTIVATIONS, MLP, Ensemble, restrict
from skscore.objectives import exact, sliced

D, N = 4, 7


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def network(d, sizes, activation, n_members, n_directions):
    drawn = stream(3)
    members = [
        MLP(d, d, generator=drawn, hidden_layer_sizes=sizes, activation=activation)
        for _ in range(n_members)
    ]
    if n_directions:
        basis = torch.linalg.qr(torch.randn(d, n_directions, generator=drawn))[0]
        members = [restrict(member, basis) for member in members]
    return Ensemble(members) if n_members > 1 else members[0]


def case(d=D, sizes=(6, 5, 6), activation="softplus", n_members=2, n_directions=0, scalar=False):
    """Return a model with weights that are nowhere zero, its optimiser, and rows."""
    P = torch.tensor(0.7) if scalar else torch.eye(d) + 0.1 * torch.ones(d, d)
    own = network(d, sizes, activation, n_members, n_directions)
    model = ScoreModel(own, P, energy=False).to(torch.float64)
    optimiser = AdamW(model, weight_decay=0.0, n_members=n_members)
    with torch.no_grad():
        optimiser.weights += 0.3 * torch.randn(
            optimiser.weights.shape, generator=stream(4), dtype=torch.float64
        )
    shape = (n_members, N, d) if n_members > 1 else (N, d)
    return model, optimiser, torch.randn(shape, generator=stream(5), dtype=torch.float64)


def both(made, **options):
    """Return loss and gradient by hand, and by autograd, for the same directions."""
    model, optimiser, x = made
    step = sliced_step(model, optimiser, **options)
    step(x, stream(6))  # what is left in its memory has no part in the next
    by_hand = step(x, stream(7)).clone(), optimiser.gradient.clone()
    loss = sliced(model, x, generator=stream(7), **options).mean(dim=-1).sum()
    optimiser.differentiate(loss)
    return by_hand, (loss.detach(), optimiser.gradient)


def assert_same(made, **options):
    for a, b in zip(*both(made, **options), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


OPTIONS = [
    {"n_projections": n, "variance_reduction": reduced, "curl_penalty": curl}
    for n, reduced, curl in itertools.product((1, 3, "auto"), (True, False), (0.0, 10.0))
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("d", [1, 2, D])
def test_every_option(options, d):
    assert_same(case(d=d), **options)


@pytest.mark.parametrize("projection", ["gaussian", "sphere"])
def test_every_law_of_directions(projection):
    assert_same(case(), projection=projection, curl_penalty=10.0)


@pytest.mark.parametrize("n_directions", [0, 2], ids=["whole", "restricted"])
@pytest.mark.parametrize("n_members", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(), (6,), (6, 5), (6, 6, 6, 6)], ids=str)
def test_every_network(sizes, n_members, n_directions):
    if n_directions and not sizes:
        return
    made = case(sizes=sizes, n_members=n_members, n_directions=n_directions)
    assert_same(made, curl_penalty=10.0)
    assert_same(made, n_projections=D, curl_penalty=10.0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_an_isotropic_gaussian(activation):
    assert_same(case(activation=activation, scalar=True), curl_penalty=10.0)


def test_batches_of_another_size_and_gradients_that_were_lost():
    model, optimiser, x = case()
    step = sliced_step(model, optimiser, curl_penalty=10.0)
    optimiser.gradient.fill_(torch.nan)
    for n in (N, 3, 1, N):
        step(x[:, :n], stream(7))
        by_hand = optimiser.gradient.clone()
        rows = sliced(model, x[:, :n], generator=stream(7), curl_penalty=10.0)
        optimiser.differentiate(rows.mean(dim=-1).sum())
        torch.testing.assert_close(by_hand, optimiser.gradient, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n_directions", [0, 2], ids=["whole", "restricted"])
def test_it_reads_the_weights_as_they_are(n_directions):
    model, optimiser, x = case(n_directions=n_directions)
    step = sliced_step(model, optimiser, curl_penalty=10.0)
    for _ in range(3):
        step(x, stream(7))
        by_hand = optimiser.gradient.clone()
        optimiser.differentiate(
            sliced(model, x, generator=stream(7), curl_penalty=10.0).mean(dim=-1).sum()
        )
        torch.testing.assert_close(by_hand, optimiser.gradient, rtol=1e-11, atol=1e-11)
        optimiser.move(torch.full((2, 1), 0.1))


def assert_same_exact(made, **options):
    model, optimiser, x = made
    step = exact_step(model, optimiser, **options)
    for rows in (x, x[..., :3, :], x):  # what is left in its memory has no part in the next
        optimiser.gradient.fill_(torch.nan)
        loss = step(rows, stream(7)).clone()
        by_hand = optimiser.gradient.clone()
        by_autograd = exact(model, rows, generator=stream(7), **options).mean(dim=-1).sum()
        optimiser.differentiate(by_autograd)
        torch.testing.assert_close(loss, by_autograd.detach(), rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(by_hand, optimiser.gradient, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n_members", [1, 2])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_exact_objective_of_few_features(d, n_members):
    assert_same_exact(case(d=d, n_members=n_members), curl_penalty=10.0)


@pytest.mark.parametrize("curl_penalty", [0.0, 10.0])
@pytest.mark.parametrize("n_directions", [0, 2], ids=["whole", "restricted"])
@pytest.mark.parametrize("n_members", [1, 2, 3])
@pytest.mark.parametrize("d", [3, 5])
def test_the_exact_objective_of_two_hidden_layers(d, n_members, n_directions, curl_penalty):
    made = case(d=d, sizes=(6, 5), n_members=n_members, n_directions=n_directions)
    assert_same_exact(made, curl_penalty=curl_penalty)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_exact_objective_of_every_activation(activation):
    made = case(sizes=(6, 6), activation=activation, scalar=True)
    assert_same_exact(made, curl_penalty=3.0)


def test_who_has_one():
    model, optimiser, _ = case()
    assert type(sliced_step(model, optimiser)) is SlicedStep
    model, optimiser, _ = case(n_directions=2)
    assert type(sliced_step(model, optimiser)) is OfRestricted
    assert sliced_step(*case(sizes=(), n_directions=2)[:2]) is None
    options = {"curl_penalty": 10.0}
    for sizes in ((), (6,), (6, 5, 6)):
        assert exact_step(*case(sizes=sizes)[:2], **options) is None
    assert type(exact_step(*case(sizes=(6, 6))[:2], **options)) is ExactStep
    assert type(exact_step(*case(d=3)[:2], **options)) is SlicedStep
    assert exact_step(*case(d=3)[:2], curl_penalty=0.0) is None
    of_user = ScoreModel(torch.nn.Linear(D, D), torch.eye(D), energy=False)
    assert sliced_step(of_user, AdamW(of_user, weight_decay=0.0)) is None
    assert exact_step(of_user, AdamW(of_user, weight_decay=0.0), **options) is None
    energy = MLP(D, 1, generator=stream())
    model = ScoreModel(energy, torch.eye(D), energy=True)
    assert sliced_step(model, AdamW(model, weight_decay=0.0)) is None
