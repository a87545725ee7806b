"""Small Gaussian mixtures, one for each row, fitted to its weighted draws by EM.

``z`` (n, k, d) draws, ``w`` (n, k) weights that sum to one in each row, c components with means
(n, c, d) and lower Cholesky factors ``L`` (n, c, d, d).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

JITTER = 1e-6  # of the pooled variance: a component on one draw keeps this much
N_ITERATIONS = 6


class Mixtures(NamedTuple):
    """Log weights (n, c), means (n, c, d) and Cholesky factors (n, c, d, d)."""

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log density of draws (n, k, d), as (n, k)."""
        return torch.logsumexp(self.parts(z), dim=-1)

    def parts(self, z: Tensor) -> Tensor:
        """Return ``log w_c + log N(z; m_c, L_c L_c')``, (n, k, c)."""
        gap = (z[:, None] - self.means[:, :, None]).mT  # (n, c, d, k)
        eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        y = torch.linalg.solve_triangular(self.factors, eye, upper=False) @ gap
        log_det = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
        constant = self.log_weights - log_det - 0.5 * z.shape[-1] * math.log(2 * math.pi)
        return (constant[..., None] - 0.5 * (y * y).sum(dim=-2)).mT

    def draw(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """Return draws (n, k, d) that are made of noise (n, k) and (n, k, d)."""
        n, c, d = self.means.shape
        k = uniform.shape[1]
        until = self.log_weights.exp().cumsum(dim=1)
        which = torch.searchsorted(until, uniform, right=True).clamp_max(c - 1)
        # One product for each component, and the rows that chose it take theirs.
        every = torch.einsum("ncij,nkj->nkci", self.factors, normal) + self.means[:, None]
        return every.gather(2, which[..., None, None].expand(n, k, 1, d)).squeeze(2)

    def joined(self, other: Mixtures) -> Mixtures:
        """Return the mean of two mixtures."""
        parts = (torch.cat(pair, dim=1) for pair in zip(self, other, strict=True))
        log_weights, means, factors = parts
        return Mixtures(log_weights - math.log(2), means, factors)

    def replaced(self, which: Tensor, other: Mixtures) -> Mixtures:
        """Return the other mixture for rows in `which` (n,); both have as many components."""
        pairs = zip(self, other, strict=True)
        mixed = (torch.where(which.view(-1, *[1] * (a.dim() - 1)), b, a) for a, b in pairs)
        return Mixtures(*mixed)

    def widened(self, shares: tuple[tuple[float, float], ...], prior: float) -> Mixtures:
        """Return each component at several widths (share, variance factor), and N(0, I)."""
        n, _, d = self.means.shape
        eye = torch.eye(d, dtype=self.means.dtype, device=self.means.device)
        weights = [self.log_weights + math.log(share) for share, _ in shares]
        weights.append(torch.full_like(self.log_weights[:, :1], math.log(prior)))
        factors = [self.factors * math.sqrt(inflation) for _, inflation in shares]
        return Mixtures(
            torch.cat(weights, dim=1).log_softmax(dim=1),
            torch.cat([*[self.means] * len(shares), torch.zeros_like(self.means[:, :1])], dim=1),
            torch.cat([*factors, eye.expand(n, 1, d, d)], dim=1),
        )


def fit_mixtures(z: Tensor, w: Tensor, n_components: int) -> Mixtures:
    """Fit a mixture to each row's weighted draws.

    The covariances have a prior: the pooled variances, divided by the number of components, count
    as d + 1 draws, so that few effective draws still give a proper proposal.
    """
    d = z.shape[-1]
    effective = 1 / (w * w).sum(dim=1)  # of the draws
    mean = torch.einsum("nk,nkd->nd", w, z)
    variance = torch.einsum("nk,nkd->nd", w, (z - mean[:, None]) ** 2)
    variance = variance + JITTER + 1e-3 / effective[:, None]
    base = torch.diag_embed(variance) / n_components ** (2 / d)
    means = spread_out(z, w, variance, n_components)
    gap = (z[:, :, None] - means[:, None]) / variance.sqrt()[:, None, None]
    share = torch.nn.functional.one_hot((gap * gap).sum(dim=-1).argmin(dim=-1), n_components)
    share = share.to(z.dtype)  # (n, k, c)
    for step in range(N_ITERATIONS):
        mixtures = _maximise(z, w[..., None] * share, effective, base)
        if n_components == 1 or step == N_ITERATIONS - 1:
            break
        share = mixtures.parts(z).softmax(dim=-1)
    return mixtures


def _maximise(z: Tensor, mass: Tensor, effective: Tensor, base: Tensor) -> Mixtures:
    d = z.shape[-1]
    total = mass.sum(dim=1)  # (n, c)
    safe = total.clamp_min(1e-30)[..., None]
    means = torch.einsum("nkc,nkd->ncd", mass, z) / safe
    gap = z[:, None] - means[:, :, None]  # (n, c, k, d)
    scatter = (gap * mass.mT[..., None]).mT @ gap / safe[..., None]
    count = (total * effective[:, None])[..., None, None]
    prior = d + 1.0 if mass.shape[-1] > 1 else 0.0
    # One component: shrink the correlations alone, for the variances are known well.
    if mass.shape[-1] == 1:
        keep = count / (count + d + 1)
        covariance = keep * scatter + (1 - keep) * base[:, None]
    else:
        covariance = (count * scatter + prior * base[:, None]) / (count + prior)
    eye = JITTER * torch.eye(d, dtype=z.dtype, device=z.device)
    weights = (total * effective[:, None] + 1.0).log().log_softmax(dim=1)
    return Mixtures(weights, means, torch.linalg.cholesky(covariance + eye * base[:, None]))


def spread_out(z: Tensor, w: Tensor, variance: Tensor, n_components: int) -> Tensor:
    """Return draws that stand apart: each next one is far from the others, and has weight."""
    unit = z / variance.sqrt()[:, None]
    n, _, d = z.shape
    chosen = [w.argmax(dim=1)]
    far = torch.full_like(w, math.inf)
    for _ in range(n_components - 1):
        last = unit.gather(1, chosen[-1][:, None, None].expand(n, 1, d))
        far = torch.minimum(far, ((unit - last) ** 2).sum(dim=-1))
        chosen.append((w.sqrt() * far).argmax(dim=1))
    which = torch.stack(chosen, dim=1)
    return z.gather(1, which[..., None].expand(n, n_components, d))
