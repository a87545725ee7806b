"""The training loop: a function of a model, rows and an objective.

The best weights are those with the lowest *exact* objective on the held-out rows. Those of step 0,
where a model is the Gaussian that it starts from, stay unless they are beaten beyond the noise.
An ensemble is trained in one loop: rows (k, n, d), and each member has its own held-out rows, its
own rate and its own best weights. Late in
the training it is asked whether the data are Gaussian but for a few directions, and goes on in
these alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from skscore._adamw import AdamW
from skscore._autodiff import ScoreFn, floats_per_row
from skscore._muon import Muon, has_convolutions
from skscore._subspace import can_be_restricted, gain_is_noise, in_fewer_directions, widened
from skscore.exceptions import DivergenceError
from skscore.objectives import exact

Objective = Callable[..., Tensor]
ByHand = Callable[[Tensor, torch.Generator], Tensor]

N_CHECKS = 60  # of the held-out objective, or more, where there are as many epochs
AT_ONCE = 2**23  # numbers that a check holds: more of them leave the cache
MOST_STEPS = 100  # between two checks, however large the budget
N_DROPS = 3  # times that the rate falls before training stops
DROP = 0.3  # what the rate is multiplied by
WARM_UP = 50  # steps until the full rate
DECAY_FROM = 0.7  # share of the budget after which the rate falls linearly to zero
LARGEST_WEIGHT = 1e6  # a step that leaves for more is seen by no later loss
AVERAGE_SPAN = 200  # steps over which the weights are averaged
EARLY = 1 / 16  # share of the budget after which weights are kept that have learnt less
# Shares of the budget after which fewer directions are tried: those that are learnt late, as of
# separate modes, must be seen by then, since they do not come back.
RESTRICT_AT = (1 / 2, 3 / 4)


@dataclass(frozen=True)
class Plan:
    """How to train: the budget and the rules for stopping."""

    n_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    n_iter_no_change: int
    tol: float
    adaptive: bool = True  # whether the rate falls at a plateau, and over the end of the budget
    average: bool = True  # whether the weights are averaged over the last steps
    residual_test: bool = True  # whether training is undone when it did not help
    subspace_test: bool = True  # whether it may go on in fewer directions
    sigma: float = 0.0  # of the noise that blurs the rows, anew in each batch
    mixed: bool = False  # whether products are taken in bfloat16


@dataclass
class History:
    """What training left behind."""

    loss: list[float] = field(default_factory=list)  # mean objective of each epoch
    held_out: list[float] = field(default_factory=list)  # what the judge says at each check
    n_epochs: int = 0
    early: Tensor | None = None  # averaged weights after a share EARLY of the budget, if outdone
    n_directions: int | None = None  # that the network was restricted to


@torch.no_grad()
def held_out_objective(score: ScoreFn, x: Tensor) -> Tensor:
    """Return the exact objective of each row, a thousand rows at a time or fewer."""
    at_once = max(1, min(1000, AT_ONCE // floats_per_row(score, x.shape[-1])))
    parts = [exact(score, rows) for rows in x.split(at_once, dim=-2)]
    return torch.cat(parts, dim=-1).to(torch.float64)


def with_weights(model: nn.Module, weights: Tensor) -> nn.Module:
    """Return a copy of a model with other weights for those that it trains, in their order."""
    other = copy.deepcopy(model)
    vector_to_parameters(weights.flatten(), (p for p in other.parameters() if p.requires_grad))
    return other


def fit_score(
    model: nn.Module,
    x: Tensor,
    x_held_out: Tensor | None,
    objective: Objective,
    plan: Plan,
    *,
    generator: torch.Generator,
    history: History,
    judge: Callable[[nn.Module, Tensor], Tensor] = held_out_objective,
    outputs: Callable[[nn.Module, Tensor], Tensor] | None = None,
    by_hand: Callable[[nn.Module, AdamW], ByHand | None] | None = None,
    at_early: Callable[[nn.Module], None] | None = None,
    on_epoch: Callable[[int, History], bool] | None = None,
) -> None:
    """Train `model` in place; it ends with its best weights, also when interrupted.

    Parameters
    ----------
    model : nn.Module
        The field to train.
    x, x_held_out : Tensor of shape (n, d) or (n_members, n, d)
        Training rows, and rows that are never trained on; None for no early stopping.
    objective : callable
        ``objective(score, x, generator=) -> (n,)``.
    plan : Plan
        Budget and rules.
    generator : torch.Generator
        Draws batches and directions.
    history : History
        Filled as training goes.
    judge : callable
        ``judge(model, x_held_out) -> (n,)``, without noise of its own; the exact objective.
    outputs : callable, optional
        ``outputs(model, x) -> (..., n, d)``, what the network returns at rows; None for no
        `subspace_test`.
    by_hand : callable, optional
        ``by_hand(model, optimiser)``, what writes the gradient of the objective to the optimiser,
        and returns the loss, faster than autograd; None for a model that it is not known for.
    at_early : callable, optional
        Called once with the model, when the early weights of the history are kept, or at the end of
        a shorter training: these weights have not learnt with what it changes.
    on_epoch : callable, optional
        Called after each epoch with its number and the history; true means stop.

    Raises
    ------
    DivergenceError
        When the loss is no longer finite.
    """
    run = _Run(
        model, x, x_held_out, objective, judge, plan, generator, history, outputs, by_hand, at_early
    )
    run.go(on_epoch)


class _Run:
    """The state of one training: weights, their average, the best so far, and the rates."""

    def __init__(
        self,
        model,
        x,
        x_held_out,
        objective,
        judge,
        plan: Plan,
        generator,
        history,
        outputs=None,
        by_hand=None,
        at_early=None,
    ):
        self.objective, self.judge, self.plan, self.generator = objective, judge, plan, generator
        self.model, self.x, self.outputs = model, x, outputs
        self.x_held_out = None if x_held_out is None else self._blurred(x_held_out)
        self.history, self.at_early = history, at_early
        k = x.shape[0] if x.dim() == 3 else 1
        rule = Muon if has_convolutions(model) else AdamW
        self.optimiser = rule(model, weight_decay=plan.weight_decay, n_members=k)
        self.by_hand_of, self.by_hand = by_hand, by_hand and by_hand(model, self.optimiser)
        self.whole = model, self.optimiser  # before any restriction
        self.average = self.optimiser.weights.clone()
        self.best = self.average.clone()
        self.start = self.average.clone()
        self.rows_at_start: Tensor | None = None  # held-out objective, (k, n)
        self.rows_at_best: Tensor | None = None
        self.n_batches = max(1, x.shape[-2] // plan.batch_size)
        self.budget = plan.n_epochs * self.n_batches
        self.stale = torch.zeros(k, dtype=torch.int64, device=x.device)  # checks without a gain
        self.drops = torch.zeros_like(self.stale)
        self.outdone = self.drops > 0  # whether better weights came after the early ones
        self.ask_at = list(RESTRICT_AT) if self._may_be_restricted() else []
        # No cache: inside another context it would hold the weights of the first step.
        self._precision = torch.autocast(
            x.device.type, torch.bfloat16, enabled=plan.mixed, cache_enabled=False
        )

    def go(self, on_epoch) -> None:
        most = -(-MOST_STEPS // self.n_batches)
        every = max(1, min(self.plan.n_epochs // N_CHECKS, most))
        try:
            self._check()
            for epoch in range(self.plan.n_epochs):
                self._epoch(epoch)
                if self.x_held_out is None:
                    self.best.copy_(self.average)
                    self.outdone.fill_(True)
                due = (epoch + 1) % every == 0 or epoch + 1 == self.plan.n_epochs
                if due:
                    self._check()
                    self._restrict()
                stop = on_epoch is not None and on_epoch(epoch, self.history)
                if stop and not due:
                    self._check()
                if stop or bool((self.drops > N_DROPS).all()):
                    break
            self._keep_only_a_gain()
        finally:
            self.optimiser.weights.copy_(self.best)
            whole, _ = self.whole
            if self.model is not whole:
                widened(self.model, whole)
            if not bool(self.outdone.all()):
                self.history.early = None
            if self.at_early is not None:
                self.at_early(self.model)

    def _blurred(self, x: Tensor) -> Tensor:
        if not self.plan.sigma:
            return x
        z = torch.randn(x.shape, generator=self.generator, dtype=x.dtype, device=x.device)
        return x + self.plan.sigma * z

    def _shuffled(self) -> Tensor:
        *members, n, _ = self.x.shape
        order = [
            torch.randperm(n, generator=self.generator, device=self.x.device)
            for _ in range(members[0] if members else 1)
        ]
        if not members:
            return self.x[order[0]]
        return torch.stack([rows[which] for rows, which in zip(self.x, order, strict=True)])

    def _epoch(self, epoch: int) -> None:
        size = self.plan.batch_size
        shuffled = self._shuffled()
        losses = []
        for batch in range(self.n_batches):
            step = epoch * self.n_batches + batch
            rows = self._blurred(shuffled[..., batch * size : (batch + 1) * size, :])
            loss = self._differentiate(rows)
            self.optimiser.move(self._rate(step))
            # A short memory at first: the average must not hold the start of a short training.
            weight = max(1 / (1 + step / 10), 1 / AVERAGE_SPAN) if self.plan.average else 1.0
            self.average.lerp_(self.optimiser.weights, weight)
            if step + 1 == math.ceil(EARLY * self.budget):
                self._keep_early()
            losses.append(loss / len(self.drops))
        values = torch.stack(losses)
        lost = ~torch.isfinite(values)
        lost[-1] |= ~(self.optimiser.weights.abs().max() < LARGEST_WEIGHT)  # also true for NaN
        if lost.any():
            bad = epoch * self.n_batches + int(lost.to(torch.int8).argmax()) + 1
            if bad == 1 and not torch.isfinite(values[0]):  # nothing was learnt yet
                remedy = (
                    "It was so before the first step: X or the noise level has a scale that "
                    "float32 cannot hold, or the network gives such numbers. Use "
                    "standardize='diag', or rescale X."
                )
            else:
                remedy = f"Use a learning_rate_init below {self.plan.learning_rate:g}."
            raise DivergenceError(
                f"training diverged at step {bad}: the loss or the weights left the finite "
                f"numbers. {remedy}"
            )
        self.history.loss.append(float(values.mean()))
        self.history.n_epochs += 1

    def _differentiate(self, rows: Tensor) -> Tensor:
        """Return the loss, the sum of those of the members; the optimiser has its gradient."""
        if self.by_hand is not None:
            return self.by_hand(rows, self.generator)
        with torch.enable_grad(), self._precision:
            loss = self.objective(self.model, rows, generator=self.generator).mean(dim=-1).sum()
        self.optimiser.differentiate(loss)
        return loss.detach()

    def _rate(self, step: int) -> Tensor:
        left = (1 - step / self.budget) / (1 - DECAY_FROM) if self.plan.adaptive else 1.0
        warm = (step + 1) / min(WARM_UP, self.budget)
        rate = self.plan.learning_rate * min(1.0, left, warm)
        drops = self.drops[:, None].to(torch.float32)
        return rate * DROP**drops * (drops <= N_DROPS)  # a member that is done stays as it is

    def _check(self) -> None:
        """Judge the averaged weights on the held-out rows; keep them, or count against the rate."""
        if self.x_held_out is None:
            return
        rows = self._judged(self.average)
        value = rows.mean(dim=1)
        self.history.held_out.append(float(value.mean()))
        if self.rows_at_best is None:
            self.rows_at_start, self.rows_at_best = rows, rows.clone()
            return
        gain = self.rows_at_best.mean(dim=1) - value
        better = gain > 0
        self.best[better] = self.average[better]
        self.outdone |= better
        self.rows_at_best[better] = rows[better]
        self.stale = torch.where(gain > self.plan.tol, 0, self.stale + 1)
        self._drop(self.stale >= self.plan.n_iter_no_change)

    def _judged(self, candidates: Tensor) -> Tensor:
        """Return the held-out objective of the rows with these weights, (k, n)."""
        weights = self.optimiser.weights
        running = weights.clone()
        weights.copy_(candidates)
        rows = self.judge(self.model, self.x_held_out).view(len(weights), -1)
        weights.copy_(running)
        return rows

    def _keep_early(self) -> None:
        """Keep weights that have learnt less; from here on the model may see more."""
        self.history.early = self.average.clone()
        self.outdone.fill_(False)
        if self.at_early is not None:
            self.at_early(self.model)
            self.at_early = None
            if self.rows_at_best is not None:
                self.rows_at_best = self._judged(self.best)

    def _drop(self, members: Tensor) -> None:
        """Slow some members down, from their best weights; at a constant rate they are done."""
        self.stale[members] = 0
        self.drops[members] += 1 if self.plan.adaptive else N_DROPS + 1
        self.optimiser.weights[members] = self.best[members]
        self.average[members] = self.best[members]
        self.optimiser.forget(members)

    def _may_be_restricted(self) -> bool:
        asked = self.plan.subspace_test and self.outputs is not None
        return asked and self.x_held_out is not None and can_be_restricted(self.model)

    def _restrict(self) -> None:
        """Go on from the best weights in the directions that they act in, where they are few."""
        done, whole = self.history.n_epochs / self.plan.n_epochs, self.rows_at_best
        if not self.ask_at or done < self.ask_at[0] or done == 1 or whole is None:
            return
        self.ask_at.pop(0)
        weights = self.optimiser.weights
        running = weights.clone()
        weights.copy_(self.best)
        with torch.no_grad():
            values = self.outputs(self.model, self.x)
            judged = whole, self.x_held_out
            found = in_fewer_directions(self.model, values, self.judge, *judged)
        weights.copy_(running)
        if found is None:
            return
        model, rows, n_directions = found
        k = len(weights)
        optimiser = AdamW(model, weight_decay=self.plan.weight_decay, n_members=k)
        average, best = optimiser.weights.clone(), optimiser.weights.clone()
        self.stale.zero_()
        self.ask_at = []
        # All at once, for an interrupt.
        self.model, self.optimiser, self.average, self.best = model, optimiser, average, best
        self.by_hand = self.by_hand_of and self.by_hand_of(model, optimiser)
        self.rows_at_best, self.history.n_directions = rows.view(k, -1), n_directions

    def _keep_only_a_gain(self) -> None:
        """Return to the start when the held-out rows do not show that training helped."""
        first, best = self.rows_at_start, self.rows_at_best
        if not self.plan.residual_test or first is None or best is None:
            return
        if gain_is_noise(first, best):
            self.model, self.optimiser = self.whole
            self.best = self.start
            self.history.n_directions = None
            self.history.early = None
