"""The Gaussian kernel density and its score, in coordinates where the kernel is isotropic.

``u`` queries (n, d), ``c`` centres (m, d), ``h`` the bandwidth, ``w = softmax(-|u - c|^2 / 2h^2)``.
The softmax is that of attention, with queries ``[u / h, 1]`` and keys ``[c / h, -|c|^2 / 2h^2]``,
so no n x m matrix is made.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

FAR = 1e5  # bandwidths from the centre of the data: its square has eleven digits
LOGIT_BYTES = 2**27  # what one block of the n x m logits of `log_density` may take


def weighted_mean(u: Tensor, c: Tensor, values: Tensor) -> Tensor:
    """Return ``sum_i w_i(u) values_i`` (n, k), for u and c in bandwidths and values (m, k)."""
    if c.abs().max() > FAR:
        return _weighted_mean_by_differences(u, c, values)
    width = max(c.shape[1] + 1, values.shape[1])
    query = _wide(torch.cat([u, torch.ones_like(u[:, :1])], dim=1), width)
    key = _wide(torch.cat([c, -0.5 * (c * c).sum(dim=1, keepdim=True)], dim=1), width)
    value = _wide(values, width)
    mean = scaled_dot_product_attention(query, key, value, scale=1.0)
    return mean[0, 0, :, : values.shape[1]]


def _weighted_mean_by_differences(u: Tensor, c: Tensor, values: Tensor) -> Tensor:
    """Return the same where the centres are so far apart that the products lose their digits."""
    rows = max(1, LOGIT_BYTES // (len(c) * c.element_size()))
    parts = []
    for block in u.split(rows):
        distance = torch.cdist(block, c, compute_mode="donot_use_mm_for_euclid_dist")
        parts.append(torch.softmax(-0.5 * distance**2, dim=1) @ values)
    return torch.cat(parts)


def _wide(a: Tensor, width: int) -> Tensor:
    # Equal widths let torch take the kernel that makes no n x m matrix.
    return torch.nn.functional.pad(a, (0, width - a.shape[1]))[None, None]


def score(u: Tensor, c: Tensor, h: float) -> Tensor:
    """Return ``s = (sum_i w_i c_i - u) / h^2``."""
    u, c = u / h, c / h
    return (weighted_mean(u, c, c) - u) / h


def score_and_divergence(u: Tensor, c: Tensor, h: float, metric: Tensor) -> tuple[Tensor, Tensor]:
    """Return s and ``tr(A ds/du) = -tr A / h^2 + tr(A Cov_w) / h^4``."""
    u, c = u / h, c / h  # in bandwidths: h^4 leaves the float range before h does
    quadratic = ((c @ metric) * c).sum(dim=1, keepdim=True)
    mean = weighted_mean(u, c, torch.cat([c, quadratic], dim=1))
    centre, square = mean[:, :-1], mean[:, -1]
    spread = square - ((centre @ metric) * centre).sum(dim=1)
    return (centre - u) / h, (spread - torch.trace(metric)) / h**2


def log_density(u: Tensor, c: Tensor, h: float) -> Tensor:
    """Return ``log p(u) = logsumexp_i(-|u - c_i|^2 / 2h^2) - log m - d log(h sqrt(2 pi))``."""
    m, d = c.shape
    rows = max(1, LOGIT_BYTES // (m * c.element_size()))
    parts = []
    for block in u.split(rows):
        # Differences, not products: far from the centres the products lose every digit.
        distance = torch.cdist(block, c, compute_mode="donot_use_mm_for_euclid_dist")
        parts.append(torch.logsumexp(-0.5 * (distance / h) ** 2, dim=1))
    return torch.cat(parts) - math.log(m) - d * math.log(h * math.sqrt(2 * math.pi))


def draw(c: Tensor, h: float, n_samples: int, generator: torch.Generator) -> Tensor:
    """Return rows of the density: a centre at random, and noise of the kernel."""
    chosen = torch.randint(len(c), (n_samples,), generator=generator, device=c.device)
    noise = torch.randn(
        (n_samples, c.shape[1]), generator=generator, dtype=c.dtype, device=c.device
    )
    return c[chosen] + h * noise
