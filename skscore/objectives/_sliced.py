"""Sliced score matching, with and without variance reduction.

``v`` (m, n, d) random directions with ``E[vv'] = I``, m to a row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skscore._autodiff import ScoreFn, unit_directions, value_and_jvp, value_and_products
from skscore._checks import auto_or, integer, option
from skscore.objectives._curl import asymmetry, first_rows, on_all
from skscore.objectives._projections import PROJECTIONS

SMALL = 3  # features up to which all unit vectors are taken: exact, at about the cost of one slice


def draw_directions(
    x: Tensor, n_projections: int | str, projection: str, generator, reduced: bool
) -> tuple[Tensor, bool]:
    """Return directions, and whether they are an orthogonal basis: then the mean is the trace."""
    auto_or(integer(1))("n_projections", n_projections)
    option(*PROJECTIONS)("projection", projection)
    d = x.shape[-1]
    m = (d if d <= SMALL else 1) if n_projections == "auto" else int(n_projections)
    if reduced and m >= d:
        return unit_directions(x) * math.sqrt(d), True
    return PROJECTIONS[projection]((m, *x.shape), generator, x), False


def sliced(
    score: ScoreFn,
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
    n_projections: int | str = 1,
    projection: str = "rademacher",
    variance_reduction: bool = True,
    curl_penalty: float = 0.0,
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
    n_projections : int or "auto", default=1
        Directions to a row; "auto" is one, and for up to three features as many as there are.
        As many as features, with variance reduction, are the unit vectors: the trace is exact.
    projection : {"rademacher", "gaussian", "sphere"}, default="rademacher"
        Their law; the sphere has radius sqrt(d).
    variance_reduction : bool, default=True
        Whether the norm term is exact.
    curl_penalty : float, default=0.0
        Weight of the curl, which is measured along the same directions.
    directions : Tensor of shape (m, n, d), optional
        Fixed directions in place of random ones.

    Returns
    -------
    Tensor of shape (n,)
        Lower is better; the same mean as the exact objective.

    Raises
    ------
    ValueError
        When a parameter is not valid.

    Examples
    --------
    >>> import torch
    >>> from skscore.objectives import sliced
    >>> stream = torch.Generator().manual_seed(0)
    >>> sliced(torch.neg, torch.zeros(1, 3), generator=stream).tolist()
    [-3.0]
    """
    v, basis = directions, False
    if v is None:
        v, basis = draw_directions(x, n_projections, projection, generator, variance_reduction)
    penalty: Tensor | float = 0.0
    if not curl_penalty:
        s, jv = value_and_jvp(score, x, v)
    elif basis:  # J is known whole, and with it J'
        s, jv = value_and_jvp(score, x, v)
        size = (jv * jv).mean(dim=0).sqrt()
        penalty = curl_penalty * asymmetry(jv, jv.transpose(0, -1), size).mean(dim=0)
    else:
        s, jv, jtw = value_and_products(score, x, v, first_rows(v[0]))
        rows = asymmetry(first_rows(jv[0]), jtw, jv[0])
        penalty = curl_penalty * on_all(rows, x.shape[-2])
    curvature = (v * jv).sum(dim=-1).mean(dim=0)
    norm = (s * s).sum(dim=-1) if variance_reduction else ((v * s).sum(dim=-1) ** 2).mean(dim=0)
    return curvature + 0.5 * norm + penalty
