"""A step of exact score matching by hand, for perceptrons of two hidden layers.

With slopes ``s_l = f'(u_l)`` the trace of the Jacobian of ``W_1, W_2, W_3`` is
``sum (s_1 M) s_2``, ``M = W_2 * (W_3 W_1)'``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skscore._adamw import AdamW
from skscore._linear import times, trace
from skscore._model import ScoreModel
from skscore.estimators._sliced_step import sliced_step
from skscore.estimators._steps import OfRestricted, Step, step_of
from skscore.networks import Ensemble
from skscore.networks._dual import DualPass
from skscore.networks._mlp import LayeredNetwork
from skscore.objectives import PROJECTIONS, SMALL
from skscore.objectives._curl import first_rows


class ExactStep(Step):
    """Loss and gradient of `exact` for two hidden layers; the parameters are those of `Step`."""

    def _loss(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        members, n, d = x.shape
        loss = self._curled(x, generator)
        shifts = [each.clone() for each in self.shifts_into]
        own = self._pass_of(x, 0, n)
        s = own.forward(x, self.weights, self.shifts).sub_(times(x, self.precision))
        s += self.shifts[-1].unsqueeze(1)
        loss += 0.5 * torch.sum(s * s) / n + self._traced(own) / n
        g = s.mul_(1 / n)
        torch.sum(g, dim=1, out=self.shifts_into[-1])
        own.backward(g, x, self.weights, self.into, self.shifts_into, with_adjoint=True)
        for total, part in zip(self.shifts_into, shifts, strict=True):
            total += part
        return loss - members * trace(self.precision, d)

    def _curled(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the penalty, with its gradient written, or zero with zeros."""
        if not self.curl_penalty:
            for each in (*self.into, *self.shifts_into):
                each.zero_()
            return x.new_zeros(())
        first = first_rows(x)
        v = PROJECTIONS["rademacher"]((1, *first.shape), generator, x)[0]
        rows = torch.cat([first, v], dim=1)
        own = self._pass_of(rows, 1, first.shape[1])
        out = own.forward(rows, self.weights, self.shifts)
        jv = out[:, first.shape[1] :].sub_(times(v, self.precision))
        g = torch.zeros_like(out)
        loss = self._penalised(own, v, jv, g[:, first.shape[1] :])
        self.shifts_into[-1].zero_()  # J knows nothing of it
        own.backward(g, rows, self.weights, self.into, self.shifts_into, with_adjoint=True)
        return loss

    def _traced(self, own: DualPass) -> Tensor:
        """Return the sum of the traces; add a row's mean gradient to the weights'.

        What it asks of the slopes is left for the backward pass.
        """
        (at, after), (first, W, last) = own.layers, self.weights
        n = at.slope.shape[1]
        around = (last @ first).mT
        M = W * around
        T = torch.bmm(at.slope, M)
        total = torch.sum(T * after.slope)
        torch.mul(T, 1 / n, out=after.asked)
        torch.bmm(after.slope, M.mT, out=at.asked).mul_(1 / n)
        g_M = torch.bmm(at.slope.mT, after.slope).mul_(1 / n)
        g_around = g_M * W
        for into, g in zip(
            self.into,
            (last.mT @ g_around.mT, g_M * around, g_around.mT @ first.mT),
            strict=True,
        ):
            into += g
        return total


def exact_step(
    model: ScoreModel, optimiser: AdamW, *, curl_penalty: float
) -> Step | OfRestricted | None:
    """Return the step of `exact`; None for networks that none is known for.

    Parameters
    ----------
    model, optimiser
        As in `step_of`.
    curl_penalty : float
        As in `exact`.
    """
    few = model.precision.dim() == 2 and len(model.precision) <= SMALL
    if few and curl_penalty:  # then it is `sliced` along all unit vectors
        return sliced_step(model, optimiser, n_projections="auto", curl_penalty=curl_penalty)
    network = model.network
    first = next(iter(network)) if isinstance(network, Ensemble) else network
    if not isinstance(first, LayeredNetwork) or len(first.layers) != 3:
        return None
    return step_of(ExactStep, model, optimiser, curl_penalty=curl_penalty)
