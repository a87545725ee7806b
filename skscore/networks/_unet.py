"""A U-Net for images as flattened rows, conditional on the noise level.

Ronneberger et al. (2015) with the residual blocks of Ho et al. (2020): group normalisation, no
batch normalisation, so that each row stays on its own; without taking the mean away (as in Karras
et al. 2024), so that the level of an image is not lost. The log of the noise level scales and
shifts the channels of each block (FiLM). Pixels of large images enter as patches: a patch of 2 x 2
is four channels at half the resolution, which costs a quarter and is as exact, since what leaves
is every pixel of the patch. Beside the pixels enter their sines and cosines (as in Kingma et al.
2021), for what is left of an image at a low level of noise is far finer than its range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skscore._checks import is_sequence, refuse
from skscore.networks._activations import activation_named
from skscore.networks._memory import Memory
from skscore.networks._noise_conditional import LOWEST, N_FREQUENCIES

EPSILON = 1e-5  # added to a mean square
GROUPS = 8  # at most, that the channels are normalised in
EMBEDDING = 128  # units that the noise level is embedded in
PATCHED_FROM = 16  # pixels of the smaller side, above which "auto" is a patch of 2 x 2
HEAD = 32  # channels to one head of attention
N_WAVES = 7  # frequencies of the pixels: 1, 2, 4, ... radians to a deviation


class _Conv(nn.Module):
    """A convolution with "same" padding; torch's own draws its weights from the global stream."""

    def __init__(self, weight: Tensor, stride: int):
        super().__init__()
        self.weight, self.stride = nn.Parameter(weight), stride
        self.bias = nn.Parameter(torch.zeros_like(weight[:, 0, 0, 0]))

    def forward(self, x: Tensor) -> Tensor:
        padding = self.weight.shape[-1] // 2
        return F.conv2d(x, self.weight, self.bias, stride=self.stride, padding=padding)


class _Dense(nn.Module):
    """A linear layer, for the same reason."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros_like(weight[:, 0]))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class _Maker:
    """Makes layers whose initial weights are drawn from one stream, N(0, gain^2 / fan_in)."""

    def __init__(self, generator: torch.Generator):
        self.generator = generator

    def _drawn(self, shape: tuple[int, ...], gain: float) -> Tensor:
        std = gain / math.sqrt(math.prod(shape[1:]))
        weight = torch.empty(shape, dtype=torch.float32, device="cpu")
        return weight.normal_(0, std, generator=self.generator) if gain else weight.zero_()

    def conv(self, inside: int, outside: int, size: int = 3, *, stride: int = 1, gain: float = 1.0):
        return _Conv(self._drawn((outside, inside, size, size), gain), stride)

    def linear(self, inside: int, outside: int, *, gain: float = 1.0):
        return _Dense(self._drawn((outside, inside), gain))


class _Norm(nn.Module):
    """Channels over the root mean square of their group; a film scales and shifts them at once.

    Unlike in torch's GroupNorm the mean stays, so that a shift of the whole image is seen.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.groups = max(k for k in range(1, GROUPS + 1) if channels % k == 0)
        self.weight = nn.Parameter(torch.ones(channels, device="cpu", dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(channels, device="cpu", dtype=torch.float32))

    def forward(self, x: Tensor, film: tuple[Tensor, Tensor] | None = None) -> Tensor:
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # as they lie in memory
        power = pixels.square().mean(dim=1).unflatten(1, (self.groups, -1))
        inverse = (power.mean(dim=2, keepdim=True) + EPSILON).rsqrt()
        scale = inverse.expand_as(power).flatten(1) * self.weight
        shift = self.bias.expand_as(scale)
        if film is not None:
            gain = 1 + film[0]
            scale, shift = scale * gain, shift * gain + film[1]
        shift, scale = shift.unsqueeze(1).to(x), scale.unsqueeze(1).to(x)  # bfloat16 stays so
        out = torch.addcmul(shift, pixels, scale)
        return out.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """``skip(x) + conv(f(film(norm(conv(f(norm(x)))))))``; the identity, nearly, at the start."""

    def __init__(self, inside: int, outside: int, make: _Maker, f):
        super().__init__()
        self.f = f
        self.norms = nn.ModuleList([_Norm(inside), _Norm(outside)])
        self.first = make.conv(inside, outside)
        self.film = make.linear(EMBEDDING, 2 * outside, gain=0.3)
        self.second = make.conv(outside, outside, gain=0.1)
        self.skip = nn.Identity() if inside == outside else make.conv(inside, outside, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.first(self.f(self.norms[0](x)))
        gain, shift = self.film(embedding).chunk(2, dim=1)
        h = self.norms[1](h, film=(gain, shift))
        return self.skip(x) + self.second(self.f(h))


class _Attention(nn.Module):
    """Self-attention over the pixels, added to its input."""

    def __init__(self, channels: int, make: _Maker):
        super().__init__()
        self.heads = max(1, channels // HEAD)
        if channels % self.heads:
            self.heads = 1
        self.norm = _Norm(channels)
        self.queries = make.conv(channels, 3 * channels, 1)
        self.out = make.conv(channels, channels, 1, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        # By hand: the fused kernels have no second derivative, which a divergence needs.
        q, k, v = self.queries(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1)).unbind(1)
        weights = (q.mT @ k / math.sqrt(q.shape[-2])).softmax(dim=-1)
        return x + self.out((v @ weights.mT).reshape(x.shape))


def waves(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Return sines and cosines of pixels, each as much as the noise leaves of it.

    Blurred by N(0, sigma^2), ``sin(w x)`` becomes ``exp(-(w sigma)^2 / 2) sin(w x)``, on the mean:
    that is its weight. A frequency that the noise drowns is not seen.

    Parameters
    ----------
    pixels : Tensor of shape (..., p)
        In deviations.
    sigma : Tensor, broadcast to (..., 1)
        The noise level, likewise.

    Returns
    -------
    Tensor of shape (..., 2 N_WAVES p)
    """
    frequencies = 2.0 ** torch.arange(N_WAVES, device=pixels.device).to(pixels).unsqueeze(1)
    angles = frequencies * pixels.unsqueeze(-2)
    left = torch.exp(-0.5 * (frequencies * sigma.unsqueeze(-2)) ** 2)
    return torch.cat([angles.sin() * left, angles.cos() * left], dim=-2).flatten(-2)


def _counts(values: object) -> bool:
    """Tell whether values are a sequence of whole numbers from one on."""
    return is_sequence(values) and all(map(_count, values))


def _count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _refuse_wrong(n_features, n_outputs, image_shape, widths, n_blocks, attention, patch) -> None:
    """Raise ValueError for parameters that make no U-Net."""
    shaped = _counts(image_shape) and len(image_shape) == 3
    leveled = _counts(widths) and len(widths) > 0
    for name, value, valid, wanted in (
        ("image_shape", image_shape, shaped, "three integers >= 1: (channels, height, width)"),
        ("widths", widths, leveled, "integers >= 1, the channels at one resolution or more"),
        ("n_blocks", n_blocks, _count(n_blocks), "an integer >= 1"),
        ("attention", attention, isinstance(attention, bool), "True or False"),
        ("patch", patch, _count(patch) or patch == "auto", "'auto' or an integer >= 1"),
        ("n_outputs", n_outputs, n_outputs in (1, n_features), f"{n_features}, or 1 for an energy"),
    ):
        if not valid:
            raise refuse(name, value, wanted)


class UNet(nn.Module):
    """U-Net of images in flattened rows, which sees the log of the noise level.

    A row is ``(x + sigma noise) / sqrt(1 + sigma^2)``, where x has deviation one.

    Parameters
    ----------
    n_features, n_outputs : int
        Columns in, the pixels of an image; and out, as many, or 1 for an energy.
    generator : torch.Generator
        Draws the initial weights; the last layer is zero.
    image_shape : (int, int, int)
        Channels, height and width; a row is such an image, flattened in this order.
    widths : sequence of int, default=(32, 96)
        Channels at each resolution, the finest first; each has half the side of the one before.
    n_blocks : int, default=1
        Residual blocks at each resolution, down and up.
    attention : bool, default=True
        Whether the lowest resolution has self-attention.
    patch : int or "auto", default="auto"
        Pixels of a patch's side; "auto" is 2 where both sides have more than 16 pixels, else 1.
    activation : {"silu", "softplus", "tanh", "gelu"}, default="silu"
        Of the hidden layers.

    Raises
    ------
    ValueError
        When a parameter is not valid, or the image's pixels are not n_features.

    Notes
    -----
    Sides that the resolutions do not divide are padded by their edge and cropped again.

    References
    ----------
    Ronneberger, Fischer and Brox (2015), "U-Net: convolutional networks for biomedical image
    segmentation", MICCAI. Ho, Jain and Abbeel (2020), "Denoising diffusion probabilistic models",
    NeurIPS, appendix B. Karras, Aittala, Lehtinen, Hellsten, Aila and Laine (2024), "Analyzing and
    improving the training dynamics of diffusion models", CVPR. Kingma, Salimans, Poole and Ho
    (2021), "Variational diffusion models", NeurIPS, appendix C.

    Examples
    --------
    >>> import torch
    >>> from skscore.networks import UNet
    >>> stream = torch.Generator().manual_seed(0)
    >>> network = UNet(64, 64, generator=stream, image_shape=(1, 8, 8), widths=(8, 16))
    >>> network(torch.ones(2, 64), torch.zeros(2, 1)).shape
    torch.Size([2, 64])
    """

    frequencies: Tensor
    begins_at_zero = True

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        generator: torch.Generator,
        image_shape: tuple[int, int, int],
        widths: Sequence[int] = (32, 96),
        n_blocks: int = 1,
        attention: bool = True,
        patch: int | str = "auto",
        activation: str = "silu",
    ):
        super().__init__()
        _refuse_wrong(n_features, n_outputs, image_shape, widths, n_blocks, attention, patch)
        channels, height, width = (int(side) for side in image_shape)
        widths = [int(size) for size in widths]
        if channels * height * width != n_features:
            raise ValueError(
                f"image_shape={tuple(image_shape)} has {channels * height * width} pixels, but a "
                f"row has {n_features} columns."
            )
        self.image_shape = (channels, height, width)
        self.n_outputs = n_outputs
        if isinstance(patch, str):
            patch = 2 if min(height, width) > PATCHED_FROM else 1
        self.patch = patch
        unit = patch * 2 ** (len(widths) - 1)
        self.margins = (-width % unit, -height % unit)
        make = _Maker(generator)
        f = activation_named(activation).value
        options = {"device": "cpu", "dtype": torch.float32}
        k = torch.arange(1, N_FREQUENCIES + 1, **options)  # type: ignore[call-overload]
        self.register_buffer("frequencies", LOWEST * k, persistent=False)
        self.embed = make.linear(2 * N_FREQUENCIES, EMBEDDING)
        self.f = f
        self.stem = make.conv(channels * patch**2, widths[0])
        self.fine = make.conv(2 * N_WAVES * channels * patch**2, widths[0])
        self.down, self.coarser = nn.ModuleList(), nn.ModuleList()
        held = []
        for level, size in enumerate(widths):
            for _ in range(n_blocks):
                self.down.append(_Block(size, size, make, f))
                held.append(size)
            if level + 1 < len(widths):
                self.coarser.append(make.conv(size, widths[level + 1], stride=2))
        last = widths[-1]
        self.middle = _Block(last, last, make, f)
        self.attention = _Attention(last, make) if attention else nn.Identity()
        self.up, self.finer = nn.ModuleList(), nn.ModuleList()
        for level, size in reversed(list(enumerate(widths))):
            for _ in range(n_blocks):
                self.up.append(_Block(size + held.pop(), size, make, f))
            if level:
                self.finer.append(make.conv(size, widths[level - 1], 1))
        self.norm = _Norm(widths[0])
        self.out = make.conv(widths[0], channels * patch**2, gain=0.0)
        self.memory = Memory()
        # Zero: what is remembered changes nothing until it is learnt from.
        self.recall = make.conv(channels * patch**2, widths[0], gain=0.0)
        self.n_blocks, self.n_levels = n_blocks, len(widths)
        self._floats = self._count(widths)

    @property
    def floats_per_pass(self) -> int:
        """About how many numbers one row leaves in a pass forward."""
        return self._floats + len(self.memory.rows)

    def _count(self, widths: Sequence[int]) -> int:
        """Return these numbers but for what is remembered."""
        channels, height, width = self.image_shape
        area = (height + self.margins[1]) * (width + self.margins[0]) // self.patch**2
        per_level = [size * area / 4**level for level, size in enumerate(widths)]
        inside = 20 * (self.n_blocks + 0.5) * sum(per_level)
        return int(inside) + (6 * N_WAVES + 1) * channels * height * width

    def remember(self, rows: Tensor) -> None:
        """Remember images without noise in place of all others.

        Their mean, weighed by how near they are to a noisy one, enters beside its pixels; the
        network's values change only as it learns from that. See :class:`Memory`.

        Parameters
        ----------
        rows : Tensor of shape (n, n_features)
            In deviations.
        """
        self.memory.remember(rows)

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """Return the network's values, (n, d) and (n, 1) -> (n, n_outputs)."""
        angles = log_sigma * self.frequencies
        embedding = self.f(self.embed(torch.cat([angles.sin(), angles.cos()], dim=1)))
        _, height, width = self.image_shape
        h = self._levels(self._enter(x, log_sigma.exp()), embedding)
        h = F.pixel_shuffle(self.out(self.f(self.norm(h))), self.patch)
        h = h[:, :, :height, :width].flatten(1)
        return h if self.n_outputs > 1 else h.sum(dim=1, keepdim=True)

    def _enter(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the first channels."""
        unit = (1 + sigma**2).sqrt()  # that rows are shown over
        patches, level = self._patches(x), sigma[:, :, None, None]
        pixels = patches * unit[:, :, None, None]
        fine = waves(pixels.permute(0, 2, 3, 1), level)  # as they lie in memory
        h = self.stem(patches) + self.fine(fine.permute(0, 3, 1, 2))
        if len(self.memory.rows):
            h = h + self.recall(self._patches(self.memory(x * unit, sigma)))
        return h

    def _patches(self, x: Tensor) -> Tensor:
        """Return rows as images whose channels are the pixels of a patch."""
        h = x.unflatten(1, self.image_shape)
        if any(self.margins):
            h = F.pad(h, (0, self.margins[0], 0, self.margins[1]), mode="replicate")
        return F.pixel_unshuffle(h, self.patch).contiguous(memory_format=torch.channels_last)

    def _levels(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Go down the resolutions and up again."""
        down, up, held = iter(self.down), iter(self.up), []
        for level in range(self.n_levels):
            for _ in range(self.n_blocks):
                h = next(down)(h, embedding)
                held.append(h)
            if level + 1 < self.n_levels:
                h = self.coarser[level](h)
        h = self.attention(self.middle(h, embedding))
        for level in range(self.n_levels):
            for _ in range(self.n_blocks):
                h = next(up)(torch.cat([h, held.pop()], dim=1), embedding)
            if level + 1 < self.n_levels:
                h = F.interpolate(self.finer[level](h), scale_factor=2.0, mode="nearest")
        return h
