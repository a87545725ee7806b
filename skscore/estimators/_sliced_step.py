"""A step of sliced score matching by hand."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from skscore._linear import times
from skscore.estimators._steps import Step, step_of
from skscore.objectives._curl import first_rows, size_of
from skscore.objectives._sliced import draw_directions


class SlicedStep(Step):
    """Loss and gradient of `sliced`.

    Parameters
    ----------
    *where
        As in `Step`.
    n_projections, projection, variance_reduction, curl_penalty
        As in `sliced`.
    """

    def __init__(
        self,
        *where,
        n_projections: int | str = 1,
        projection: str = "rademacher",
        variance_reduction: bool = True,
        curl_penalty: float = 0.0,
    ):
        super().__init__(*where, curl_penalty=curl_penalty)
        self.directions = n_projections, projection
        self.reduced = variance_reduction

    def _loss(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        v, basis = draw_directions(x, *self.directions, generator, self.reduced)
        v = v.movedim(0, 1)
        members, m, n, d = v.shape
        by_adjoint = bool(self.curl_penalty) and not basis
        n_adjoint = first_rows(x).shape[1] if by_adjoint else 0
        rows = torch.cat([x.unsqueeze(1), v], dim=1).view(members, (1 + m) * n, d)
        own = self._pass_of(rows, m, n_adjoint)
        out = own.forward(rows, self.weights, self.shifts).sub_(times(rows, self.precision))
        stacked = out.view(members, 1 + m, n, d)
        s, jv = stacked[:, 0], stacked[:, 1:]
        s += self.shifts[-1].unsqueeze(1)
        g = torch.empty_like(stacked)
        loss = self._matched(v, s, jv, g)
        if by_adjoint:
            loss += self._penalised(own, v[:, 0], jv[:, 0], g[:, 1])
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


sliced_step = partial(step_of, SlicedStep)
