"""A multilayer perceptron that knows its Jacobian products in closed form.

``u_k = h_{k-1} W_k + b_k``, ``h_k = f(u_k)``, output ``h_L W + b``; weights are stored (in, out).
The formulas hold for one network, rows (n, d), and for several with rows (k, n, d), W (k, in, out).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from skscore._autodiff import divergence_by_tangents, fold
from skscore._checks import auto_or, integer, real
from skscore._checks import hidden_layer_sizes as check_sizes
from skscore.networks._activations import ACTIVATIONS, activation_named
from skscore.networks._dual import Products

FREQUENCIES = 7  # over n_features: by how much the first layer spreads by itself
Layer = tuple[Tensor, Tensor]  # W and b


def affine(h: Tensor, layer: Layer) -> Tensor:
    """Return ``h W + b``."""
    W, b = layer
    return torch.addmm(b, h, W) if W.dim() == 2 else torch.baddbmm(b.unsqueeze(-2), h, W)


class LayeredNetwork(nn.Module):
    """Abstract base: a perceptron, or several at once, as a list of layers."""

    activation: str

    @property
    def layers(self) -> list[Layer]:
        """W and b of each layer, the last one without an activation."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the network, (n, n_features) -> (n, n_outputs)."""
        f = ACTIVATIONS[self.activation].value
        *hidden, last = self.layers
        for layer in hidden:
            x = f(affine(x, layer))
        return affine(x, last)

    def value_and_jvp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value and ``J v`` for v (m, n, d): primal and tangents in one product."""
        s, jv, _ = self._products(x, v, None)
        return s, jv

    def value_and_products(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the value, ``J v``, and ``J' w`` for w (k, d) at the first k rows."""
        return self._products(x, v, w)

    def _products(self, x: Tensor, v: Tensor, w: Tensor | None):
        m, parameters = len(v), [p for layer in self.layers for p in layer]
        rows = fold(torch.cat([x[None], v]))
        out, adjoint = Products.apply(rows, w, m, ACTIVATIONS[self.activation], *parameters)
        stacked = out.unflatten(-2, (1 + m, -1)).movedim(-3, 0)
        return stacked[0], stacked[1:], adjoint

    def value_and_divergence(self, x: Tensor, metric: Tensor | None = None):
        """Return the value and ``tr(A J)``; the metric enters through the last layer."""
        if torch.is_grad_enabled() and len(self.layers) > 3:
            return divergence_by_tangents(self, x, metric)  # has a backward pass by hand
        f = ACTIVATIONS[self.activation].slope
        *hidden, last = self.layers
        closing = last[0] if metric is None else last[0] @ metric
        slopes = []
        h = x
        for layer in hidden:
            h, slope = f(affine(h, layer))
            slopes.append(slope)
        trace = self._trace(slopes, [W for W, _ in hidden], closing)
        return affine(h, last), trace.expand(x.shape[:-1])

    @staticmethod
    def _trace(slopes: list[Tensor], weights: list[Tensor], closing: Tensor) -> Tensor:
        if not slopes:
            return closing.diagonal(dim1=-2, dim2=-1).sum(dim=-1, keepdim=True)
        first = weights[0]
        if len(slopes) == 1:
            return (slopes[0] @ (closing * first.mT).sum(dim=-1, keepdim=True)).squeeze(-1)
        if len(slopes) == 2:
            M = weights[1] * (closing @ first).mT
            return ((slopes[0] @ M) * slopes[1]).sum(dim=-1)
        # Tangents of the identity, (..., n, d, h): the first and the last layer cost no product.
        t = slopes[0].unsqueeze(-2) * first.unsqueeze(-3)
        for W, slope in zip(weights[1:], slopes[1:], strict=True):
            product = (t.flatten(-3, -2) @ W).unflatten(-2, t.shape[-3:-1])
            t = slope.unsqueeze(-2) * product
        return torch.einsum("...ndh,...hd->...n", t, closing)

    def floats_per_row(self, n_features: int) -> int:
        """Return about how many numbers `value_and_divergence` holds at once, for one row."""
        layers = self.layers
        width = max(W.shape[-1] for W, _ in layers)
        return 4 * width * (n_features if len(layers) > 3 else 2)


class MLP(LayeredNetwork):
    """Fully connected network, smooth activation, last layer zero at the start.

    Parameters
    ----------
    n_features, n_outputs : int
        Columns in and out.
    generator : torch.Generator
        Draws the initial weights: N(0, 1 / fan_in), biases uniform in (-2, 2).
    hidden_layer_sizes : sequence of int, default=(128, 128)
        Units of each hidden layer.
    activation : {"silu", "softplus", "tanh", "gelu"}, default="softplus"
        The function f of the hidden layers.
    frequency_spread : float or "auto", default="auto"
        The units of the first hidden layer begin with weights multiplied by a factor that is
        log-uniform in [1, frequency_spread], so that some see fine structure; "auto" is
        1 + 7 / n_features, and 1.0 leaves all alike.

    Raises
    ------
    ValueError
        When a parameter is not valid.

    Examples
    --------
    >>> import torch
    >>> from skscore.networks import MLP
    >>> MLP(2, 2, generator=torch.Generator().manual_seed(0))(torch.ones(1, 2))
    tensor([[0., 0.]], grad_fn=<AddmmBackward0>)
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        generator: torch.Generator,
        hidden_layer_sizes: Sequence[int] = (128, 128),
        activation: str = "softplus",
        frequency_spread: float | str = "auto",
    ):
        super().__init__()
        activation_named(activation)
        integer(1)("n_features", n_features)
        integer(1)("n_outputs", n_outputs)
        check_sizes("hidden_layer_sizes", hidden_layer_sizes)
        auto_or(real(1.0, closed=True))("frequency_spread", frequency_spread)
        self.activation = activation
        sizes = [n_features, *hidden_layer_sizes, n_outputs]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            # torch.empty and not nn.Linear, which draws from the global stream.
            W = torch.empty(fan_in, fan_out, dtype=torch.float32, device="cpu")
            b = torch.empty(fan_out, dtype=torch.float32, device="cpu")
            nn.init.normal_(W, std=1 / math.sqrt(fan_in), generator=generator)
            nn.init.uniform_(b, -2, 2, generator=generator)
            self.weights.append(nn.Parameter(W))
            self.biases.append(nn.Parameter(b))
        if hidden_layer_sizes:
            spread = (
                1 + FREQUENCIES / n_features
                if frequency_spread == "auto"
                else float(frequency_spread)
            )
            octaves = torch.empty(sizes[1], dtype=torch.float32, device="cpu")
            octaves.uniform_(0, math.log(spread), generator=generator)
            self.weights[0].data *= octaves.exp()
        nn.init.zeros_(self.weights[-1])
        nn.init.zeros_(self.biases[-1])

    @property
    def layers(self) -> list[Layer]:
        """W and b of each layer."""
        return list(zip(self.weights, self.biases, strict=True))
