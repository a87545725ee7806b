"""A multilayer perceptron that knows its Jacobian products in closed form.

``u_k = h_{k-1} W_k + b_k``, ``h_k = f(u_k)``, output ``h_L W + b``; weights are stored (in, out).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from skscore.networks._activations import ACTIVATIONS


class _DualLayer(torch.autograd.Function):
    """Carry a value and its tangents through one activation, with the backward pass by hand.

    In: z (1 + m, n, h), the products with the weights, value first, and the bias b. Out: the value
    ``f(u)`` with ``u = z_0 + b``, and the tangents ``f'(u) z_j``, stacked as z is.
    """

    @staticmethod
    def forward(ctx, z, b, curve):
        f, slope, bend = curve(z[0] + b)
        out = torch.empty_like(z)
        out[0] = f
        torch.mul(z[1:], slope, out=out[1:])
        ctx.save_for_backward(z, slope, bend)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        z, slope, bend = ctx.saved_tensors
        into = g * slope
        into[0].addcmul_((g[1:] * z[1:]).sum(dim=0), bend)
        return into, into[0].sum(dim=0), None


class MLP(nn.Module):
    """Fully connected network, smooth activation, last layer zero at the start.

    Parameters
    ----------
    n_features, n_outputs : int
        Columns in and out.
    generator : torch.Generator
        Draws the initial weights: N(0, 1 / fan_in), biases uniform in (-1, 1).
    hidden_layer_sizes : sequence of int, default=(128, 128)
        Units of each hidden layer.
    activation : {"silu", "softplus", "tanh", "gelu"}, default="silu"
        The function f of the hidden layers.

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
        activation: str = "silu",
    ):
        super().__init__()
        self.activation = activation
        sizes = [n_features, *hidden_layer_sizes, n_outputs]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            # torch.empty and not nn.Linear, which draws from the global stream.
            W = torch.empty(fan_in, fan_out, dtype=torch.float32, device="cpu")
            b = torch.empty(fan_out, dtype=torch.float32, device="cpu")
            nn.init.normal_(W, std=1 / math.sqrt(fan_in), generator=generator)
            nn.init.uniform_(b, -1, 1, generator=generator)
            self.weights.append(nn.Parameter(W))
            self.biases.append(nn.Parameter(b))
        nn.init.zeros_(self.weights[-1])
        nn.init.zeros_(self.biases[-1])

    @property
    def _hidden(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.weights, self.biases, strict=True))[:-1]

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the network, (n, n_features) -> (n, n_outputs)."""
        f = ACTIVATIONS[self.activation].value
        for W, b in self._hidden:
            x = f(torch.addmm(b, x, W))
        return torch.addmm(self.biases[-1], x, self.weights[-1])

    def value_and_jvp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value and ``J v`` for v (m, n, d): primal and tangents in one product."""
        curve = ACTIVATIONS[self.activation].curve
        stacked = torch.cat([x[None], v])
        for W, b in self._hidden:
            stacked = _DualLayer.apply(stacked @ W, b, curve)
        out = stacked @ self.weights[-1]
        return out[0] + self.biases[-1], out[1:]

    def value_and_divergence(self, x: Tensor, metric: Tensor | None = None):
        """Return the value and ``tr(A J)``; the metric enters through the last layer."""
        f = ACTIVATIONS[self.activation].slope
        W_out = self.weights[-1]
        closing = W_out if metric is None else W_out @ metric
        slopes = []
        h = x
        for W, b in self._hidden:
            h, slope = f(torch.addmm(b, h, W))
            slopes.append(slope)
        return torch.addmm(self.biases[-1], h, W_out), self._trace(slopes, closing).expand(len(x))

    def _trace(self, slopes: list[Tensor], closing: Tensor) -> Tensor:
        first = self.weights[0]
        if not slopes:
            return torch.trace(closing)
        if len(slopes) == 1:
            return slopes[0] @ (closing * first.T).sum(dim=1)
        if len(slopes) == 2:
            M = self.weights[1] * (closing @ first).T
            return ((slopes[0] @ M) * slopes[1]).sum(dim=1)
        # Tangents of the identity, (n, d, h): the first and the last layer cost no product.
        t = slopes[0][:, None, :] * first
        for W, slope in zip(self.weights[1:-1], slopes[1:], strict=True):
            t = slope[:, None, :] * (t @ W)
        return torch.einsum("ndh,hd->n", t, closing)

    def floats_per_row(self, n_features: int) -> int:
        """Return about how many numbers `value_and_divergence` holds at once, for one row."""
        width = max(W.shape[1] for W in self.weights)
        return 4 * width * (n_features if len(self.weights) > 3 else 2)
