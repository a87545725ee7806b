"""Laws of the networks: closed forms equal autograd, for every network, activation and depth.

``J = ds/dx`` (n, i, j), ``v`` (m, n, d) directions, ``A`` a symmetric metric, float64.
"""

import inspect
import itertools

import pytest
import torch
from torch import nn

from skscore import _autodiff
from skscore._autodiff import divergence_by_tangents, value_and_divergence, value_and_jvp
from skscore.networks import ACTIVATIONS, MLP, NETWORKS, NoiseConditionalMLP, UNet
from skscore.networks._dual import Products
from skscore.networks._modulated import Modulated

D = 4
DEPTHS = [(), (7,), (7, 5), (6, 7, 5)]
TIGHT = {"rtol": 1e-11, "atol": 1e-11}


def build(network, activation="silu", sizes=(7, 5), n_outputs=D, seed=0):
    hyper = {"activation": activation, "hidden_layer_sizes": sizes}
    taken = inspect.signature(network).parameters
    stream = torch.Generator().manual_seed(seed)
    kept = {name: value for name, value in hyper.items() if name in taken}
    return network(D, n_outputs, generator=stream, **kept)


def of_rows(network):
    """Return the network of rows alone: one that takes a condition, at some condition."""
    if not isinstance(network, NoiseConditionalMLP):
        return network
    bound = network.at(torch.tensor([0.7]).to(network.film))
    bound.whole = network  # it has the parameters
    return bound


class Plain(nn.Module):
    """A module without its closed forms: a network of a user's own."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


OF_VECTORS = {name: made for name, made in NETWORKS.items() if name != "unet"}  # see test_unet.py
TABLE = list(itertools.product(OF_VECTORS, sorted(ACTIVATIONS), DEPTHS))
every_network = pytest.mark.parametrize(
    "case", TABLE, ids=[f"{n}-{a}-{len(sizes)} hidden" for n, a, sizes in TABLE]
)


@pytest.fixture
def x():
    return torch.randn(6, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def v():
    return torch.randn(3, 6, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def metric():
    B = torch.randn(D, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return B @ B.T


def trace_of(J, A):
    return torch.einsum("nij,ji->n", J, torch.eye(D, dtype=J.dtype) if A is None else A)


def network_of(case, woken):
    name, activation, sizes = case
    return of_rows(woken(build(NETWORKS[name], activation, sizes)))


@every_network
def test_value_and_jvp_equal_autograd(case, x, v, woken, jacobian):
    network = network_of(case, woken)
    expected = torch.einsum("nij,mnj->mni", jacobian(network, x), v)
    for field in (network, Plain(network)):
        s, jv = value_and_jvp(field, x, v)
        torch.testing.assert_close(s, network(x), **TIGHT)
        torch.testing.assert_close(jv, expected, **TIGHT)
    transposed = torch.einsum("nij,mni->mnj", jacobian(network, x), v)
    assert (transposed - expected).abs().max() > 1e-3  # J and J' are not mixed up unseen


@every_network
@pytest.mark.parametrize("A", [None, metric()], ids=["identity", "metric"])
def test_value_and_divergence_equal_autograd(case, A, x, woken, jacobian):
    network = network_of(case, woken)
    expected = trace_of(jacobian(network, x), A)
    for field in (network, Plain(network)):
        s, divergence = value_and_divergence(field, x, A)
        torch.testing.assert_close(s, network(x), **TIGHT)
        torch.testing.assert_close(divergence, expected, **TIGHT)
    other = expected / D if A is None else trace_of(jacobian(network, x), None)
    assert (other - expected).abs().max() > 1e-3


@every_network
def test_parameter_gradients_of_closed_forms_equal_autograd(case, x, v, woken, jacobian):
    network = network_of(case, woken)
    A, weights = metric(), torch.arange(1.0, 7.0, dtype=torch.float64)
    J = jacobian(network, x, create_graph=True)
    s, jv = value_and_jvp(network, x, v)
    z, divergence = value_and_divergence(network, x, A)
    pairs = [
        ((jv * v).sum() + (s * weights[:, None]).sum(), torch.einsum("nij,mnj,mni->", J, v, v)),
        ((divergence * weights).sum() + (z * weights[:, None]).sum(), trace_of(J, A) @ weights),
    ]
    for closed, derivative in pairs:
        slow = derivative + (network(x) * weights[:, None]).sum()
        for p in network.parameters():
            a, b = (
                torch.autograd.grad(
                    value, p, retain_graph=True, allow_unused=True, materialize_grads=True
                )[0]
                for value in (closed, slow)
            )
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def curve(f, u):
    """Return f, f' and f'' / f' by what works in place."""
    value = u.detach().clone()
    slope, ratio = torch.empty_like(value), torch.empty_like(value)
    f.curve_(value, slope, ratio)
    return value, slope, ratio


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_autograd(name):
    f = ACTIVATIONS[name]
    # Within 20: beyond it torch takes softplus as the identity, an error of e^-20.
    u = torch.cat([torch.linspace(-19, 19, 401), torch.tensor([0.0, 1e-8, -1e-8])])
    u = u.to(torch.float64).requires_grad_()
    value = f.value(u)
    (slope,) = torch.autograd.grad(value.sum(), u, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), u)
    h, first, ratio = curve(f, u)
    for given, expected in zip((h, first, first * ratio), (value, slope, second), strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-13)
    for given, expected in zip(f.slope(u), (value, slope), strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-13)
    far = torch.tensor([-1e4, -800.0, 800.0, 1e4], dtype=torch.float64)
    limits = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    if name == "tanh":
        limits.zero_()
    _, first, ratio = curve(f, far)
    torch.testing.assert_close(first, limits, rtol=0, atol=1e-13)
    assert (first != 0).all()
    torch.testing.assert_close(first * ratio, torch.zeros_like(far), rtol=0, atol=1e-13)


class ForgetsTheBend(Products):
    """A twin of the hand-written backward that leaves out f''."""

    @staticmethod
    def forward(ctx, rows, w, m, f, *layers):
        class Straight(f):
            @staticmethod
            def curve_(u, slope, ratio):
                f.curve_(u, slope, ratio)
                ratio.zero_()

        return Products.forward(ctx, rows, w, m, Straight, *layers)


def gradcheck(products, activation, sizes=(5, 3), members=(), k=2, with_w=True):
    """Check value, J v and J' w by every input at once: rows, w, W and b."""
    stream, m, n = torch.Generator().manual_seed(0), 2, 3

    def draw(*shape):
        z = torch.randn(*members, *shape, generator=stream, dtype=torch.float64)
        return z.requires_grad_()

    widths = [D, *sizes, 2]
    layers = [p for i, o in itertools.pairwise(widths) for p in (draw(i, o), draw(o))]
    rows, w = draw((1 + m) * n, D), draw(k, 2) if with_w else None

    def outputs(rows, w, *layers):
        out, adjoint = products.apply(rows, w, m, ACTIVATIONS[activation], *layers)
        return (out, adjoint) if with_w else out

    return torch.autograd.gradcheck(outputs, (rows, w, *layers), raise_exception=False)


@pytest.mark.parametrize("with_w", [True, False], ids=["products", "value and jvp"])
@pytest.mark.parametrize("members", [(), (2,)], ids=["one", "two members"])
@pytest.mark.parametrize("sizes", [(), (5,), (5, 3)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backward_by_hand(activation, sizes, members, with_w):
    case = {"sizes": sizes, "members": members, "with_w": with_w}
    assert gradcheck(Products, activation, **case)
    assert gradcheck(ForgetsTheBend, activation, **case) == (sizes == ())


def modulated(f, draw, sizes, members):
    """Return what the conditional network does, and arguments: four rows, two to a condition."""
    widths = [D, *sizes, 2]
    layers = [p for i, o in itertools.pairwise(widths) for p in (draw(i, o), draw(o))]
    gains, shifts = draw(2, sum(sizes)), draw(2, sum(sizes))
    x = draw(4, D).detach()

    def outputs(gains, shifts, *layers):
        return Modulated.apply(x, gains, shifts, sizes, f, *layers)

    return outputs, (gains, shifts, *layers)


@pytest.mark.parametrize("members", [(), (2,)], ids=["one", "two members"])
@pytest.mark.parametrize("sizes", [(5,), (5, 3), (4, 3, 5)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backward_by_hand_of_a_conditional_network(activation, sizes, members):
    stream = torch.Generator().manual_seed(0)

    def draw(*shape):
        z = torch.randn(*members, *shape, generator=stream, dtype=torch.float64)
        return z.requires_grad_()

    outputs, inputs = modulated(ACTIVATIONS[activation], draw, sizes, members)
    assert torch.autograd.gradcheck(outputs, inputs)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n_levels", [1, 3, 6])
def test_a_conditional_network_by_hand_equals_it_by_autograd(activation, n_levels, x, woken):
    """Rows that ask for a gradient, as those of an energy do, go the other way."""
    network = woken(build(NoiseConditionalMLP, activation, sizes=(7, 5)))
    condition = torch.linspace(-2, 2, n_levels, dtype=torch.float64)[:, None]
    found = []
    for rows in (x, x.clone().requires_grad_()):
        s = network(rows, condition)
        grads = torch.autograd.grad((s * x.cos()).sum(), list(network.parameters()))
        assert (s.grad_fn.name() == "ModulatedBackward") is not rows.requires_grad
        found.append([s, *grads])
    for by_hand, by_autograd in zip(*found, strict=True):
        torch.testing.assert_close(by_hand, by_autograd, **TIGHT)


@pytest.mark.parametrize("name", OF_VECTORS)
def test_construction_is_seeded_and_leaves_the_global_stream_alone(name):
    before = torch.get_rng_state()
    a, b, c = (list(build(NETWORKS[name], seed=seed).parameters()) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(map(torch.equal, a, b))
    assert not all(map(torch.equal, a, c))
    nn.Linear(2, 2)  # the twin
    assert not torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", OF_VECTORS)
@pytest.mark.parametrize("n_outputs", [1, D])
def test_a_new_network_is_zero_but_its_gradient_is_not(name, n_outputs, x):
    network = of_rows(build(NETWORKS[name], n_outputs=n_outputs).to(torch.float64))
    out = network(x)
    assert torch.equal(out, torch.zeros(6, n_outputs, dtype=torch.float64))
    out.sum().backward()
    assert any(p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize("hidden", [False, True], ids=["closed jvp", "reverse mode"])
@pytest.mark.parametrize("A", [None, metric()], ids=["identity", "metric"])
@pytest.mark.parametrize("size", [1, 3, D])
def test_blocks_of_tangents_add_up(size, A, hidden, x, woken, jacobian, monkeypatch):
    network = woken(build(MLP, sizes=(6, 7, 5)))
    field = Plain(network) if hidden else network
    row = len(x) * _autodiff.floats_per_row(field, D) * x.element_size()
    seen = []

    def spy(score, x, v):
        seen.append(len(v))
        return value_and_jvp(score, x, v)

    monkeypatch.setattr(_autodiff, "value_and_jvp", spy)
    monkeypatch.setattr(_autodiff, "TANGENT_BYTES", size * row)
    s, divergence = divergence_by_tangents(field, x, A)
    blocks = {1: [1, 1, 1, 1], 3: [3, 1], D: [D]}[size]
    assert seen == ([] if hidden else blocks)  # in reverse there is one direction at a time
    torch.testing.assert_close(s, network(x), **TIGHT)
    torch.testing.assert_close(divergence, trace_of(jacobian(network, x), A), **TIGHT)


@pytest.mark.parametrize("activation", ["relu", "Silu", "", None])
@pytest.mark.parametrize("network", [MLP, NoiseConditionalMLP, UNet])
def test_an_activation_that_is_none_is_refused_by_name(network, activation):
    shape = {"image_shape": (1, 2, 2)} if network is UNet else {}
    stream = torch.Generator().manual_seed(0)
    with pytest.raises(
        ValueError, match=rf"activation={activation!r} .*gelu, silu, softplus, tanh"
    ):
        network(D, D, generator=stream, activation=activation, **shape)
