"""The evidence ``log p(x) = log E_r[ p(x | z) p(z) / r(z) ]`` by adaptive importance sampling.

The proposal r is, for each row, an inflated Gaussian mixture with a share of the prior: fitted
to draws of the encoder, joined by Laplace's approximation uphill of the best of them, then
refitted to its own draws under their importance weights, tempered where few draws have all the
weight (Cappe et al. 2008, "Adaptive importance sampling in general mixture classes"), until their
effective share is good. The encoder's density is never needed, so that every encoder is judged
alike. The last draws are independent of the proposal: their mean weight is unbiased for p(x).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from skscore.latent._laplace import laplace
from skscore.latent._mixture import Mixtures, fit_mixtures, spread_out
from skscore.latent._row_noise import RowNoise

LogJoint = Callable[[Tensor], Tensor]  # z (n, k, d) -> log p(x, z) (n, k)

WIDTHS = ((0.7, 1.15), (0.25, 2.0))  # share and variance factor of the proposal's components
PRIOR = 0.05  # share of the prior in the proposal
N_ROUNDS = 6
GOOD_SHARE = 0.4  # effective share of the draws at which a proposal is left as it is


class Evidence(NamedTuple):
    """``log p(x)`` and the effective sample size, each (n,)."""

    log_evidence: Tensor
    effective: Tensor


def n_parts(n_components: int) -> int:
    """Return how many components a proposal has: few where a covariance takes many draws."""
    return 8 if n_components <= 2 else 4 if n_components <= 4 else 2


def evidence(
    log_joint: LogJoint,
    draws: Tensor,
    *,
    noise: RowNoise,
    n_draws: int = 512,
    n_rounds: int = N_ROUNDS,
) -> Evidence:
    """Estimate the evidence of rows.

    Parameters
    ----------
    log_joint : callable
        ``log p(x, z)`` of codes (n, k, d), as (n, k).
    draws : Tensor of shape (n, k, d)
        Codes from the encoder.
    noise : RowNoise
        Draws from the proposals, for each row its own.
    n_draws : int, default=512
        Draws of the estimate itself; half as many in each round before.
    n_rounds : int, default=6
        Times that the proposal is refitted, at most.

    Returns
    -------
    Evidence
        In nats, with the effective number of draws, at most `n_draws`.
    """
    last = noise.of_mixtures(n_draws, draws.shape[-1])  # first: rows may take different rounds
    proposal = _adapted(log_joint, draws, max(n_draws // 2, 8 * draws.shape[-1]), noise, n_rounds)
    wide = proposal.widened(WIDTHS, PRIOR)
    z = wide.draw(*last)
    log_w = log_joint(z) - wide.log_prob(z)
    return Evidence(
        torch.logsumexp(log_w, dim=1) - math.log(n_draws), effective_size(log_w.softmax(dim=1))
    )


def _adapted(
    log_joint: LogJoint, draws: Tensor, n_draws: int, noise: RowNoise, n_rounds: int
) -> Mixtures:
    """Return each row's best proposal, by the effective share of draws from it.

    A row that has a good one keeps it, though others still look for theirs.
    """
    d = draws.shape[-1]
    c, wanted = n_parts(d), 3.0 * d + 10
    even = torch.full_like(draws[..., 0], 1 / draws.shape[1])
    # Uphill also of draws of the prior: the encoder may know one mode of several.
    z = torch.cat([draws, noise.normal(draws.shape[1], d)], dim=1)
    start = spread_out(z, tempered(log_joint(z), wanted), draws.var(dim=1) + 1e-6, c // 2)
    proposal = fit_mixtures(draws, even, c // 2).joined(laplace(log_joint, start))
    best, best_share = proposal, torch.zeros_like(draws[:, 0, 0])
    for _ in range(n_rounds):
        wide = proposal.widened(WIDTHS, PRIOR)
        z = wide.draw(*noise.of_mixtures(n_draws, d))
        log_w = log_joint(z) - wide.log_prob(z)
        share = effective_size(log_w.softmax(dim=1)) / n_draws
        better = (share > best_share) & (best_share <= GOOD_SHARE)
        best = best.replaced(better, proposal)
        best_share = torch.where(better, share, best_share)
        if (best_share > GOOD_SHARE).all():
            break
        proposal = fit_mixtures(z, tempered(log_w, wanted), c)
    return best


def effective_size(w: Tensor) -> Tensor:
    """Return ``1 / sum w^2`` of normalised weights."""
    return 1 / (w * w).sum(dim=-1)


def tempered(log_w: Tensor, wanted: float) -> Tensor:
    """Return ``softmax(t log_w)`` with the largest t, by halves, that leaves enough draws."""
    best = log_w.softmax(dim=1)
    t = 1.0
    for _ in range(10):
        poor = effective_size(best) < wanted
        if not poor.any():
            break
        t /= 2
        best = torch.where(poor[:, None], (t * log_w).softmax(dim=1), best)
    return best
