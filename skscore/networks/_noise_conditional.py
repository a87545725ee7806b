"""A perceptron whose hidden units are scaled and shifted by the noise level.

``u_k = (h_{k-1} W_k + b_k) (1 + g_k(c)) + e_k(c)``, ``h_k = f(u_k)``, with ``g, e`` linear in
sines and cosines of the condition c, the log of the noise level (FiLM, Perez et al. 2018). At one
level this is a plain perceptron with other weights, so every closed form of one holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from skscore.networks._activations import ACTIVATIONS
from skscore.networks._mlp import MLP, Layer, LayeredNetwork, affine
from skscore.networks._modulated import Modulated

N_FREQUENCIES = 12
LOWEST = 0.3  # the frequencies are its multiples, in radians to a unit of log sigma
FILM_STD = 0.3  # of the scales and shifts at the start


class FixedNetwork(LayeredNetwork):
    """A perceptron that stands for another one where its condition is fixed.

    Parameters
    ----------
    layers : list of (Tensor, Tensor)
        W and b of each layer.
    activation : str
        A key of ACTIVATIONS.
    """

    def __init__(self, layers: list[Layer], activation: str):
        super().__init__()
        self._layers = layers
        self.activation = activation

    @property
    def layers(self) -> list[Layer]:
        """W and b of each layer."""
        return self._layers

    def between(self, inside: Tensor, outside: Tensor) -> FixedNetwork:
        """Return ``x -> network(x inside) outside`` for two matrices."""
        (W, b), *rest = self._layers
        layers = [(inside @ W, b), *rest]
        W, b = layers[-1]
        return FixedNetwork([*layers[:-1], (W @ outside, b @ outside)], self.activation)


class ConditionalNetwork(LayeredNetwork):
    """Abstract base: a perceptron, or several at once, whose hidden units see a condition."""

    film: Tensor
    frequencies: Tensor
    sizes: tuple[int, ...]
    shares_conditions = True  # by neighbouring rows

    def _modulation(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``1 + g`` and ``e``, hidden layers side by side, for conditions (..., 1)."""
        angles = condition * self.frequencies
        ones = torch.ones_like(angles[..., :1])
        features = torch.cat([angles.sin(), angles.cos(), ones], dim=-1)
        gains, shifts = (features @ self.film).chunk(2, dim=-1)
        return 1 + gains, shifts

    def _columns(self, condition: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Return ``1 + g`` and ``e`` of each hidden layer."""
        gains, shifts = self._modulation(condition)
        return zip(gains.split(self.sizes, -1), shifts.split(self.sizes, -1), strict=True)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]
        """Evaluate the network at rows (..., n, d).

        Each has its own condition (..., n, 1); or, (..., m, 1), each n / m neighbours share one,
        which saves most of the time of the scales and shifts.
        """
        f, layers = ACTIVATIONS[self.activation], self.layers
        *hidden, last = layers
        if hidden and torch.is_grad_enabled() and not x.requires_grad:
            parameters = [p for layer in layers for p in layer]
            return Modulated.apply(x, *self._modulation(condition), self.sizes, f, *parameters)
        groups = (condition.shape[-2], -1)
        for layer, (gain, shift) in zip(hidden, self._columns(condition), strict=True):
            u = affine(x, layer).unflatten(-2, groups)
            v = torch.addcmul(shift.unsqueeze(-2), u, gain.unsqueeze(-2))
            x = f.value(v).flatten(-3, -2)
        return affine(x, last)

    def at(self, condition: Tensor) -> FixedNetwork:
        """Return the network of rows alone, at one condition (1,)."""
        *hidden, last = self.layers
        modulated = zip(hidden, self._columns(condition), strict=True)
        layers = [(W * gain, b * gain + shift) for (W, b), (gain, shift) in modulated]
        return FixedNetwork([*layers, last], self.activation)


class NoiseConditionalMLP(ConditionalNetwork, MLP):
    """Fully connected network whose hidden layers see the log of the noise level.

    Parameters
    ----------
    n_features, n_outputs : int
        Columns in and out.
    generator : torch.Generator
        Draws the initial weights, as in :class:`MLP`.
    hidden_layer_sizes : sequence of int, default=(128, 128, 128)
        Units of each hidden layer.
    activation : {"silu", "softplus", "tanh", "gelu"}, default="silu"
        The function f of the hidden layers.
    frequency_spread : float or "auto", default=1.0
        As in :class:`MLP`.

    Raises
    ------
    ValueError
        When there is no such activation.

    Examples
    --------
    >>> import torch
    >>> from skscore.networks import NoiseConditionalMLP
    >>> network = NoiseConditionalMLP(2, 2, generator=torch.Generator().manual_seed(0))
    >>> network(torch.ones(1, 2), torch.zeros(1, 1)).shape
    torch.Size([1, 2])
    """

    frequencies: Tensor
    begins_at_zero = True  # as its last layer does

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        generator: torch.Generator,
        hidden_layer_sizes: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        frequency_spread: float | str = 1.0,
    ):
        super().__init__(
            n_features,
            n_outputs,
            generator=generator,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            frequency_spread=frequency_spread,
        )
        options = {"dtype": torch.float32, "device": "cpu"}
        k = torch.arange(1, N_FREQUENCIES + 1, **options)  # type: ignore[call-overload]
        self.register_buffer("frequencies", LOWEST * k, persistent=False)
        self.sizes = tuple(hidden_layer_sizes)
        film = torch.empty(2 * N_FREQUENCIES + 1, 2 * sum(self.sizes), **options)  # type: ignore[call-overload]
        std = FILM_STD / math.sqrt(2 * N_FREQUENCIES)
        self.film = nn.Parameter(film.normal_(0, std, generator=generator))
