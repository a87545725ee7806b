"""Annealed Langevin dynamics.

``eta_i = eta sigma_i^2 / sigma_L^2`` the step size at level i, ``z`` standard noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skscore._checks import real
from skscore.samplers._descent import Callback, NoiseScore, denoised, noise_like, reach_of, within


def annealed_langevin(
    score: NoiseScore,
    x: Tensor,
    *,
    generator: torch.Generator,
    sigmas: Sequence[float],
    step_size: float,
    n_steps: int = 10,
    callback: Callback | None = None,
) -> Tensor:
    """Return chains after Langevin steps at each level in turn, and one denoising step.

    ``x <- x + eta_i s(x, sigma_i) + sqrt(2 eta_i) z``, n_steps times at each level (Song and Ermon
    2019, algorithm 1, where their alpha is 2 eta; the last step is that of Jolicoeur-Martineau et
    al. 2021).

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
    step_size : float
        eta, the step at the lowest level.
    n_steps : int, default=10
        Steps at each level.
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
        When a chain goes ten times as far as noise reaches, or leaves the finite numbers.

    Examples
    --------
    >>> import torch
    >>> from skscore.samplers import annealed_langevin
    >>> g = torch.Generator().manual_seed(0)
    >>> def blurred_normal(x, sigma):
    ...     return -x / (1 + sigma**2)
    >>> x = 3 * torch.randn(2000, 1, generator=g)
    >>> x = annealed_langevin(
    ...     blurred_normal, x, generator=g, sigmas=[3.0, 1.0, 0.3], step_size=0.05, n_steps=30
    ... )
    >>> x.std().round(decimals=1)
    tensor(1.)
    """
    real()("step_size", step_size)
    step, reach = 0, reach_of(x, sigmas)
    for sigma in sigmas:
        eta = step_size * (sigma / sigmas[-1]) ** 2
        for _ in range(n_steps):
            step += 1
            x = x.add(score(x, sigma), alpha=eta)
            x = within(reach, step, x.add_(noise_like(x, generator), alpha=(2 * eta) ** 0.5))
            if callback is not None:
                callback(step, x)
    x = within(reach, step + 1, denoised(score, x, sigmas[-1]))
    if callback is not None:
        callback(step + 1, x)
    return x
