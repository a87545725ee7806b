"""Unadjusted Langevin dynamics.

``eta`` the step size, ``z`` standard noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from skscore._autodiff import ScoreFn
from skscore._checks import real
from skscore.samplers._guard import Guard, check_start

Callback = Callable[[int, Tensor], None]


def langevin(
    score: ScoreFn,
    x: Tensor,
    *,
    generator: torch.Generator,
    step_size: float,
    n_steps: int = 200,
    reach: float | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Return the chains after ``x <- x + eta s(x) + sqrt(2 eta) z``, n_steps times.

    On N(0, lam) the stationary variance is ``lam / (1 - eta / (2 lam))``: a little wide.

    Parameters
    ----------
    score : callable
        The field, (n, d) -> (n, d).
    x : Tensor of shape (n, d)
        Starting points.
    generator : torch.Generator
        Draws the noise.
    step_size : float
        eta.
    n_steps : int, default=200
        Steps.
    reach : float, optional
        Norm beyond which a chain begins again where it started; by default a thousand times one
        and the largest norm at the start.
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
        When more than half of the chains run away.

    Examples
    --------
    >>> import torch
    >>> from skscore.samplers import langevin
    >>> g = torch.Generator().manual_seed(0)
    >>> langevin(torch.neg, torch.zeros(500, 2), generator=g, step_size=0.1).std().round(decimals=1)
    tensor(1.)
    """
    check_start(x)
    real()("step_size", step_size)
    guard = Guard(x, step_size, reach)
    noise = math.sqrt(2 * step_size)
    for step in range(1, n_steps + 1):
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = guard.keep(step, x.add(score(x), alpha=step_size).add_(z, alpha=noise))
        if callback is not None:
            callback(step, x)
    guard.report()
    return x
