"""Laplace's approximation of a posterior at several of its modes.

``z`` climbs ``log p(x, z)`` by Adam; at the top the covariance is the inverse of minus the Hessian,
by central differences of the gradient over a step h that does not see the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from skscore.latent._mixture import Mixtures

N_STEPS = 40
RATE = 0.15  # first step; the prior of z has deviation one
H = 0.02
LEAST_PRECISION = 0.5  # of the posterior: half the prior's


def slope(log_joint: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return the gradient of ``log p(x, z)`` at codes (n, k, d)."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(log_joint(z).sum(), z)
    return gradient


def climb(log_joint: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return codes uphill of z."""
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    for step in range(1, N_STEPS + 1):
        g = slope(log_joint, z)
        first = 0.8 * first + 0.2 * g
        second = 0.95 * second + 0.05 * g * g
        scale = (second / (1 - 0.95**step)).sqrt() + 1e-12
        rate = RATE * (1 - (step - 1) / N_STEPS) ** 2
        z = z + rate * first / (1 - 0.8**step) / scale
    return z


def laplace(log_joint: Callable[[Tensor], Tensor], z: Tensor) -> Mixtures:
    """Return a mixture of the Gaussians at the modes uphill of z (n, k, d)."""
    top = climb(log_joint, z)
    d = z.shape[-1]
    columns = []
    for e in torch.eye(d, dtype=z.dtype, device=z.device):
        columns.append((slope(log_joint, top - H * e) - slope(log_joint, top + H * e)) / (2 * H))
    precision = torch.stack(columns, dim=-1)
    values, vectors = torch.linalg.eigh(0.5 * (precision + precision.mT))
    values = values.nan_to_num(LEAST_PRECISION).clamp_min(LEAST_PRECISION)
    # One Newton step: Adam stops near the top, not on it.
    uphill = vectors.mT @ slope(log_joint, top)[..., None]
    better = top + (vectors @ (uphill / values[..., None])).squeeze(-1)
    gain = log_joint(better) > log_joint(top)
    top = torch.where(gain[..., None], better, top)
    covariance = (vectors / values[..., None, :]) @ vectors.mT
    weight = log_joint(top) - 0.5 * values.log().sum(dim=-1)
    # A share for each mode: two that are one count twice, and a slight one may be wide.
    shares = 0.5 * weight.softmax(dim=1) + 0.5 / z.shape[1]
    factors = torch.linalg.cholesky(0.5 * (covariance + covariance.mT))
    return Mixtures(shares.log(), top, factors)
