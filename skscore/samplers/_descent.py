"""What the samplers share that walk from noise to data.

``score(x, sigma)`` is the field of the data blurred at a level; the walk ends with one denoising
step, ``D(x) = x + sigma^2 s(x, sigma)`` (Tweedie's formula), at the lowest level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from skscore.exceptions import DivergenceError

NoiseScore = Callable[[Tensor, float], Tensor]
Callback = Callable[[int, Tensor], None]


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard noise of the shape of x."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def denoised(score: NoiseScore, x: Tensor, sigma: float) -> Tensor:
    """Return ``D(x)``, the mean of the clean rows given the noisy ones."""
    return x.add(score(x, sigma), alpha=sigma**2)


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
    DivergenceError
        When a row leaves the finite numbers.
    """
    for i, (sigma, lower) in enumerate(pairwise(sigmas), start=1):
        x = finite(i, step(x, sigma, lower))
        if callback is not None:
            callback(i, x)
    x = finite(len(sigmas), denoised(score, x, sigmas[-1]))
    if callback is not None:
        callback(len(sigmas), x)
    return x


def finite(step: int, x: Tensor) -> Tensor:
    """Return x; raise DivergenceError where it is not finite."""
    if not bool(torch.isfinite(x).all()):
        raise DivergenceError(
            f"sampling diverged at step {step}: use a smaller step_size, or more n_steps."
        )
    return x
