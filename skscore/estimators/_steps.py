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

    ``W_1 = V A``, ``W_L = B V'`` and ``b_L = b V'``, for a basis V (k, d, m).

    Parameters
    ----------
    step : Step
        Of the inner layers A, ..., B; the outer layers take their place here.
    basis, basis_into : Tensor of shape (k, d, m)
        V, read at each call, and where its gradient is written.
    """

    def __init__(self, step: Step, basis: Tensor, basis_into: Tensor):
        self.step, self.basis, self.basis_into = step, basis, basis_into
        own = step.weights[0], step.weights[-1], step.shifts[-1].unsqueeze(1)
        into = step.into[0], step.into[-1], step.shifts_into[-1].unsqueeze(1)
        self._own, self._own_into = own, into
        self._outer, self._outer_into = (self._outer_of(*own) for _ in range(2))
        step.weights, step.shifts = self._placed(step.weights, step.shifts, self._outer)
        step.into, step.shifts_into = self._placed(step.into, step.shifts_into, self._outer_into)

    def _outer_of(self, A: Tensor, B: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        V = self.basis
        return V @ A, B @ V.mT, b @ V.mT

    @staticmethod
    def _placed(weights: Sequence[Tensor], shifts: Sequence[Tensor], outer: tuple[Tensor, ...]):
        """Return layers with others for the outermost."""
        first, last, shift = outer
        return [first, *weights[1:-1], last], [*shifts[:-1], shift.squeeze(1)]

    @torch.no_grad()
    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """As any step."""
        V, (A, B, b) = self.basis, self._own
        for outer, now in zip(self._outer, self._outer_of(A, B, b), strict=True):
            outer.copy_(now)
        loss = self.step(x, generator)
        (g_A, g_B, g_b), (g_first, g_last, g_shift) = self._own_into, self._outer_into
        torch.bmm(V.mT, g_first, out=g_A)
        torch.bmm(g_last, V, out=g_B)
        torch.bmm(g_shift, V, out=g_b)
        torch.bmm(g_first, A.mT, out=self.basis_into)
        self.basis_into.baddbmm_(g_last.mT, B).baddbmm_(g_shift.mT, b)
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
    if own not in (MLP, Restricted):
        return None
    first: Any = networks[0]
    inner = first if own is MLP else first.network
    if own is Restricted and len(inner.weights) == 1:  # V stands on both sides of one layer
        return None
    weights, into = zip(*map(optimiser.stacked, inner.weights), strict=True)
    shifts, shifts_into = zip(*map(optimiser.stacked, inner.biases), strict=True)
    where = weights, shifts, into, shifts_into
    step = kind(*where, model.precision, inner.activation, **options)
    return step if own is MLP else OfRestricted(step, *optimiser.stacked(first.basis))
