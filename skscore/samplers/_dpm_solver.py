"""DPM-Solver++(2M) for the reverse SDE.

``D(x, sigma) = x + sigma^2 s(x, sigma)``; ``h = log(sigma / lower)`` the step in the half log
signal-to-noise ratio. Linear multistep: the last D is kept, so a step costs one evaluation.

A correction leaves a level and returns: noise up to twice as much, and a step of the first order
back. That leaves the law of a level as it is where rows are far more or far less spread than the
noise, which a Langevin step as long does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from skscore.samplers._descent import Callback, NoiseScore, denoised, descend, noise_like
from skscore.samplers._reverse_sde import ancestral_step

UP = 2.0  # times its level that a correction goes up to


def dpm_solver(
    score: NoiseScore,
    x: Tensor,
    *,
    generator: torch.Generator,
    sigmas: Sequence[float],
    n_corrections: int = 0,
    corrected: tuple[float, float] = (0.0, math.inf),
    callback: Callback | None = None,
) -> Tensor:
    """Return rows that were carried from the first level to none by the reverse SDE, second order.

    ``x <- e^-2h x + (1 - e^-2h) (D + (D - D') h / (2 h')) + lower sqrt(1 - e^-2h) z``, with D' and
    h' those of the step before (Lu et al. 2022, "DPM-Solver++", SDE-DPM-Solver++(2M)), and one
    denoising step. Corrections let rows forget what was decided at higher levels, where a field
    that errs there contradicts itself further down (Xu et al. 2023, "Restart sampling for improving
    generative processes"; theirs go back over many levels).

    Parameters
    ----------
    score : callable
        The field at a noise level, (n, d), float -> (n, d).
    x : Tensor of shape (n, d)
        Starting points, at the first level.
    generator : torch.Generator
        Draws the noise.
    sigmas : sequence of float
        Noise levels, decreasing.
    n_corrections : int, default=0
        How often a level is left, ``x <- x + sqrt(3) lower z``, and returned to from twice as high,
        or from the highest, by a step of `reverse_sde`. Each costs an evaluation. Where rows are as
        spread as the noise, many of them leave about a quarter less variance.
    corrected : (float, float), default=(0.0, inf)
        The lowest and the highest level that is corrected.
    callback : callable, optional
        Called as ``callback(step, x)`` after each step, from 1.

    Returns
    -------
    Tensor of shape (n, d)
        The last points.

    Raises
    ------
    ValueError
        When the rows or a parameter is not valid.
    DivergenceError
        When a row goes ten times as far as noise reaches, or leaves the finite numbers.

    Examples
    --------
    >>> import torch
    >>> from skscore.noise import rho_grid
    >>> from skscore.samplers import dpm_solver
    >>> g = torch.Generator().manual_seed(0)
    >>> def blurred_normal(x, sigma):
    ...     return -x / (1 + sigma**2)
    >>> x = 10 * torch.randn(2000, 1, generator=g)
    >>> dpm_solver(
    ...     blurred_normal, x, generator=g, sigmas=rho_grid(10.0, 0.01, 50)
    ... ).std().round(decimals=1)
    tensor(1.)
    """
    last: tuple[Tensor, float] | None = None

    def step(x: Tensor, sigma: float, lower: float) -> Tensor:
        nonlocal last
        h = math.log(sigma / lower)
        D = denoised(score, x, sigma)
        aim = D if last is None else D + (D - last[0]) * (h / (2 * last[1]))
        last = D, h
        gain = -math.expm1(-2 * h)
        x = torch.lerp(x, aim, gain)
        x = x.add_(noise_like(x, generator), alpha=lower * math.sqrt(gain))
        for _ in range(n_corrections if corrected[0] <= lower <= corrected[1] else 0):
            last = None  # of rows that were elsewhere
            up = min(UP * lower, sigmas[0])  # above the highest no field is known
            x = x.add(noise_like(x, generator), alpha=math.sqrt(up**2 - lower**2))
            x = ancestral_step(score, x, up, lower, generator)
        return x

    return descend(step, score, x, sigmas, callback)
