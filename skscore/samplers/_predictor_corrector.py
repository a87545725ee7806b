"""Predictor and corrector: a step of the reverse SDE, then Langevin steps at the new level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skscore._checks import real
from skscore.samplers._descent import Callback, NoiseScore, descend, noise_like
from skscore.samplers._reverse_sde import ancestral_step


def predictor_corrector(
    score: NoiseScore,
    x: Tensor,
    *,
    generator: torch.Generator,
    sigmas: Sequence[float],
    step_size: float = 0.1,
    n_corrections: int = 1,
    callback: Callback | None = None,
) -> Tensor:
    """Return rows carried down the levels by the reverse SDE, corrected at each.

    The predictor is that of `reverse_sde`; a correction at level sigma is a Langevin step of size
    ``eta = step_size sigma^2`` (Song et al. 2021, algorithm 2; their step depends on the batch,
    this one does not).

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
    step_size : float, default=0.1
        Of a correction, in squared units of the noise level.
    n_corrections : int, default=1
        Langevin steps at each level.
    callback : callable, optional
        Called as ``callback(step, x)`` after each level, from 1.

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
    >>> from skscore.samplers import predictor_corrector
    >>> g = torch.Generator().manual_seed(0)
    >>> def blurred_normal(x, sigma):
    ...     return -x / (1 + sigma**2)
    >>> x = 10 * torch.randn(2000, 1, generator=g)
    >>> predictor_corrector(
    ...     blurred_normal, x, generator=g, sigmas=rho_grid(10.0, 0.01, 50)
    ... ).std().round(decimals=1)
    tensor(1.)
    """
    real()("step_size", step_size)

    def step(x: Tensor, sigma: float, lower: float) -> Tensor:
        x = ancestral_step(score, x, sigma, lower, generator)
        eta = step_size * lower**2
        for _ in range(n_corrections):
            x = x.add(score(x, lower), alpha=eta)
            x = x.add_(noise_like(x, generator), alpha=(2 * eta) ** 0.5)
        return x

    return descend(step, score, x, sigmas, callback)
