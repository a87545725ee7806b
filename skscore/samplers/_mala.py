"""The Metropolis-adjusted Langevin algorithm.

``eta`` the step size, ``E`` the energy, ``s = -grad E``; ``q(y | x)`` the density of a move.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from skscore._checks import real
from skscore.exceptions import DivergenceError
from skscore.samplers._guard import check_start
from skscore.samplers._langevin import Callback

LEAST_ACCEPTED = 0.01


class EnergyScore(Protocol):
    """A field that is minus the gradient of an energy it knows."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the field, (n, d) -> (n, d)."""

    def energy(self, x: Tensor) -> Tensor:
        """Return the energy, (n, d) -> (n,)."""


def mala(
    score: EnergyScore,
    x: Tensor,
    *,
    generator: torch.Generator,
    step_size: float,
    n_steps: int = 200,
    reach: float | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Return chains whose stationary law is exp(-E), whatever the step size.

    A Langevin move is accepted with probability ``min(1, exp(E(x) - E(y)) q(x|y) / q(y|x))``
    (Roberts and Tweedie 1996).

    Parameters
    ----------
    score : callable
        The field, (n, d) -> (n, d), with a method ``energy(x) -> (n,)``.
    x : Tensor of shape (n, d)
        Starting points.
    generator : torch.Generator
        Draws the noise.
    step_size : float
        eta.
    n_steps : int, default=200
        Steps.
    reach : float, optional
        Norm beyond which the density is taken as zero; by default there is none.
    callback : callable, optional
        Called as ``callback(step, x)`` after each step, from 1.

    Returns
    -------
    Tensor of shape (n, d)
        The last points.

    Raises
    ------
    ValueError
        When x or the step size is not valid.
    DivergenceError
        When hardly a move is accepted.

    Examples
    --------
    >>> import torch
    >>> from skscore.samplers import mala
    >>> class Normal:
    ...     def energy(self, x):
    ...         return 0.5 * (x * x).sum(dim=1)
    ...     def __call__(self, x):
    ...         return -x
    >>> g = torch.Generator().manual_seed(0)
    >>> mala(Normal(), torch.zeros(500, 2), generator=g, step_size=0.5).std().round(decimals=1)
    tensor(1.)
    """
    check_start(x)
    real()("step_size", step_size)
    noise = math.sqrt(2 * step_size)
    s, energy = score(x), score.energy(x)
    accepted = 0.0
    for step in range(1, n_steps + 1):
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        u = torch.rand(len(x), generator=generator, dtype=x.dtype, device=x.device)
        y = x + step_size * s + noise * z
        s_y, energy_y = score(y), score.energy(y)
        forward = 0.5 * (z * z).sum(dim=1)
        backward = ((x - y - step_size * s_y) ** 2).sum(dim=1) / (4 * step_size)
        log_ratio = energy - energy_y + forward - backward
        take = torch.log(u) < log_ratio  # false for NaN: such a move is refused
        if reach is not None:
            take &= y.norm(dim=1) <= reach
        x = torch.where(take[:, None], y, x)
        s = torch.where(take[:, None], s_y, s)
        energy = torch.where(take, energy_y, energy)
        accepted += float(take.sum()) / len(x)
        if callback is not None:
            callback(step, x)
    if accepted < LEAST_ACCEPTED * n_steps:
        raise DivergenceError(
            f"the chain is stuck: {accepted / n_steps:.2%} of the moves of {n_steps} steps were "
            f"accepted. Use step_size < {step_size:g}, or the automatic one of an "
            f"estimator (step_size=None)."
        )
    return x
