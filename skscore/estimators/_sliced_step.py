"""The gradient of sliced score matching by the weights of perceptrons, by hand.

What `sliced` returns, differentiated once: autograd finds the same, at twice the time of a step,
since half of it goes to the bookkeeping of some hundred small operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skscore._adamw import AdamW
from skscore._linear import times
from skscore._model import ScoreModel
from skscore.networks import ACTIVATIONS, MLP, Ensemble
from skscore.networks._dual import DualPass
from skscore.networks._mlp import LayeredNetwork
from skscore.networks._restricted import Restricted
from skscore.objectives._curl import SHARE, size_of
from skscore.objectives._sliced import SMALL, draw_directions


class SlicedStep:
    """Loss and gradient of a batch, for k perceptrons over one Gaussian.

    Parameters
    ----------
    weights, shifts : sequence of Tensor
        W (k, in, out) and b (k, out) of each layer; they are read at each call.
    into, shifts_into : sequence of Tensor
        Where their gradients are written.
    precision : Tensor of shape (d, d) or ()
        P of the Gaussian: the field is ``network(u) - P u``.
    activation : str
        Of the hidden layers.
    n_projections, projection, variance_reduction, curl_penalty
        As in `sliced`.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        shifts: Sequence[Tensor],
        into: Sequence[Tensor],
        shifts_into: Sequence[Tensor],
        precision: Tensor,
        activation: str,
        *,
        n_projections: int | str = 1,
        projection: str = "rademacher",
        variance_reduction: bool = True,
        curl_penalty: float = 0.0,
    ):
        self.weights, self.shifts = weights, shifts
        self.into, self.shifts_into = into, shifts_into
        self.precision, self.f = precision, ACTIVATIONS[activation]
        self.directions = n_projections, projection
        self.reduced, self.curl_penalty = variance_reduction, curl_penalty
        self._memory: tuple | None = None

    @torch.no_grad()
    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Write the gradient of the sum over members of their mean losses; return this sum.

        Parameters
        ----------
        x : Tensor of shape (k, n, d), or (n, d) for one member
            Rows of each member.
        generator : torch.Generator
            Draws the directions.
        """
        x = x if x.dim() == 3 else x.unsqueeze(0)
        v, basis = draw_directions(x, *self.directions, generator, self.reduced)
        v = v.movedim(0, 1)
        members, m, n, d = v.shape
        by_adjoint = bool(self.curl_penalty) and not basis
        n_adjoint = -(-n // SHARE) if by_adjoint else 0
        rows = torch.cat([x.unsqueeze(1), v], dim=1).view(members, (1 + m) * n, d)
        own = self._pass_of(rows, m, n_adjoint)
        out = own.forward(rows, self.weights, self.shifts).sub_(times(rows, self.precision))
        stacked = out.view(members, 1 + m, n, d)
        s, jv = stacked[:, 0], stacked[:, 1:]
        s += self.shifts[-1].unsqueeze(1)
        g = torch.empty_like(stacked)
        loss = self._matched(v, s, jv, g)
        if by_adjoint:
            w = v[:, 0, :n_adjoint].contiguous()
            jw = own.adjoint(w, self.weights).sub_(times(w, self.precision))
            lack = jv[:, 0, :n_adjoint] - jw
            weight = self.curl_penalty / (n_adjoint * size_of(jv[:, 0]).unsqueeze(-1))
            loss += torch.sum(lack * lack * weight)
            g_jw = lack.mul_(-2 * weight)
            g[:, 1, :n_adjoint] -= g_jw
            own.adjoint_backward(g_jw, w, self.weights, self.into)
        elif self.curl_penalty:  # J is known whole
            lack = jv - jv.transpose(1, 3)
            weight = self.curl_penalty / (n * m * size_of(jv.flatten(1, 2)).view(-1, 1, 1, 1))
            loss += torch.sum(lack * lack * weight)
            g[:, 1:] += lack.mul_(4 * weight)
        torch.sum(g[:, 0], dim=1, out=self.shifts_into[-1])
        into = self.into, self.shifts_into
        own.backward(g.view_as(out), rows, self.weights, *into, with_adjoint=by_adjoint)
        return loss

    def _matched(self, v: Tensor, s: Tensor, jv: Tensor, g: Tensor) -> Tensor:
        """Return the loss without the penalty; write its gradient by s and J v, stacked as g."""
        m, n = v.shape[1:3]
        loss = torch.sum(v * jv) / m
        torch.mul(v, 1 / (n * m), out=g[:, 1:])
        if self.reduced:
            loss += 0.5 * torch.sum(s * s)
            torch.mul(s, 1 / n, out=g[:, 0])
        else:
            along = torch.sum(v * s.unsqueeze(1), dim=-1, keepdim=True)
            loss += 0.5 * torch.sum(along * along) / m
            torch.sum(along * v, dim=1, out=g[:, 0]).mul_(1 / (n * m))
        return loss / n

    def _pass_of(self, rows: Tensor, m: int, n_adjoint: int) -> DualPass:
        """Return the memory of the last call, where rows are as many."""
        key = rows.shape, m, n_adjoint
        if self._memory is None or self._memory[0] != key:
            widths = [b.shape[1] for b in self.shifts[:-1]]
            self._memory = key, DualPass(rows, m, n_adjoint, widths, self.f)
        return self._memory[1]


class SlicedStepOfRestricted(SlicedStep):
    """The same for perceptrons whose outer layers are products with a basis that is learnt too.

    Parameters
    ----------
    network : LayeredNetwork
        One restricted network, or a stack of several.
    optimiser : AdamW
        The owner of its weights.
    precision, **options
        As in `SlicedStep`.
    """

    def __init__(self, network: LayeredNetwork, optimiser: AdamW, precision: Tensor, **options):
        super().__init__([], [], [], [], precision, network.activation, **options)
        self.network, self.optimiser = network, optimiser

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """As for any perceptrons."""
        with torch.enable_grad():
            layers = self.network.layers
            if layers[0][0].dim() == 2:
                layers = [(W.unsqueeze(0), b.unsqueeze(0)) for W, b in layers]
        self.weights, self.shifts = zip(*((W.detach(), b.detach()) for W, b in layers), strict=True)
        self.into = [torch.empty_like(W) for W in self.weights]
        self.shifts_into = [torch.empty_like(b) for b in self.shifts]
        loss = super().__call__(x, generator)
        with torch.enable_grad():
            # The sum, and not grad_outputs: that imports sympy, which changes warning filters.
            along = zip(layers, self.into, self.shifts_into, strict=True)
            inner = sum((W * g).sum() + (b * g_b).sum() for (W, b), g, g_b in along)
        self.optimiser.differentiate(inner)  # type: ignore[arg-type]
        return loss


def sliced_step(model: ScoreModel, optimiser: AdamW, **options) -> SlicedStep | None:
    """Return the step of a model whose weights an optimiser owns; None for other networks.

    Parameters
    ----------
    model : ScoreModel
        A perceptron, or an ensemble of such, over a Gaussian.
    optimiser : AdamW
        The owner of its weights.
    **options
        Of `sliced`.
    """
    network = model.network
    networks = list(network) if isinstance(network, Ensemble) else [network]
    (kind, *others) = {type(each) for each in networks}
    if model.has_energy or others:
        return None
    first: Any = networks[0]
    own: Any = network.stack if isinstance(network, Ensemble) else network
    if kind is MLP:
        weights, into = zip(*map(optimiser.stacked, first.weights), strict=True)
        shifts, shifts_into = zip(*map(optimiser.stacked, first.biases), strict=True)
        where = weights, shifts, into, shifts_into
        return SlicedStep(*where, model.precision, first.activation, **options)
    if kind is Restricted:
        return SlicedStepOfRestricted(own, optimiser, model.precision, **options)
    return None


def exact_step(model: ScoreModel, optimiser: AdamW, *, curl_penalty: float) -> SlicedStep | None:
    """Return the step of `exact` where it is `sliced` along all unit vectors; otherwise None.

    Parameters
    ----------
    model, optimiser
        As in `sliced_step`.
    curl_penalty : float
        As in `exact`.
    """
    few = model.precision.dim() == 2 and len(model.precision) <= SMALL
    if not (few and curl_penalty):
        return None
    return sliced_step(model, optimiser, n_projections="auto", curl_penalty=curl_penalty)
