"""The probability flow by Heun's method, and the same with noise churned in.

``dx / dsigma = -sigma s(x, sigma)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from skscore._checks import real
from skscore.samplers._descent import Callback, NoiseScore, descend, noise_like

MOST_CHURN = math.sqrt(2) - 1  # a step adds at most as much noise as there is


def heun_step(score: NoiseScore, x: Tensor, sigma: float, lower: float) -> Tensor:
    """Return rows carried from one level to another by Heun's second-order step."""
    gap = lower - sigma
    slope = -sigma * score(x, sigma)
    slope_there = -lower * score(x + gap * slope, lower)
    return x + (gap / 2) * (slope + slope_there)


def probability_flow(
    score: NoiseScore,
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
    sigmas: Sequence[float],
    callback: Callback | None = None,
) -> Tensor:
    """Return rows carried from the first level to none along the probability flow.

    Heun's steps of ``dx / dsigma = -sigma s(x, sigma)`` (Song et al. 2021, eq. 13; Karras et al.
    2022, algorithm 1), and one denoising step. Nothing random after the start.

    Parameters
    ----------
    score : callable
        The field at a noise level, (n, d), float -> (n, d).
    x : Tensor of shape (n, d)
        Starting points, at the first level.
    generator : torch.Generator
        Not used.
    sigmas : sequence of float
        Noise levels, decreasing.
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
    >>> from skscore.samplers import probability_flow
    >>> probability_flow(
    ...     lambda x, sigma: -x / (1 + sigma**2),
    ...     torch.tensor([[10.0]]),
    ...     sigmas=rho_grid(10.0, 0.01, 50),
    ... ).round(decimals=2)
    tensor([[1.]])
    """

    def step(x: Tensor, sigma: float, lower: float) -> Tensor:
        return heun_step(score, x, sigma, lower)

    return descend(step, score, x, sigmas, callback)


def churned_heun(
    score: NoiseScore,
    x: Tensor,
    *,
    generator: torch.Generator,
    sigmas: Sequence[float],
    churn: float = 20.0,
    callback: Callback | None = None,
) -> Tensor:
    """Return rows carried to no noise by Heun's steps, with noise added before each.

    At each step the level is first raised to ``sigma (1 + churn / n_steps)``, at most by sqrt(2)
    (Karras et al. 2022, algorithm 2, with S_noise 1 and the churn at all levels).

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
    churn : float, default=20.0
        How much noise is added over the whole walk; 0 is the probability flow.
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
    >>> from skscore.samplers import churned_heun
    >>> g = torch.Generator().manual_seed(0)
    >>> def blurred_normal(x, sigma):
    ...     return -x / (1 + sigma**2)
    >>> x = 10 * torch.randn(2000, 1, generator=g)
    >>> churned_heun(
    ...     blurred_normal, x, generator=g, sigmas=rho_grid(10.0, 0.01, 50)
    ... ).std().round(decimals=1)
    tensor(1.)
    """
    real(closed=True)("churn", churn)
    share = min(churn / max(len(sigmas) - 1, 1), MOST_CHURN)

    def step(x: Tensor, sigma: float, lower: float) -> Tensor:
        # Not above the first level: no field is known there.
        raised = min(sigma * (1 + share), sigmas[0])
        added = math.sqrt(raised**2 - sigma**2)
        return heun_step(score, x.add(noise_like(x, generator), alpha=added), raised, lower)

    return descend(step, score, x, sigmas, callback)
