"""A conditional perceptron's value, and its backward pass by hand.

``u_l = h_{l-1} W_l + b_l``, ``v_l = u_l (1 + g_l) + e_l``, ``h_l = f(v_l)``, ``s = h_L W + b``; the
gain ``1 + g`` and the shift e are shared by neighbouring rows.
Written by hand for the same reason as the products of :mod:`skscore.networks._dual`: one layer is
one node, and each array is gone over as few times as can be.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skscore.networks._activations import Activation


class Modulated(torch.autograd.Function):
    """Return ``s`` at rows, which get no gradient.

    In: rows (..., n, d); gains and shifts (..., m, h), of all hidden layers side by side, each for
    n / m neighbours; the sizes of these layers; the activation; W and b of each layer.
    """

    @staticmethod
    def forward(ctx, x, gains, shifts, sizes: Sequence[int], f: type[Activation], *layers: Tensor):
        """Evaluate the network, and keep what its backward pass needs."""
        *hidden, W_out, b_out = layers
        groups = gains.shape[-2], -1
        columns = zip(gains.split(sizes, -1), shifts.split(sizes, -1), strict=True)
        saved, h = [], x
        for W, b, (gain, shift) in zip(hidden[::2], hidden[1::2], columns, strict=True):
            u = (h @ W).add_(b.unsqueeze(-2)).unflatten(-2, groups)
            v = torch.addcmul(shift.unsqueeze(-2), u, gain.unsqueeze(-2))
            saved += [h, u, v]
            h = f.value(v).flatten(-3, -2)
        ctx.save_for_backward(gains, *layers, *saved, h)
        ctx.sizes, ctx.f, ctx.n_layers = sizes, f, len(layers)
        return (h @ W_out).add_(b_out.unsqueeze(-2))

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        """Return the gradients of gains, shifts and layers."""
        gains, *rest = ctx.saved_tensors
        layers, (*saved, h) = rest[: ctx.n_layers], rest[ctx.n_layers :]
        grads: list[Tensor] = [h.mT @ g, g.sum(dim=-2)]
        g_gains: list[Tensor] = []
        g_shifts: list[Tensor] = []
        W_after = layers[-2]
        columns = gains.split(ctx.sizes, -1)
        for layer in reversed(range(len(columns))):
            h, u, v = saved[3 * layer : 3 * layer + 3]
            gain = columns[layer]
            g = ctx.f.pulled((g @ W_after.mT).view_as(v), v)
            g_shift = g.sum(dim=-2)
            g_shifts.insert(0, g_shift)
            g_gains.insert(0, (g * u).sum(dim=-2))
            g = g.mul_(gain.unsqueeze(-2)).flatten(-3, -2)
            grads = [h.mT @ g, (g_shift * gain).sum(dim=-2), *grads]
            W_after = layers[2 * layer]
        joined = torch.cat(g_gains, dim=-1), torch.cat(g_shifts, dim=-1)
        return None, *joined, None, None, *grads
