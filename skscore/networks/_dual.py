"""A perceptron's value with its Jacobian products, and the backward pass of all three by hand.

``h_l = f(u_l)``, ``u_l = h_{l-1} W_l + b_l``, ``s = h_L W + b``. Tangents
``t_l = f'(u_l) (t_{l-1} W_l)`` from ``t_0 = v``, so ``J v = t_L W``; adjoints
``q_{l-1} = (f'(u_l) q_l) W_l'`` from ``q_L = w W'``, so ``J' w = q_0``. Value and tangents are
stacked as rows, (k, (1 + m) n, h), k networks at once: one matrix product carries both.
Written by hand because a training step of a small network is bound by the number of
operations and by its memory, and not by arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from skscore.networks._activations import Activation


class HiddenLayer:
    """What a hidden layer leaves for the backward pass, and the views of it that a pass needs.

    Parameters
    ----------
    rows : Tensor of shape (k, (1 + m) n, d)
        Rows like those of the pass.
    m, n_adjoint : int
        Tangents to a row, and rows of the adjoint.
    width : int
        Units.
    """

    def __init__(self, rows: Tensor, m: int, n_adjoint: int, width: int):
        members, n_rows, _ = rows.shape
        n = n_rows // (1 + m)
        self.dual = rows.new_empty(members, n_rows, width)
        stacked = self.dual.view(members, 1 + m, n, width)
        self.value, self.tangents, self.each_tangent = _parts(stacked)
        self.slope = rows.new_empty(members, n, width)
        self.slopes = self.slope.unsqueeze(1)  # of the tangents
        self.ratio = torch.empty_like(self.slope)
        self.first = self.slope[:, :n_adjoint]  # where the adjoint is
        shape = members, n_adjoint, width
        self.q, self.sq, self.asked = (rows.new_empty(shape) for _ in range(3))


class _Scratch:
    """What the backward pass of a layer needs, and that of the next does not."""

    def __init__(self, like: HiddenLayer):
        members, n, width = like.slope.shape
        self.g = torch.empty_like(like.dual)
        self.stacked = self.g.view(members, -1, n, width)
        self.value, _, self.each_tangent = _parts(self.stacked)
        self.curved = torch.empty_like(like.slope)
        self.curved_first = self.curved[:, : like.q.shape[1]]
        self.q = torch.empty_like(like.q)


def _parts(stacked: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Return the value, the tangents, and these one by one."""
    return stacked[:, 0], stacked[:, 1:], stacked[:, 1:].unbind(1)


class DualPass:
    """The memory of a pass forward and the one backward that belongs to it, to be used again.

    Parameters
    ----------
    rows : Tensor of shape (k, (1 + m) n, d)
        Rows like those of the pass, the value's first.
    m, n_adjoint : int
        Tangents to a row, and rows of the adjoint.
    widths : sequence of int
        Units of each hidden layer.
    f : Activation
        The function of the hidden layers.
    """

    def __init__(
        self, rows: Tensor, m: int, n_adjoint: int, widths: Sequence[int], f: type[Activation]
    ):
        self.f, self.n_adjoint = f, n_adjoint
        self.layers = [HiddenLayer(rows, m, n_adjoint, width) for width in widths]

    @cached_property
    def scratch(self) -> list[_Scratch]:
        """What the backward passes of the layers need.

        Two take turns where layers are alike: the less memory, the more of it stays in the cache.
        """
        own: list[_Scratch] = []
        for i, layer in enumerate(self.layers):
            alike = i >= 2 and layer.dual.shape == self.layers[i - 2].dual.shape
            own.append(own[-2] if alike else _Scratch(layer))
        return own

    def forward(self, rows: Tensor, weights: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
        """Return ``s`` less the last shift, and ``J v``, stacked as rows, (k, (1 + m) n, o)."""
        h = rows
        for at, W, b in zip(self.layers, weights, shifts, strict=False):
            torch.bmm(h, W, out=at.dual)
            at.value.add_(b.unsqueeze(1))
            self.f.curve_(at.value, at.slope, at.ratio)
            at.tangents.mul_(at.slopes)
            h = at.dual
        return torch.bmm(h, weights[-1])

    def adjoint(self, w: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Return ``J' w``, for w (k, n_adjoint, o) at the first rows of the last `forward`."""
        q, W = w, weights[-1]
        for at, W_before in zip(reversed(self.layers), reversed(weights[:-1]), strict=True):
            torch.bmm(q, W.mT, out=at.q)
            q, W = torch.mul(at.q, at.first, out=at.sq), W_before
        return torch.bmm(q, W.mT)

    def adjoint_backward(
        self, g: Tensor, w: Tensor, weights: Sequence[Tensor], into: Sequence[Tensor]
    ) -> Tensor:
        """Write the gradients of the weights, for the gradient g of what `adjoint` returned.

        What it asks of the slopes is left for `backward`. Returns what times the last weights is
        the gradient of w.
        """
        q = g
        for at, scratch, W, grad in zip(self.layers, self.scratch, weights, into, strict=False):
            torch.bmm(q.mT, at.sq, out=grad)
            torch.bmm(q, W, out=scratch.q)
            torch.mul(scratch.q, at.q, out=at.asked)
            q = scratch.q.mul_(at.first)
        torch.bmm(q.mT, w, out=into[-1])
        return q

    def backward(
        self,
        g: Tensor,
        rows: Tensor,
        weights: Sequence[Tensor],
        into: Sequence[Tensor],
        shifts_into: Sequence[Tensor],
        *,
        with_adjoint: bool,
    ) -> Tensor:
        """Write the gradients of weights and shifts, for that of what `forward` returned.

        Those of the adjoint are added to, where there are such; the last shift is not here.
        Returns what times the first weights' transpose is the gradient of the rows.
        """
        beta = 1 if with_adjoint else 0
        h = [rows, *(at.dual for at in self.layers)]
        torch.baddbmm(into[-1], h[-1].mT, g, beta=beta, out=into[-1])
        for i in reversed(range(len(self.layers))):
            at, scratch = self.layers[i], self.scratch[i]
            torch.bmm(g, weights[i + 1].mT, out=scratch.g)
            curved = scratch.curved  # over the slope
            if not at.each_tangent:
                curved.zero_()
            # One tangent after the other: all at once do not fit into the cache.
            for j, (g_t, t) in enumerate(zip(scratch.each_tangent, at.each_tangent, strict=True)):
                torch.addcmul(curved, g_t, t, out=curved) if j else torch.mul(g_t, t, out=curved)
            if with_adjoint:
                scratch.curved_first.addcmul_(at.asked, at.first)
            scratch.stacked.mul_(at.slopes)
            scratch.value.addcmul_(curved, at.ratio)
            torch.sum(scratch.value, dim=1, out=shifts_into[i])
            g = scratch.g
            torch.baddbmm(into[i], h[i].mT, g, beta=beta, out=into[i])
        return g


class Products(torch.autograd.Function):
    """Return ``s`` and ``J v`` stacked as rows, and ``J' w``.

    In: rows (..., (1 + m) n, d), the value's first; w (..., k, o) or None; m; the activation;
    W and b of each layer. One leading dimension at most.
    """

    @staticmethod
    def forward(ctx, rows, w, m: int, f: type[Activation], *layers: Tensor):
        """Evaluate the network, and keep what its backward pass needs."""
        ctx.single = rows.dim() == 2
        rows, w, *parameters = _as_members(ctx.single, rows, w, *layers)
        weights, shifts = parameters[::2], parameters[1::2]
        n_adjoint = 0 if w is None else w.shape[1]
        ctx.own = DualPass(rows, m, n_adjoint, [b.shape[1] for b in shifts[:-1]], f)
        out = ctx.own.forward(rows, weights, shifts)
        ctx.n = out.shape[1] // (1 + m)
        out[:, : ctx.n].add_(shifts[-1].unsqueeze(1))
        adjoint = None if w is None else ctx.own.adjoint(w, weights)
        ctx.save_for_backward(rows, w, *weights)
        if ctx.single:
            return out[0], None if adjoint is None else adjoint[0]
        return out, adjoint

    @staticmethod
    @once_differentiable
    def backward(ctx, g, g_adjoint):
        """Return the gradients of rows, w and the layers."""
        rows, w, *weights = ctx.saved_tensors
        own: DualPass = ctx.own
        g, g_adjoint = _as_members(ctx.single, g, g_adjoint)
        into = [torch.empty_like(W) for W in weights]
        shifts_into = [W.new_empty(len(W), W.shape[2]) for W in weights]
        q = None
        if g_adjoint is not None:
            q = own.adjoint_backward(g_adjoint, w, weights, into)
        torch.sum(g[:, : ctx.n], dim=1, out=shifts_into[-1])
        g = own.backward(g, rows, weights, into, shifts_into, with_adjoint=q is not None)
        g_rows = g @ weights[0].mT if ctx.needs_input_grad[0] else None
        g_w = q @ weights[-1] if q is not None and ctx.needs_input_grad[1] else None
        grads = [each for pair in zip(into, shifts_into, strict=True) for each in pair]
        if ctx.single:
            g_rows, g_w, *grads = (
                None if each is None else each[0] for each in (g_rows, g_w, *grads)
            )
        return g_rows, g_w, None, None, *grads


def _as_members(single: bool, *tensors: Any) -> list[Any]:
    """Return those of a single network as those of one member."""
    return [t.unsqueeze(0) if single and t is not None else t for t in tensors]
