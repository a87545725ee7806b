"""Samples with some coordinates given, by predictor and corrector.

At each level the known part is that of the given values with fresh noise of this level; the rest
moves by the field, which sees the known part, and so is drawn towards its law given that part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from skscore._checks import real
from skscore.samplers._descent import Callback, NoiseScore, denoised, noise_like, reach_of, within
from skscore.samplers._reverse_sde import ancestral_step


def conditional(
    score: NoiseScore,
    x: Tensor,
    *,
    generator: torch.Generator,
    sigmas: Sequence[float],
    given: Tensor,
    known: Callable[[Tensor], Tensor],
    step_size: float = 0.5,
    n_corrections: int = 20,
    n_final: int = 100,
    callback: Callback | None = None,
) -> Tensor:
    """Return rows whose known part is given, the rest from its law given that part.

    A step of the reverse SDE to each level, then Langevin steps of size ``step_size sigma^2`` there
    (Song et al. 2021, appendix I.2, with corrections), at last with the known part held still. The
    law is that given the known part in the limit of many levels and corrections; with few, the
    free part lags behind where columns are strongly correlated.

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
    given : Tensor of shape (n, d)
        The known part of each row, zero elsewhere.
    known : callable
        The orthogonal projection of rows (n, d) on their known part.
    step_size : float, default=0.5
        Of a correction, in squared units of the noise level.
    n_corrections : int, default=20
        Langevin steps at each level.
    n_final : int, default=100
        Langevin steps at the lowest level.
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
    >>> from skscore.samplers import conditional
    >>> g = torch.Generator().manual_seed(0)
    >>> def blurred_normal(x, sigma):
    ...     return -x / (1 + sigma**2)
    >>> first = torch.tensor([1.0, 0.0])
    >>> x = conditional(
    ...     blurred_normal,
    ...     10 * torch.randn(2000, 2, generator=g),
    ...     generator=g,
    ...     sigmas=rho_grid(10.0, 0.01, 50),
    ...     given=2.0 * first.expand(2000, 2),
    ...     known=lambda v: v * first,
    ... )
    >>> x[:, 0].round(decimals=3).unique(), x[:, 1].std().round(decimals=1)
    (tensor([2.]), tensor(1.))
    """

    def clamped(x: Tensor, sigma: float) -> Tensor:
        z = noise_like(x, generator)
        return x + given + known(sigma * z - x)

    def corrected(x: Tensor, sigma: float) -> Tensor:
        eta = step_size * sigma**2
        move = eta * score(x, sigma) + (2 * eta) ** 0.5 * noise_like(x, generator)
        return x + move - known(move)

    real()("step_size", step_size)
    reach_of(x, sigmas)  # what is not valid is refused before it is used
    x, step = clamped(x, sigmas[0]), 0
    reach = reach_of(x, sigmas)
    for step, (sigma, lower) in enumerate(pairwise(sigmas), start=1):
        x = clamped(ancestral_step(score, x, sigma, lower, generator), lower)
        for _ in range(n_corrections):
            x = clamped(corrected(x, lower), lower)
        x = within(reach, step, x)
        if callback is not None:
            callback(step, x)
    x = x + given - known(x)
    for _ in range(n_final):
        x = corrected(x, sigmas[-1])
    move = denoised(score, x, sigmas[-1]) - x
    x = within(reach, step + 1, x + move - known(move))
    if callback is not None:
        callback(step + 1, x)
    return x
