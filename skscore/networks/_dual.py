"""A perceptron's value with its Jacobian products, and the backward pass of all three by hand.

``h_l = f(u_l)``, ``u_l = h_{l-1} W_l + b_l``, ``s = h_L W + b``. Tangents
``t_l = f'(u_l) (t_{l-1} W_l)`` from ``t_0 = v``, so ``J v = t_L W``; adjoints
``q_{l-1} = (f'(u_l) q_l) W_l'`` from ``q_L = w W'``, so ``J' w = q_0``. Value and tangents are
stacked as rows, (..., (1 + m) n, h): one matrix product carries both.
Written by hand because a training step of a small network is bound by the number of
operations and not by their arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skscore.networks._activations import Activation


class Products(torch.autograd.Function):
    """Return ``s`` and ``J v`` stacked as rows, and ``J' w``.

    In: rows (..., (1 + m) n, d), the value's first; w (..., k, o) or None; m; the activation;
    W and b of each layer.
    """

    @staticmethod
    def forward(ctx, rows, w, m: int, f: type[Activation], *layers: Tensor):
        """Evaluate the network, and keep what its backward pass needs."""
        *hidden, W_out, b_out = layers
        saved, slopes = [], []
        h = rows
        for W, b in _pairs(hidden):
            dual = (h @ W).unflatten(-2, (1 + m, -1))
            value, slope, ratio = f.curve(dual.select(-3, 0) + b.unsqueeze(-2))
            dual.select(-3, 0).copy_(value)
            dual[..., 1:, :, :].mul_(slope.unsqueeze(-3))
            saved += [h, slope, ratio]
            slopes.append(slope)
            h = dual.flatten(-3, -2)
        out = h @ W_out
        out[..., : out.shape[-2] // (1 + m), :].add_(b_out.unsqueeze(-2))
        saved.append(h)
        adjoint = None
        if w is not None:
            k, q = w.shape[-2], w @ W_out.mT
            for (W, _), slope in zip(reversed(_pairs(hidden)), reversed(slopes), strict=True):
                sq = q * slope[..., :k, :]
                saved += [q, sq]
                q = sq @ W.mT
            adjoint = q
        ctx.save_for_backward(w, *layers, *saved)
        ctx.m, ctx.n_layers = m, len(layers)
        return out, adjoint

    @staticmethod
    @once_differentiable
    def backward(ctx, g, g_adjoint):
        """Return the gradients of rows, w and the layers: the adjoint's part first."""
        w, *rest = ctx.saved_tensors
        layers, saved = rest[: ctx.n_layers], rest[ctx.n_layers :]
        *hidden, W_out, _ = layers
        n_hidden = len(hidden) // 2
        forward, h = saved[: 3 * n_hidden], saved[3 * n_hidden]
        grads: list[Tensor | None] = [None] * len(layers)
        along: list[Tensor | None] = [None] * n_hidden  # what the adjoint asks of each slope
        g_w = None
        if g_adjoint is not None:
            q = g_adjoint
            backward = list(_pairs(saved[3 * n_hidden + 1 :]))[::-1]
            for layer, (q_in, sq) in enumerate(backward):
                W, slope = hidden[2 * layer], forward[3 * layer + 1]
                grads[2 * layer] = q.mT @ sq
                g_sq = q @ W
                along[layer] = g_sq * q_in
                q = g_sq * slope[..., : q.shape[-2], :]
            grads[-2] = q.mT @ w
            g_w = q @ W_out if ctx.needs_input_grad[1] else None
        n = g.shape[-2] // (1 + ctx.m)
        grads[-2] = _plus(grads[-2], h.mT @ g)
        grads[-1] = g[..., :n, :].sum(dim=-2)
        for layer in reversed(range(n_hidden)):
            W = hidden[2 * layer]
            W_after = hidden[2 * layer + 2] if layer + 1 < n_hidden else W_out
            dual, (h, slope, ratio) = h, forward[3 * layer : 3 * layer + 3]
            g = (g @ W_after.mT).unflatten(-2, (1 + ctx.m, n))
            # One tangent after the other: all at once do not fit into the cache.
            _, *g_tangents = g.unbind(-3)
            _, *tangents = dual.unflatten(-2, (1 + ctx.m, n)).unbind(-3)
            curved = g_tangents[0] * tangents[0]  # times the slope
            for g_t, t in zip(g_tangents[1:], tangents[1:], strict=True):
                curved.addcmul_(g_t, t)
            asked = along[layer]
            if asked is not None:
                k = asked.shape[-2]
                curved[..., :k, :].addcmul_(asked, slope[..., :k, :])
            g.mul_(slope.unsqueeze(-3))
            value = g.select(-3, 0)
            value.addcmul_(curved, ratio)
            grads[2 * layer + 1] = value.sum(dim=-2)
            g = g.flatten(-3, -2)
            grads[2 * layer] = _plus(grads[2 * layer], h.mT @ g)
        first = hidden[0] if n_hidden else W_out
        return g @ first.mT if ctx.needs_input_grad[0] else None, g_w, None, None, *grads


def _pairs(layers: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(layers[::2], layers[1::2], strict=True))


def _plus(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a.add_(b)
