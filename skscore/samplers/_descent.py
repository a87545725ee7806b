"""What the samplers share that walk from noise to data.

``score(x, sigma)`` is the field of the data blurred at a level; the walk ends with one denoising
step, ``D(x) = x + sigma^2 s(x, sigma)`` (Tweedie's formula), at the lowest level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from skscore._checks import refuse
from skscore.exceptions import DivergenceError
from skscore.samplers._guard import check_start

FAR = 10.0  # times the norm of a row of noise at the highest level

NoiseScore = Callable[[Tensor, float], Tensor]
Callback = Callable[[int, Tensor], None]


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard noise of the shape of x."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def denoised(score: NoiseScore, x: Tensor, sigma: float) -> Tensor:
    """Return ``D(x)``, the mean of the clean rows given the noisy ones."""
    return x.add(score(x, sigma), alpha=sigma**2)


def reach_of(x: Tensor, sigmas: Sequence[float]) -> float:
    """Return the norm beyond which a walk from these rows, at the first level, has run away.

    Raises
    ------
    ValueError
        When the rows or the levels are not valid.
    """
    check_start(x)
    known = len(sigmas) > 0 and all(math.isfinite(sigma) for sigma in sigmas) and sigmas[-1] > 0
    if not known or any(lower >= sigma for sigma, lower in pairwise(sigmas)):
        raise refuse("sigmas", sigmas, "one or more positive levels, decreasing")
    return FAR * (sigmas[0] * x.shape[1] ** 0.5 + float(x.norm(dim=1).max()))


def descend(
    step: Callable[[Tensor, float, float], Tensor],
    score: NoiseScore,
    x: Tensor,
    sigmas: Sequence[float],
    callback: Callback | None,
) -> Tensor:
    """Walk down the levels, ``x <- step(x, sigma, next sigma)``, and denoise at the last.

    Raises
    ------
    ValueError
        When the rows or the levels are not valid.
    DivergenceError
        When a row runs away.
    """
    reach = reach_of(x, sigmas)
    for i, (sigma, lower) in enumerate(pairwise(sigmas), start=1):
        x = within(reach, i, step(x, sigma, lower))
        if callback is not None:
            callback(i, x)
    x = within(reach, len(sigmas), denoised(score, x, sigmas[-1]))
    if callback is not None:
        callback(len(sigmas), x)
    return x


def within(reach: float, step: int, x: Tensor) -> Tensor:
    """Return x; raise DivergenceError when a row has left the reach, or the finite numbers."""
    if not bool((x.norm(dim=1) <= reach).all()):  # also true for NaN
        raise DivergenceError(
            f"sampling diverged at step {step}: use more steps or levels, a smaller step_size, "
            f"where the sampler has one, and an init that is near noise of the highest level."
        )
    return x
