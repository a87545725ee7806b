"""Denoising score matching, at one noise level and at many.

``y = x + sigma z``. Rows are perturbed in opposite pairs, z and -z: the terms that grow as sigma
shrinks cancel within a pair, so that the variance of the loss stays finite as sigma goes to zero
(a control variate that costs no further evaluation).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from skscore._autodiff import ScoreFn
from skscore._checks import real
from skscore.objectives._curl import curl, first_rows, on_all

SHARED = 4  # neighbouring rows that have one noise level: a network sees fewer conditions


class Levels(Protocol):
    """A law of noise levels."""

    def draw(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return a level for each row, (n, d) -> (n, 1)."""


def _standard(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def _pairs(plus: Tensor, minus: Tensor) -> Tensor:
    """Return the rows of two arrays by turns, (..., n, d) -> (..., 2 n, d)."""
    return torch.stack([plus, minus], dim=-2).flatten(-3, -2)


def _mean_of_pairs(values: Tensor) -> Tensor:
    return values.unflatten(-1, (-1, 2)).mean(dim=-1)


def denoising(
    score: ScoreFn,
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
    sigma: float,
    curl_penalty: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """Return ``1/2 ||s(y)||^2 + s(y)' z / sigma`` per row, the mean over z and -z.

    The objective ``1/2 ||s(y) + z / sigma||^2`` of Vincent (2011, eq. 9) without its constant
    ``d / (2 sigma^2)``. Its minimiser is the score of the data blurred by N(0, sigma^2 I).

    Parameters
    ----------
    score : callable
        The field, (n, d) -> (n, d).
    x : Tensor of shape (n, d)
        Rows.
    generator : torch.Generator
        Draws the noise.
    sigma : float
        Noise level.
    curl_penalty : float, default=0.0
        Weight of the curl, along one direction, at every second row.
    noise : Tensor of shape (n, d), optional
        Fixed z in place of a random one.

    Returns
    -------
    Tensor of shape (n,)
        Lower is better.

    Raises
    ------
    ValueError
        When `sigma` is not valid.

    Examples
    --------
    >>> import torch
    >>> from skscore.objectives import denoising
    >>> denoising(torch.neg, torch.zeros(1, 3), sigma=0.5, noise=torch.ones(1, 3)).tolist()
    [-2.625]
    """
    real()("sigma", sigma)
    z = _standard(x, generator) if noise is None else noise
    offset = sigma * z
    y = _pairs(x + offset, x - offset)
    s = score(y)
    inner = (s * _pairs(z, -z)).sum(dim=-1)
    value = _mean_of_pairs(0.5 * (s * s).sum(dim=-1) + inner / sigma)
    if curl_penalty:
        penalty = curl(score, first_rows(y[..., ::2, :]), generator=generator)
        value = value + curl_penalty * on_all(penalty, x.shape[-2])
    return value


def noise_conditional(
    score: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
    levels: Levels,
    shared: int = SHARED,
    noise: Tensor | None = None,
) -> Tensor:
    """Return ``1/2 ||lam(sigma) (s(y, sigma) + z / sigma)||^2`` per row, the mean over z and -z.

    With ``lam = sigma`` the objective of Song and Ermon (2019, eq. 6). A field that knows a better
    balance of its levels offers ``weighed_error(x, target, sigma)``, of itself less the target.

    Parameters
    ----------
    score : callable
        The field at a noise level to each row, (n, d), (n, 1) -> (n, d).
    x : Tensor of shape (n, d)
        Rows.
    generator : torch.Generator
        Draws levels and noise.
    levels : object
        With ``draw(x, generator) -> (n, 1)``.
    shared : int, default=4
        Neighbouring rows that have one level, where it divides their number.
    noise : Tensor of shape (n, d), optional
        Fixed z in place of a random one.

    Returns
    -------
    Tensor of shape (n,)
        Lower is better.

    Examples
    --------
    >>> import torch
    >>> from skscore.noise import Ladder
    >>> from skscore.objectives import noise_conditional
    >>> stream = torch.Generator().manual_seed(0)
    >>> x, z, levels = torch.zeros(1, 2), torch.ones(1, 2), Ladder([1.0])
    >>> noise_conditional(lambda y, sigma: -y, x, generator=stream, levels=levels, noise=z)
    tensor([0.])
    """
    shared = shared if x.shape[-2] % shared == 0 else 1
    sigma = levels.draw(x[..., ::shared, :], generator)
    own = sigma.repeat_interleave(shared, dim=-2)
    z = _standard(x, generator) if noise is None else noise
    offset, slope = own * z, z / own
    y, target = _pairs(x + offset, x - offset), _pairs(-slope, slope)
    weighed = getattr(score, "weighed_error", None)
    if weighed is None:
        both = own.repeat_interleave(2, dim=-2)
        error = both * (score(y, both) - target)
    else:
        error = weighed(y, target, sigma)
    return _mean_of_pairs(0.5 * (error * error).sum(dim=-1))
