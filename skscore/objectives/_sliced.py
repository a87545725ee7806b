"""Sliced score matching, with and without variance reduction.

``v`` (m, n, d) random directions with ``E[vv'] = I``, m to a row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skscore._autodiff import ScoreFn, value_and_jvp


def _gaussian(shape, generator: torch.Generator | None, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def _rademacher(shape, generator: torch.Generator | None, like: Tensor) -> Tensor:
    bits = torch.randint(2, shape, generator=generator, dtype=like.dtype, device=like.device)
    return bits.mul_(2).sub_(1)


def _sphere(shape, generator: torch.Generator | None, like: Tensor) -> Tensor:
    # Radius sqrt(d), not 1: the norm term of the reduced form needs E[vv'] = I.
    z = _gaussian(shape, generator, like)
    return z * (math.sqrt(shape[-1]) / z.norm(dim=-1, keepdim=True))


PROJECTIONS = {"gaussian": _gaussian, "rademacher": _rademacher, "sphere": _sphere}


def sliced(
    score: ScoreFn,
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
    n_projections: int = 1,
    projection: str = "rademacher",
    variance_reduction: bool = True,
    directions: Tensor | None = None,
) -> Tensor:
    """Return ``mean_j [v_j' (ds/dx) v_j] + 1/2 ||s||^2`` per row.

    The reduced form of Song, Garg, Shi and Ermon (2019, eq. 8); without variance reduction the
    norm term is ``1/2 mean_j (v_j' s)^2`` (eq. 7).

    Parameters
    ----------
    score : callable
        The field, (n, d) -> (n, d).
    x : Tensor of shape (n, d)
        Rows.
    generator : torch.Generator
        Draws the directions.
    n_projections : int, default=1
        Directions to a row.
    projection : {"rademacher", "gaussian", "sphere"}, default="rademacher"
        Their law; the sphere has radius sqrt(d).
    variance_reduction : bool, default=True
        Whether the norm term is exact.
    directions : Tensor of shape (m, n, d), optional
        Fixed directions in place of random ones.

    Returns
    -------
    Tensor of shape (n,)
        Lower is better; the same mean as the exact objective.

    Examples
    --------
    >>> import torch
    >>> from skscore.objectives import sliced
    >>> stream = torch.Generator().manual_seed(0)
    >>> sliced(torch.neg, torch.zeros(1, 3), generator=stream).tolist()
    [-3.0]
    """
    v = directions
    if v is None:
        v = PROJECTIONS[projection]((n_projections, *x.shape), generator, x)
    s, jv = value_and_jvp(score, x, v)
    curvature = (v * jv).sum(dim=-1).mean(dim=0)
    norm = (s * s).sum(dim=-1) if variance_reduction else ((v * s).sum(dim=-1) ** 2).mean(dim=0)
    return curvature + 0.5 * norm
