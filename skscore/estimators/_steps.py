"""Steps of training by hand: loss and gradient of a batch, for perceptrons over one Gaussian.

What an objective returns, differentiated once. Autograd finds the same at twice the time, half of
which goes to the bookkeeping of some hundred small operations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from skscore.objectives._curl import size_of


class Step(ABC):
    """Abstract base: weights, where their gradients go, and the memory of the last batch.

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
    curl_penalty : float, default=0.0
        Weight of the curl.
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
        curl_penalty: float = 0.0,
    ):
        self.weights, self.shifts = weights, shifts
        self.into, self.shifts_into = into, shifts_into
        self.precision, self.f = precision, ACTIVATIONS[activation]
        self.curl_penalty = curl_penalty
        self._memory: dict[tuple[int, int], tuple[torch.Size, DualPass]] = {}

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
        return self._loss(x if x.dim() == 3 else x.unsqueeze(0), generator)

    @abstractmethod
    def _loss(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the loss of rows (k, n, d), its gradient written."""

    def _pass_of(self, rows: Tensor, m: int, n_adjoint: int) -> DualPass:
        """Return the memory of the last such pass, where rows are as many."""
        shape, own = self._memory.get((m, n_adjoint), (None, None))
        if own is None or shape != rows.shape:
            widths = [b.shape[1] for b in self.shifts[:-1]]
            own = DualPass(rows, m, n_adjoint, widths, self.f)
            self._memory[m, n_adjoint] = rows.shape, own
        return own

    def _penalised(self, own: DualPass, v: Tensor, jv: Tensor, g_jv: Tensor) -> Tensor:
        """Return the penalty on the curl along one direction to a row.

        What it asks of ``J v`` is added to a gradient, and of ``J' v`` written to the weights'.

        Parameters
        ----------
        own : DualPass
            The pass that J v is of.
        v, jv, g_jv : Tensor of shape (k, n, d)
            The directions, ``J v``, and the gradient by it.
        """
        n = own.n_adjoint
        w = v[:, :n].contiguous()
        jw = own.adjoint(w, self.weights).sub_(times(w, self.precision))
        lack = jv[:, :n] - jw
        weight = self.curl_penalty / (n * size_of(jv).unsqueeze(-1))
        loss = torch.sum(lack * lack * weight)
        g_jw = lack.mul_(-2 * weight)
        g_jv[:, :n] -= g_jw
        own.adjoint_backward(g_jw, w, self.weights, self.into)
        return loss


class OfRestricted:
    """A step of perceptrons whose outer layers are products with a basis that is learnt too.

    Parameters
    ----------
    step : Step
        That of the layers as they are; its weights are replaced at each call.
    network : LayeredNetwork
        One restricted network, or a stack of several.
    optimiser : AdamW
        The owner of its weights.
    """

    def __init__(self, step: Step, network: LayeredNetwork, optimiser: AdamW):
        self.step, self.network, self.optimiser = step, network, optimiser

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """As any step."""
        with torch.enable_grad():
            layers = self.network.layers
            if layers[0][0].dim() == 2:
                layers = [(W.unsqueeze(0), b.unsqueeze(0)) for W, b in layers]
        step = self.step
        step.weights, step.shifts = zip(*((W.detach(), b.detach()) for W, b in layers), strict=True)
        step.into = [torch.empty_like(W) for W in step.weights]
        step.shifts_into = [torch.empty_like(b) for b in step.shifts]
        loss = step(x, generator)
        with torch.enable_grad():
            # The sum, and not grad_outputs: that imports sympy, which changes warning filters.
            along = zip(layers, step.into, step.shifts_into, strict=True)
            inner = sum((W * g).sum() + (b * g_b).sum() for (W, b), g, g_b in along)
        self.optimiser.differentiate(inner)  # type: ignore[arg-type]
        return loss


def step_of(
    kind: type[Step], model: ScoreModel, optimiser: AdamW, **options
) -> Step | OfRestricted | None:
    """Return the step of a model whose weights an optimiser owns; None for other networks.

    Parameters
    ----------
    kind : type of Step
        Of the objective.
    model : ScoreModel
        A perceptron, or an ensemble of such, over a Gaussian.
    optimiser : AdamW
        The owner of its weights.
    **options
        Of the objective.
    """
    network = model.network
    networks = list(network) if isinstance(network, Ensemble) else [network]
    (own, *others) = {type(each) for each in networks}
    if model.has_energy or others:
        return None
    first: Any = networks[0]
    if own is MLP:
        weights, into = zip(*map(optimiser.stacked, first.weights), strict=True)
        shifts, shifts_into = zip(*map(optimiser.stacked, first.biases), strict=True)
        where = weights, shifts, into, shifts_into
        return kind(*where, model.precision, first.activation, **options)
    if own is Restricted:
        step = kind([], [], [], [], model.precision, first.activation, **options)
        whole: Any = network.stack if isinstance(network, Ensemble) else network
        return OfRestricted(step, whole, optimiser)
    return None
