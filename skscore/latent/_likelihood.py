"""The decoder with its likelihood, ``log p(x | z)`` in nats.

Bernoulli: ``sum_j x_j l_j - log(1 + e^l_j)`` with the network's output as logits l. For values
between 0 and 1 that is minus the cross-entropy.

Gaussian: ``sum_j log N(u_j; f_j(z), s_j^2)`` in standardised columns ``u = (x - m) / c``, with s
learnt or known. A network of the caller gives its mean in the units of x, ours in those of u.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NOISE_RATE = 5.0  # log s over its parameter: it has further to go than a weight
LOG_NOISE = (math.log(0.01), math.log(1e6))  # range of a learnt log s


class Decoder(nn.Module):
    """Abstract base: a network of codes, and the law of a row about it."""

    network: nn.Module

    @property
    def is_known(self) -> bool:
        """Whether there is nothing to learn in the network."""
        return not any(p.requires_grad for p in self.network.parameters())

    def mean(self, z: Tensor) -> Tensor:
        """Return the mean of rows at codes (..., d)."""
        raise NotImplementedError

    def draw(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a row at each code."""
        raise NotImplementedError

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """Return ``log p(x | z)``: x (..., n, n_features) and z (..., n, d) broadcast."""
        raise NotImplementedError


class BernoulliDecoder(Decoder):
    """Independent pixels with the logits ``offset + network(z)``."""

    offset: Tensor

    def __init__(self, network: nn.Module, offset: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("offset", offset, persistent=False)

    def mean(self, z: Tensor) -> Tensor:
        """Return the probabilities."""
        return torch.sigmoid(self._logits(z))

    def draw(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """Draw pixels, 0 or 1."""
        return torch.bernoulli(self.mean(z), generator=generator)

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """Return ``log p(x | z)``: x (..., n, n_features) and z (..., n, d) broadcast."""
        logits = self._logits(z)
        return (x * logits - F.softplus(logits)).sum(dim=-1)

    def _logits(self, z: Tensor) -> Tensor:
        return self.network(z.reshape(-1, z.shape[-1])).view(*z.shape[:-1], -1) + self.offset


class GaussianDecoder(Decoder):
    """Independent columns with mean ``network(z)`` and deviation s.

    Parameters
    ----------
    network : nn.Module
        Rows of z to rows of means.
    location, scale : Tensor of shape (n_features,)
        m and c when the network's mean is in the units of x; zero and one when in those of u.
    varying : Tensor of shape (n_features,)
        One, or zero for a constant column, which has no density and is left out.
    noise : Tensor of shape (n_features,), optional
        s, when it is known.
    """

    location: Tensor
    scale: Tensor
    varying: Tensor

    def __init__(
        self,
        network: nn.Module,
        location: Tensor,
        scale: Tensor,
        varying: Tensor,
        noise: Tensor | None = None,
    ):
        super().__init__()
        self.network = network
        self.register_buffer("location", location, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("varying", varying, persistent=False)
        if noise is None:
            self.log_noise = nn.Parameter(torch.zeros_like(location))
        else:
            self.register_buffer("log_noise", noise.log(), persistent=False)
        self.learns_noise = noise is None

    @property
    def log_s(self) -> Tensor:
        """``log s``, within its range where it is learnt."""
        return (
            (NOISE_RATE * self.log_noise).clamp(*LOG_NOISE) if self.learns_noise else self.log_noise
        )

    def with_mean_of(self, exact: GaussianDecoder) -> None:
        """Compute the mean as another decoder does, in its precision: columns may be far away."""
        self.network, self.location, self.scale = exact.network, exact.location, exact.scale

    def mean(self, z: Tensor) -> Tensor:
        """Return the mean, in standardised columns."""
        codes = z.reshape(-1, z.shape[-1]).to(self.location.dtype)
        out = self.network(codes).view(*z.shape[:-1], -1)
        return self.varying * ((out - self.location) / self.scale).to(z.dtype)

    def draw(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """Draw rows, in standardised columns."""
        mean = self.mean(z)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + self.varying * self.log_s.exp() * noise

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """Return ``log p(x | z)``: x (..., n, n_features) and z (..., n, d) broadcast."""
        log_s = self.log_s
        gap = (x - self.mean(z)) * (-log_s).exp()
        constant = (self.varying * (log_s + 0.5 * math.log(2 * math.pi))).sum()
        return -0.5 * (self.varying * gap * gap).sum(dim=-1) - constant
