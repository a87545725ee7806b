"""A score model in standardised coordinates: a Gaussian skip, and a residual that is learnt.

``s(u) = -P u + r(u)``. The residual r is a network, or minus the gradient of one: here, and
nowhere else, an energy becomes a score. It may be averaged with that of a mixture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skscore._autodiff import (
    floats_per_row,
    fold,
    repeat_rows,
    unfold,
    value_and_curvature,
    value_and_divergence,
    value_and_jvp,
    value_and_products,
)
from skscore._linear import times, trace
from skscore._mixture import Average, Mixture, OverGaussian
from skscore._products import Products


class GradientField(nn.Module):
    """``s = -grad E`` of a network with one output; its Jacobian is symmetric."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def energy(self, x: Tensor) -> Tensor:
        """Return ``E(x)``, (n,)."""
        return self.network(x).squeeze(-1)

    def _graph(self, x: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(
                self.energy(x).sum(), x, create_graph=keep, materialize_grads=True
            )
            return x, -gradient

    def forward(self, x: Tensor) -> Tensor:
        """Return the field, (n, d) -> (n, d)."""
        return self._graph(x, torch.is_grad_enabled())[1]

    def value_and_jvp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``s`` and ``J v``, which is ``J' v`` here: one more reverse pass."""
        m, n = len(v), x.shape[-2]
        training = torch.is_grad_enabled()
        rows, s = self._graph(repeat_rows(x, m), keep=True)
        with torch.enable_grad():
            if not s.requires_grad:  # the energy is linear in x
                return s[..., :n, :], torch.zeros_like(v)
            # The sum, and not grad_outputs=v: that imports sympy, which changes warning filters.
            (jv,) = torch.autograd.grad(
                (s * fold(v)).sum(), rows, create_graph=training, materialize_grads=True
            )
        return (s if training else s.detach())[..., :n, :], unfold(jv, m)


class ScoreModel(nn.Module):
    """A residual field over the score of a Gaussian.

    Parameters
    ----------
    network : nn.Module
        With d outputs for a score, one for an energy.
    precision : Tensor of shape (d, d) or ()
        P, of the Gaussian; its mean is zero. A number is a multiple of the identity.
    energy : bool
        Whether the network is an energy.
    mixture : Mixture or Products, optional
        Another estimate of the whole field.
    share : float, default=0.0
        Of the mixture, in the average of the two.
    """

    precision: Tensor

    def __init__(
        self,
        network: nn.Module,
        precision: Tensor,
        *,
        energy: bool,
        mixture: Mixture | Products | None = None,
        share: float = 0.0,
    ):
        super().__init__()
        self.residual: nn.Module = GradientField(network) if energy else network
        self.register_buffer("precision", precision)
        if mixture is not None:
            self.residual = Average(self.residual, OverGaussian(mixture, precision), share)

    @property
    def has_energy(self) -> bool:
        """Whether the network is an energy."""
        return isinstance(self._own, GradientField)

    def mixed(self, mixture: Mixture | Products, share: float) -> ScoreModel:
        """Return the model of the same network with a share of a mixture."""
        energy = self.has_energy
        return ScoreModel(self.network, self.precision, energy=energy, mixture=mixture, share=share)

    def with_network(self, network: nn.Module) -> ScoreModel:
        """Return the model of another network."""
        return ScoreModel(network, self.precision, energy=self.has_energy)

    def set_gaussian(self, precision: Tensor) -> None:
        """Set the Gaussian that the network stands over."""
        self.precision = precision.clone()

    @property
    def _own(self) -> nn.Module:
        return self.residual.f if isinstance(self.residual, Average) else self.residual

    @property
    def network(self) -> nn.Module:
        """The module that is trained."""
        return self._own.network if self.has_energy else self._own  # type: ignore[return-value]

    def skip(self, x: Tensor) -> Tensor:
        """Return the score of the Gaussian."""
        return -times(x, self.precision)

    def forward(self, x: Tensor) -> Tensor:
        """Return the field, (n, d) -> (n, d)."""
        return self.skip(x) + self.residual(x)

    def value_and_jvp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``s`` and ``J v``."""
        r, jv = value_and_jvp(self.residual, x, v)
        return self.skip(x) + r, jv - times(v, self.precision)

    def value_and_curvature(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``s`` and ``w' J v``."""
        r, curvature = value_and_curvature(self.residual, x, v, w)
        return self.skip(x) + r, curvature - (w * times(v, self.precision)).sum(dim=-1)

    def value_and_products(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``s``, ``J v``, and ``J' w`` for w at the first rows."""
        r, jv, jw = value_and_products(self.residual, x, v, w)
        return self.skip(x) + r, jv - times(v, self.precision), jw - times(w, self.precision)

    def value_and_divergence(self, x: Tensor, metric: Tensor | None = None):
        """Return ``s`` and ``tr(A J)``."""
        r, divergence = value_and_divergence(self.residual, x, metric)
        A_P = self.precision if metric is None else times(metric, self.precision)
        return self.skip(x) + r, divergence - trace(A_P, x.shape[-1])

    def floats_per_row(self, n_features: int) -> int:
        """Return about how many numbers `value_and_divergence` holds at once, for one row."""
        return floats_per_row(self.residual, n_features)

    def energy(self, x: Tensor) -> Tensor:
        """Return ``E(x)``, (n,), up to a constant; the residual must be an energy."""
        return 0.5 * (times(x, self.precision) * x).sum(dim=1) + self.residual.energy(x)  # type: ignore[operator]
