"""The training loop of both encoders.

Per row, averaged over draws z of the encoder:

    Gaussian   ``-log p(x | z) + KL(q(z | x) || p(z))``   a bound
    implicit   the same, with the divergence of ``z = mu + sd u`` taken apart:

        ``KL(q || p) = KL(N(mu, sd^2) || p) + mu sd . E u + 1/2 (sd^2 - 1) . E[u^2 - 1]
                       + KL(law of u || N(0, I))``

The first term is in closed form, so the entropy's part of mu and sd is exact. In the next two u is
``b + r`` with noise b of mean 0 and variance 1, and r alone is averaged. The last has a density in
it: in its place stands ``stopgrad[s_psi(u | c) + u] . u``. Its gradient is right, since
``E[s_u(u) du/dphi] = -dH/dphi``, but its value is not: no bound. The gauge
penalty ``GAUGE (|E u|^2 + |E u^2 - 1|^2)`` is added, zero at the optimum: it only takes away that
mu, sd and u may trade location and scale. All but ``-log p(x | z)`` is free of noise where r = 0.

The score network psi takes its own steps, on the exact objective at detached u, before each.

With a decoder that is known ``-log p(x | z)`` comes in slowly, so that codes part while the modes
are close. While a decoder is learnt all else does (Bowman et al. 2016), so that codes are put to
use, and u is normal for half of training: both encoders are one until then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from skscore._adamw import AdamW
from skscore.exceptions import DivergenceError
from skscore.latent._encoders import ConditionalScore, Encoder, GaussianEncoder, Reading, place
from skscore.latent._likelihood import Decoder
from skscore.objectives import exact

WARM_UP = 100  # steps until the full rate
DECAY_FROM = 0.5  # share of the budget after which the rate falls to zero
# Shares of the budget. While a decoder is learnt:
PRIOR_OVER = 0.25  # over which the divergence from the prior comes in, from zero
BENDS_FROM = 0.5  # after which codes bend
# With a decoder that is known:
ANNEAL_OVER = 0.5  # over which the likelihood comes in
ANNEAL_FROM = 1e-3  # its first weight
AVERAGE_SPAN = 200  # steps over which the weights are averaged
SCORE_RATE = 2.0  # of the score network, over that of the others
GAUGE = 3.0  # weight of the penalty that leaves location and scale of codes to mu and sd
# Draws to a row, at least, that u and its score are learnt from
DRAWS_LEARNT = 4  # while a decoder is learnt
DRAWS_KNOWN = 16  # with one that is known: from fewer the score is too poor to keep each mode


class VAE(nn.Module):
    """An encoder, a decoder with its likelihood, and the score of an implicit encoder."""

    def __init__(self, encoder: Encoder, decoder: Decoder, score: ConditionalScore | None):
        super().__init__()
        self.encoder, self.decoder, self.score = encoder, decoder, score


@dataclass(frozen=True)
class Plan:
    """How to train."""

    n_epochs: int
    batch_size: int
    n_draws: int  # codes to a row and step
    learning_rate: float
    weight_decay: float
    known: bool  # whether the decoder is


@dataclass
class History:
    """Means over each epoch, in nats per row."""

    loss: list[float] = field(default_factory=list)
    reconstruction: list[float] = field(default_factory=list)  # -log p(x | z)
    prior: list[float] = field(default_factory=list)  # -log p(z)


def negative_log_prior(z: Tensor) -> Tensor:
    """Return ``-log N(z; 0, I)``."""
    return 0.5 * (z * z).sum(dim=-1) + 0.5 * z.shape[-1] * math.log(2 * math.pi)


def squared_mean(a: Tensor) -> Tensor:
    """Return the unbiased estimate of ``E[a]^2`` from draws (m, ...)."""
    m = len(a)
    return (a.sum(dim=0) ** 2 - (a * a).sum(dim=0)) / (m * (m - 1))


def excess(base: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return draws whose means are ``E u`` and ``E u^2 - 1``, for base of mean 0 and variance 1."""
    r = u - base
    return r, (base + u) * r


def gauge(first: Tensor, second: Tensor) -> Tensor:
    """Return ``|E u|^2 + |E u^2 - 1|^2`` per row, from draws (m, n, d) of `excess`."""
    return (squared_mean(first) + squared_mean(second)).sum(dim=-1)


def remainder(reading: Reading, first: Tensor, second: Tensor) -> Tensor:
    """Return ``mu sd . E u + 1/2 (sd^2 - 1) . E[u^2 - 1]`` per draw and row."""
    sd = reading.log_sd.exp()
    return (reading.mu * sd * first + 0.5 * (sd * sd - 1) * second).sum(dim=-1)


def entropy_surrogate(field: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return ``stopgrad[s(z)] . z``, whose mean gradient is that of minus the entropy."""
    with torch.no_grad():
        s = field(z)
    return (s * z).sum(dim=-1)


def divergence_surrogate(field: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """Return ``stopgrad[s(u) + u] . u``: its mean gradient is that of KL(law of u || N(0, I))."""
    return entropy_surrogate(lambda v: field(v) + v, u)


def encoder_field(score: ConditionalScore, reading: Reading, z: Tensor) -> Tensor:
    """Return ``s_psi(z | x) = s_u((z - mu) / sd | c) / sd`` for codes (m, n, d)."""
    sd = reading.log_sd.exp()
    u = (z - reading.mu) / sd
    m, n, d = u.shape
    context = reading.context.repeat(m, 1)
    return score.at(context)(u.reshape(-1, d)).view(m, n, d) / sd


def score_step(
    score: ConditionalScore, optimiser: AdamW, u: Tensor, context: Tensor, rate: Tensor
) -> None:
    """Take one step on the exact objective at draws u (m, n, d) with context (n, n_context)."""
    m, _, d = u.shape
    with torch.enable_grad():
        rows = exact(score.at(context.repeat(m, 1)), u.reshape(-1, d))
        optimiser.step(rows.mean(), rate)


def fit_vae(
    model: VAE,
    x: Tensor,
    targets: Tensor,
    plan: Plan,
    *,
    generator: torch.Generator,
    history: History,
    on_epoch: Callable[[int, History], bool] | None = None,
) -> None:
    """Train `model` in place; it ends with averaged weights, also when interrupted.

    Parameters
    ----------
    model : VAE
        The networks.
    x, targets : Tensor of shape (n, n_features)
        What the encoder sees of each row, and what the decoder explains.
    plan : Plan
        Budget.
    generator : torch.Generator
        Draws batches and noise.
    history : History
        Filled as training goes.
    on_epoch : callable, optional
        Called after each epoch with its number and the history; true means stop.

    Raises
    ------
    DivergenceError
        When the loss is no longer finite.
    """
    run = _Run(model, x, targets, plan, generator, history)
    try:
        for epoch in range(plan.n_epochs):
            run.epoch(epoch)
            if on_epoch is not None and on_epoch(epoch, history):
                break
    finally:
        run.optimiser.weights.copy_(run.average)


class _Run:
    """The state of one training."""

    def __init__(self, model: VAE, x, targets, plan: Plan, generator, history: History):
        self.model, self.x, self.targets = model, x, targets
        self.plan, self.generator, self.history = plan, generator, history
        both = nn.ModuleList([model.encoder, model.decoder])
        self.optimiser = AdamW(both, weight_decay=plan.weight_decay)
        if model.score is not None:
            self.score_optimiser = AdamW(model.score, weight_decay=plan.weight_decay)
        self.average = self.optimiser.weights.clone()
        self.n_batches = max(1, len(x) // plan.batch_size)
        self.budget = plan.n_epochs * self.n_batches
        self.bends_from = 0 if plan.known else BENDS_FROM * self.budget
        self.n_bent = max(plan.n_draws, DRAWS_KNOWN if plan.known else DRAWS_LEARNT)

    def epoch(self, epoch: int) -> None:
        order = torch.randperm(len(self.x), generator=self.generator, device=self.x.device)
        sums = torch.zeros(3, device=self.x.device)
        for batch in range(self.n_batches):
            step = epoch * self.n_batches + batch
            rows = order[batch * self.plan.batch_size : (batch + 1) * self.plan.batch_size]
            sums += self._step(step, self.x[rows], self.targets[rows])
            weight = max(1 / (1 + step / 10), 1 / AVERAGE_SPAN)
            if not torch.isfinite(sums[0]) or not torch.isfinite(self.optimiser.weights).all():
                raise DivergenceError(
                    f"training diverged at step {step + 1}: the loss or the weights left the "
                    f"finite numbers. Use a learning_rate_init below "
                    f"{self.plan.learning_rate:g}, and weight_decay={self.plan.weight_decay:g} or "
                    f"a noise_scale of your own only if they are of a usual size."
                )
            self.average.lerp_(self.optimiser.weights, weight)
        means = (sums / self.n_batches).tolist()
        for curve, value in zip(
            (self.history.loss, self.history.reconstruction, self.history.prior),
            means,
            strict=True,
        ):
            curve.append(value)

    def _rate(self, step: int) -> Tensor:
        left = (1 - step / self.budget) / (1 - DECAY_FROM)
        warm = (step + 1) / min(WARM_UP, self.budget)
        rate = self.plan.learning_rate * min(1.0, left, warm)
        return torch.full((1, 1), rate, dtype=self.x.dtype, device=self.x.device)

    def _weights(self, step: int) -> tuple[float, float]:
        """Return the weights of ``-log p(x | z)`` and of all other terms."""
        done = step / self.budget
        if self.plan.known:
            return ANNEAL_FROM ** max(0.0, 1 - done / ANNEAL_OVER), 1.0
        return 1.0, min(1.0, done / PRIOR_OVER)

    def _step(self, step: int, x: Tensor, targets: Tensor) -> Tensor:
        encoder, decoder = self.model.encoder, self.model.decoder
        score = self.model.score if step >= self.bends_from else None
        m, n, rate = self.plan.n_draws, len(x), self._rate(step)
        with torch.enable_grad():
            reading = encoder.read(x)
            if score is None:
                u = encoder.normal((m, n, encoder.n_components), self.generator)
            else:
                eps = encoder.noise(self.n_bent, n, self.generator)
                u = encoder.standard(eps, reading)
            z = place(reading, u)
        if score is not None:
            context = reading.context.detach()
            score_step(score, self.score_optimiser, u.detach(), context, SCORE_RATE * rate)
        with torch.enable_grad():
            reconstruction = -decoder.log_prob(targets, z[:m]).mean(dim=0)  # what costs
            prior = negative_log_prior(z.detach()).mean(dim=0)
            regular = GaussianEncoder.divergence(reading)
            if score is not None:
                field = score.at(context.repeat(self.n_bent, 1))
                flat = u.reshape(-1, u.shape[-1])
                bent = divergence_surrogate(field, flat).view(self.n_bent, -1)
                means = excess(encoder.base(eps), u)
                rest = (bent + remainder(reading, *means)).mean(dim=0)
                regular = regular + rest + GAUGE * gauge(*means)
            a, b = self._weights(step)
            loss = (a * reconstruction + b * regular).mean()
        self.optimiser.step(loss, rate)
        rows = torch.stack([reconstruction + regular, reconstruction, prior])
        return rows.mean(dim=1).detach()
