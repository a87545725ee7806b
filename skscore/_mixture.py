"""The score of a Gaussian mixture, in closed form at every noise level, and averages of fields.

``p = sum_k pi_k N(m_k, C_k)``, ``C_k = Q_k diag(lam_k) Q_k'``. Blurred by N(0, sigma^2 I) it is
the mixture with variances ``lam_k + sigma^2``. With ``g_k = -C_k^-1 (x - m_k)`` and the posterior
shares ``gamma_k`` of the components,

    s = sum_k gamma_k g_k,    J = sum_k gamma_k (g_k g_k' - C_k^-1) - s s'.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skscore._autodiff import (
    floats_per_row,
    value_and_divergence,
    value_and_jvp,
)
from skscore._linear import times, trace
from skscore._products import Products


class Mixture(nn.Module):
    """The score of a Gaussian mixture.

    Parameters
    ----------
    log_weights : Tensor of shape (..., K)
        Logs of pi; several mixtures at once for rows (..., n, d).
    means, variances : Tensor of shape (..., K, d)
        m and lam.
    bases : Tensor of shape (..., K, d, d)
        Q, orthonormal.
    """

    log_weights: Tensor
    means: Tensor
    variances: Tensor
    bases: Tensor

    def __init__(self, log_weights: Tensor, means: Tensor, variances: Tensor, bases: Tensor):
        super().__init__()
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("means", means)
        self.register_buffer("variances", variances)
        self.register_buffer("bases", bases)

    def at(self, sigma: float) -> Mixture:
        """Return the mixture blurred at a level."""
        return Mixture(self.log_weights, self.means, self.variances + sigma**2, self.bases)

    @classmethod
    def stacked(cls, mixtures: Sequence[Mixture]) -> Mixture:
        """Return several mixtures as one, for rows (k, n, d) of their own."""
        columns = zip(*(m.buffers() for m in mixtures), strict=True)
        return cls(*(torch.stack(column) for column in columns))

    def _parts(self, x: Tensor, sigma: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logs of pi N and of no common factor, gamma (..., K, n, 1), and g."""
        blurred = self.variances.unsqueeze(-2)
        if sigma is not None:
            blurred = blurred + sigma.unsqueeze(-3) ** 2
        a = (x.unsqueeze(-3) - self.means.unsqueeze(-2)) @ self.bases
        b = a / blurred
        logs = self.log_weights.unsqueeze(-1) - 0.5 * (a * b + blurred.log()).sum(dim=-1)
        return logs, torch.softmax(logs, dim=-2).unsqueeze(-1), -(b @ self.bases.mT)

    def forward(self, x: Tensor, sigma: Tensor | None = None) -> Tensor:
        """Return the score, (..., n, d) -> (..., n, d), at levels (..., n, 1) or as it is."""
        _, share, g = self._parts(x, sigma)
        return (share * g).sum(dim=-3)

    def energy(self, x: Tensor) -> Tensor:
        """Return -log p up to a constant, (n,)."""
        return -torch.logsumexp(self._parts(x)[0], dim=-2)

    def _times_precisions(self, v: Tensor) -> Tensor:
        """Return ``C_k^-1 v``, (..., n, d) -> (..., K, n, d)."""
        along = (v.unsqueeze(-3) @ self.bases) / self.variances.unsqueeze(-2)
        return along @ self.bases.mT

    def value_and_jvp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``s`` and ``J v``."""
        _, share, g = self._parts(x)
        s = (share * g).sum(dim=-3)
        gv = (g * v.unsqueeze(-3)).sum(dim=-1, keepdim=True)
        bent = (share * (gv * g - self._times_precisions(v))).sum(dim=-3)
        return s, bent - (s * v).sum(dim=-1, keepdim=True) * s

    def value_and_divergence(self, x: Tensor, metric: Tensor | None = None):
        """Return ``s`` and ``tr(A J)``."""
        _, share, g = self._parts(x)
        s = (share * g).sum(dim=-3)
        Q = self.bases
        AQ = Q if metric is None else metric @ Q
        traces = ((Q * AQ).sum(dim=-2) / self.variances).sum(dim=-1)
        gAg = (g * (g if metric is None else g @ metric)).sum(dim=-1)
        sAs = (s * (s if metric is None else s @ metric)).sum(dim=-1)
        return s, (share.squeeze(-1) * (gAg - traces.unsqueeze(-1))).sum(dim=-2) - sAs

    def floats_per_row(self, n_features: int) -> int:
        """Return about how many numbers `value_and_divergence` holds at once, for one row."""
        return 4 * self.means.shape[-2] * n_features


class OverGaussian(nn.Module):
    """What a mixture's score has beyond that of a Gaussian: ``s + P x``.

    Parameters
    ----------
    mixture : Mixture or Products
        Whose score it is.
    precision : Tensor of shape (d, d) or ()
        P; the Gaussian's mean is zero.
    """

    precision: Tensor

    def __init__(self, mixture: Mixture | Products, precision: Tensor):
        super().__init__()
        self.mixture: Mixture | Products = mixture
        self.register_buffer("precision", precision)

    def forward(self, x: Tensor) -> Tensor:
        """Return the field, (n, d) -> (n, d)."""
        return self.mixture(x) + times(x, self.precision)

    def energy(self, x: Tensor) -> Tensor:
        """Return the energy, (n,)."""
        return self.mixture.energy(x) - 0.5 * (times(x, self.precision) * x).sum(dim=-1)

    def value_and_jvp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value and ``J v``."""
        s, jv = self.mixture.value_and_jvp(x, v)
        return s + times(x, self.precision), jv + times(v, self.precision)

    def value_and_divergence(self, x: Tensor, metric: Tensor | None = None):
        """Return the value and ``tr(A J)``."""
        s, divergence = self.mixture.value_and_divergence(x, metric)
        A_P = self.precision if metric is None else times(metric, self.precision)
        return s + times(x, self.precision), divergence + trace(A_P, x.shape[-1])

    def floats_per_row(self, n_features: int) -> int:
        """Return about how many numbers `value_and_divergence` holds at once, for one row."""
        return self.mixture.floats_per_row(n_features)


class Average(nn.Module):
    """``(1 - share) f + share g`` of two fields.

    Parameters
    ----------
    f, g : nn.Module
        Fields, rows in and rows out.
    share : float
        Of g.
    """

    def __init__(self, f: nn.Module, g: nn.Module, share: float):
        super().__init__()
        self.f, self.g, self.share = f, g, share

    def forward(self, x: Tensor) -> Tensor:
        """Return the field, (n, d) -> (n, d)."""
        return torch.lerp(self.f(x), self.g(x), self.share)

    def energy(self, x: Tensor) -> Tensor:
        """Return the energy, (n,), where both have one."""
        return torch.lerp(self.f.energy(x), self.g.energy(x), self.share)  # type: ignore[operator]

    def _both(self, derivative, x: Tensor, *arguments) -> tuple[Tensor, Tensor]:
        f, g = (derivative(field, x, *arguments) for field in (self.f, self.g))
        return torch.lerp(f[0], g[0], self.share), torch.lerp(f[1], g[1], self.share)

    def value_and_jvp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value and ``J v``."""
        return self._both(value_and_jvp, x, v)

    def value_and_divergence(self, x: Tensor, metric: Tensor | None = None):
        """Return the value and ``tr(A J)``."""
        return self._both(value_and_divergence, x, metric)

    def floats_per_row(self, n_features: int) -> int:
        """Return about how many numbers `value_and_divergence` holds at once, for one row."""
        return floats_per_row(self.f, n_features) + floats_per_row(self.g, n_features)
