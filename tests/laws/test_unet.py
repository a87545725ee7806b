"""Laws of the U-Net, in float64: rows on their own, the layout of images, and derivatives."""

import math

import numpy as np
import pytest
import torch

from skscore import _autodiff
from skscore._autodiff import (
    divergence_by_probes,
    floats_per_row,
    value_and_curvature,
    value_and_divergence,
    value_and_jvp,
)
from skscore._model import GradientField
from skscore.networks import Bound, Conjugate, Ensemble, Gated, UNet
from skscore.networks._unet import N_WAVES, _Norm, waves

TIGHT = {"rtol": 1e-10, "atol": 1e-10}
SEES_PATCHES = "stem.weight", "fine.weight", "recall.weight"  # a patch's pixels are channels
DESIGNS = {
    "one channel": {"image_shape": (1, 4, 4), "widths": (4, 6)},
    "three channels": {"image_shape": (3, 4, 6), "widths": (4, 6)},
    "odd sides": {"image_shape": (2, 5, 7), "widths": (4, 6)},
    "three resolutions": {"image_shape": (1, 8, 8), "widths": (4, 4, 6)},
    "two blocks": {"image_shape": (1, 4, 4), "widths": (4, 6), "n_blocks": 2},
    "patches": {"image_shape": (2, 6, 8), "widths": (4, 6), "patch": 2},
    "attention": {"image_shape": (1, 6, 8), "widths": (4, 6), "attention": True},
    "two heads": {"image_shape": (1, 4, 6), "widths": (4, 64), "attention": True},
    "memory": {"image_shape": (1, 4, 6), "widths": (4, 6), "remembered": 7},
    "memory of patches": {"image_shape": (2, 5, 8), "widths": (4,), "patch": 2, "remembered": 7},
    "softplus": {"image_shape": (1, 4, 4), "widths": (4,), "activation": "softplus"},
}
every_design = pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


def fresh(design, energy=False, seed=0):
    d = math.prod(design["image_shape"])
    shape = {name: value for name, value in design.items() if name != "remembered"}
    network = UNet(d, 1 if energy else d, generator=stream(seed), **shape)
    if "remembered" in design:
        network.remember(draw(design["remembered"], d, seed=9).to(torch.float32))
    return network


def awake(design, energy=False):
    """Return a float64 network, none of whose layers is zero."""
    network = fresh(design, energy).to(torch.float64)
    if "remembered" in design:
        network.remember(network.memory.rows)  # once more, for its bandwidth in float64
    for seed, p in enumerate(network.parameters()):
        p.data += draw(*p.shape, seed=seed) / math.sqrt(p[0].numel() + 1)
    return network.requires_grad_(False)


def rows_of(design, n=3):
    return draw(n, math.prod(design["image_shape"])), draw(n, 1, seed=2)


@every_design
def test_each_row_is_on_its_own(design):
    network, (x, level) = awake(design), rows_of(design)
    alone = torch.cat([network(a[None], c[None]) for a, c in zip(x, level, strict=True)])
    torch.testing.assert_close(network(x, level), alone, **TIGHT)
    assert (network(x, level) - network(x, level + 1)).abs().max() > 1e-3


@every_design
def test_it_begins_at_zero_and_is_seeded(design):
    before = torch.get_rng_state()
    network, same, other = fresh(design), fresh(design), fresh(design, seed=1)
    x, level = (t.to(torch.float32) for t in rows_of(design))
    assert not network(x, level).any()
    weights = [f.state_dict().values() for f in (network, same, other)]
    assert all(torch.equal(a, b) for a, b in zip(*weights[:2], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(*weights[1:], strict=True))
    assert torch.equal(before, torch.get_rng_state())


def turned(network, design):
    """Return the network of images whose height and width change places."""
    channels, height, width = design["image_shape"]
    other = fresh({**design, "image_shape": (channels, width, height)}).to(torch.float64)
    patch = network.patch
    for (name, p), q in zip(network.named_parameters(), other.parameters(), strict=True):
        w = p.mT if p.dim() == 4 else p
        if patch > 1 and name in SEES_PATCHES:
            w = w.unflatten(1, (-1, patch, patch)).transpose(2, 3).flatten(1, 3)
        if patch > 1 and name.startswith("out."):
            w = w.unflatten(0, (channels, patch, patch)).transpose(1, 2).flatten(0, 2)
        q.data = w.clone()
    if "remembered" in design:
        rows = network.memory.rows.unflatten(1, (channels, height, width))
        other.remember(rows.mT.flatten(1))
    return other.requires_grad_(False)


@every_design
def test_rows_are_images_by_channel_height_and_width(design):
    """Turning the images turns the values, exactly; a flattening in another order would not."""
    network, (x, level) = awake(design), rows_of(design)
    shape = design["image_shape"]
    there = turned(network, design)(x.unflatten(1, shape).mT.flatten(1), level)
    back = there.unflatten(1, (shape[0], shape[2], shape[1])).mT.flatten(1)
    torch.testing.assert_close(back, network(x, level), **TIGHT)
    if shape[0] > 1:
        mixed = x.unflatten(1, shape).movedim(1, 3).flatten(1)
        assert (network(mixed, level) - network(x, level)).abs().max() > 1e-3


@every_design
@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
def test_products_with_the_jacobian_equal_differences(design, energy):
    network, (x, _) = awake(design, energy), rows_of(design)
    field, v, h = Bound(network, draw(1)), draw(1, *x.shape, seed=3), 1e-5
    s, jv = value_and_jvp(field, x, v)
    difference = (field(x + h * v[0]) - field(x - h * v[0])) / (2 * h)
    torch.testing.assert_close(jv[0], difference, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(s, field(x), **TIGHT)


def test_all_signs_as_probes_give_the_trace():
    """The mean over a basis scaled to ``E[vv'] = I`` is exact; over part of it, it is not."""
    design = DESIGNS["one channel"]
    field, x = Bound(awake(design), draw(1)), rows_of(design)[0]
    d = x.shape[1]
    A = draw(d, d, seed=5)
    A = A @ A.mT
    bases = [torch.linalg.qr(draw(d, d, seed=6 + i))[0] for i in range(len(x))]
    v = math.sqrt(d) * torch.stack(bases, dim=1)  # each row has its own
    s, exact = value_and_divergence(field, x, A)
    value, estimate = divergence_by_probes(field, x, v, A)
    torch.testing.assert_close(value, s, **TIGHT)
    torch.testing.assert_close(estimate, exact, rtol=1e-9, atol=1e-9)
    assert (divergence_by_probes(field, x, v[1:], A)[1] - exact).abs().min() > 1e-6


def test_channels_are_measured_against_their_group_and_keep_their_mean():
    layer, x, (gain, shift) = _Norm(12).to(torch.float64), draw(3, 12, 4, 5), draw(2, 3, 12, seed=2)
    for seed, p in enumerate(layer.parameters()):
        p.data = draw(12, seed=3 + seed)
    assert layer.groups == 6
    group = (x**2).unflatten(1, (6, 2)).mean(dim=(2, 3, 4)).repeat_interleave(2, dim=1)
    unit = x / (group + 1e-5).sqrt()[:, :, None, None]
    expected = unit * layer.weight[:, None, None] + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x), expected, **TIGHT)
    filmed = expected * (1 + gain[:, :, None, None]) + shift[:, :, None, None]
    torch.testing.assert_close(layer(x, (gain, shift)), filmed, **TIGHT)
    flat = torch.ones(1, 12, 4, 5, dtype=torch.float64)
    assert (layer(flat) - layer.bias[:, None, None]).abs().min() > 1e-2  # GroupNorm has zero here


def test_waves_are_what_noise_leaves_of_sines_and_cosines():
    """They are the means of sines and cosines of blurred pixels, by Gauss-Hermite quadrature."""
    pixels = draw(3, 5)
    nodes, weights = (torch.tensor(a) for a in np.polynomial.hermite_e.hermegauss(200))
    frequencies = 2.0 ** torch.arange(7)
    for level in (0.01, 0.03, 0.1):
        angles = frequencies[:, None, None] * (pixels[:, None, :, None] + level * nodes)
        means = [wave(angles) @ weights / weights.sum() for wave in (torch.sin, torch.cos)]
        found = waves(pixels, torch.full((3, 1), level, dtype=torch.float64))
        torch.testing.assert_close(found, torch.cat(means, dim=1).flatten(1), **TIGHT)
    drowned = waves(pixels, torch.tensor(100.0, dtype=torch.float64).view(1, 1))
    assert drowned.shape == (3, 2 * N_WAVES * 5)
    assert not drowned.any()


def test_pixels_enter_in_deviations_whatever_the_noise():
    """What the waves see of an image without noise is the same at each level."""
    network, seen = fresh(DESIGNS["one channel"]), []
    network.fine.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = draw(2, 16).to(torch.float32)
    for level in (1e-6, 1e-3):
        network(x / math.sqrt(1 + level**2), torch.full((2, 1), math.log(level)))
    torch.testing.assert_close(*seen, rtol=0.0, atol=5e-3)
    blurred = torch.full((2, 1), math.log(0.5))
    network(x / math.sqrt(1 + 0.5**2), blurred)
    first = seen[-1][:, 0] / seen[0][:, 0]
    torch.testing.assert_close(first, torch.full_like(first, math.exp(-0.125)))


def test_the_memory_is_asked_in_deviations_whatever_the_noise():
    network, seen = awake(DESIGNS["memory"]), []
    network.memory.register_forward_pre_hook(lambda _, args: seen.append(args))
    x, sigma = draw(2, 24), torch.tensor([[0.1], [7.0]], dtype=torch.float64)
    network(x / (1 + sigma**2).sqrt(), sigma.log())
    torch.testing.assert_close(seen[0], (x, sigma), **TIGHT)


@pytest.mark.parametrize("graph", [False, True], ids=["evaluating", "training"])
def test_probes_take_one_pass_forward(graph):
    design = DESIGNS["one channel"]
    network, x = awake(design).requires_grad_(graph), rows_of(design)[0]
    field, v, w = Bound(network, draw(1)), draw(5, *x.shape, seed=3), draw(5, *x.shape, seed=4)
    jv = torch.cat([value_and_jvp(field, x, each[None])[1] for each in v])
    passes = []
    network.register_forward_hook(lambda *_: passes.append(1))
    with torch.set_grad_enabled(graph):
        s, curvature = value_and_curvature(field, x, v, w)
    assert len(passes) == 1
    assert s.requires_grad == curvature.requires_grad == graph
    torch.testing.assert_close(s, field(x), **TIGHT)
    torch.testing.assert_close(curvature, (w * jv).sum(dim=-1), **TIGHT)


@pytest.mark.parametrize("graph", [False, True], ids=["evaluating", "training"])
def test_the_curvature_of_a_constant_field_is_zero(graph):
    x, v = draw(3, 4), draw(2, 3, 4, seed=3)
    with torch.set_grad_enabled(graph):
        s, curvature = value_and_curvature(torch.ones_like, x, v, v)
    assert torch.equal(s, torch.ones_like(x))
    assert torch.equal(curvature, torch.zeros_like(v[..., 0]))


def test_directions_are_taken_in_blocks_that_fit_in_memory(monkeypatch):
    """Where there is a closed form: here the gradient of an energy, one direction at a time."""
    design = DESIGNS["one channel"]
    field, x = GradientField(Bound(awake(design, energy=True), draw(1))), rows_of(design)[0]
    v, w = draw(5, *x.shape, seed=3), draw(5, *x.shape, seed=4)
    at_once = value_and_curvature(field, x, v, w)
    sizes, whole = [], field.value_and_jvp
    field.value_and_jvp = lambda x, v: sizes.append(len(v)) or whole(x, v)
    monkeypatch.setattr(_autodiff, "TANGENT_BYTES", 1)
    for value, expected in zip(value_and_curvature(field, x, v, w), at_once, strict=True):
        torch.testing.assert_close(value, expected, **TIGHT)
    assert sizes == [1] * 5


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"image_shape=\(1, 4, 4\) has 16 pixels.* 15 columns"):
        UNet(15, 15, generator=stream(), image_shape=(1, 4, 4))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"n_blocks": 0}, "n_blocks=0"),
        ({"n_blocks": True}, "n_blocks=True"),
        ({"patch": "2"}, "patch='2'"),
        ({"patch": 0}, "patch=0"),
        ({"attention": "no"}, "attention='no'"),
        ({"n_outputs": 5}, "n_outputs=5 is not valid: it must be 16, or 1"),
        ({"widths": (0, 8)}, r"widths=\(0, 8\)"),
        ({"widths": ()}, r"widths=\(\)"),
        ({"widths": 8}, "widths=8"),
        ({"widths": "8"}, "widths='8'"),
        ({"image_shape": (4, 4)}, r"image_shape=\(4, 4\)"),
        ({"image_shape": (-1, -4, 4)}, r"image_shape=\(-1"),
        ({"image_shape": (1, 4, 4.0)}, "three integers"),
    ],
)
def test_what_makes_no_unet_is_named(params, words):
    call = {"n_outputs": 16, "generator": stream(), "image_shape": (1, 4, 4)} | params
    with pytest.raises(ValueError, match=words):
        UNet(16, **call)


def test_whole_numbers_of_numpy_will_do():
    shape, widths = np.array([1, 4, 4]), np.array([4, 8])
    network = UNet(
        16, 16, generator=stream(), image_shape=shape, widths=widths, n_blocks=np.int64(1)
    )
    assert network(torch.zeros(2, 16), torch.zeros(2, 1)).shape == (2, 16)


def test_memory_is_planned_by_the_pixels_however_a_network_is_wrapped():
    """A convolution's weights do not tell how much it leaves behind."""
    network = fresh(DESIGNS["one channel"])
    d = 16
    for field in (
        network,
        Bound(network, torch.zeros(1)),
        Conjugate(Gated(network, d), torch.eye(d), torch.eye(d)),
        Ensemble([fresh(DESIGNS["one channel"])]),
        GradientField(network),
    ):
        assert floats_per_row(field, d) >= 3 * network.floats_per_pass > 8 * d
    assert floats_per_row(torch.nn.Linear(d, d), d) == 8 * d
