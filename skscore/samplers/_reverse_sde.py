"""The reverse of the noising process, step by step (ancestral sampling)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skscore.samplers._descent import Callback, NoiseScore, descend, noise_like


def ancestral_step(
    score: NoiseScore, x: Tensor, sigma: float, lower: float, generator: torch.Generator
) -> Tensor:
    """Return a draw at the lower level, given a row at sigma and the mean of its clean row.

    ``x + (sigma^2 - lower^2) s + sqrt((sigma^2 - lower^2) lower^2 / sigma^2) z``.
    """
    gap = sigma**2 - lower**2
    x = x.add(score(x, sigma), alpha=gap)
    return x.add_(noise_like(x, generator), alpha=(gap * lower**2 / sigma**2) ** 0.5)


def reverse_sde(
    score: NoiseScore,
    x: Tensor,
    *,
    generator: torch.Generator,
    sigmas: Sequence[float],
    callback: Callback | None = None,
) -> Tensor:
    """Return rows that were carried from the first level to none by the reverse SDE.

    ``x <- x + (sigma^2 - lower^2) s(x, sigma) + sqrt((sigma^2 - lower^2) lower^2 / sigma^2) z``
    (Song et al. 2021, eq. 47: ancestral sampling), and one denoising step.

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
    >>> from skscore.samplers import reverse_sde
    >>> g = torch.Generator().manual_seed(0)
    >>> def blurred_normal(x, sigma):
    ...     return -x / (1 + sigma**2)
    >>> x = 10 * torch.randn(2000, 1, generator=g)
    >>> reverse_sde(
    ...     blurred_normal, x, generator=g, sigmas=rho_grid(10.0, 0.01, 100)
    ... ).std().round(decimals=1)
    tensor(1.)
    """

    def step(x: Tensor, sigma: float, lower: float) -> Tensor:
        return ancestral_step(score, x, sigma, lower, generator)

    return descend(step, score, x, sigmas, callback)
