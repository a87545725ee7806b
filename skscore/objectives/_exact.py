"""Exact score matching."""

from __future__ import annotations

import torch
from torch import Tensor

from skscore._autodiff import ScoreFn, value_and_divergence
from skscore.objectives._curl import curl, first_rows, on_all
from skscore.objectives._sliced import SMALL, sliced


def exact(
    score: ScoreFn,
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
    curl_penalty: float = 0.0,
) -> Tensor:
    """Return ``tr ds/dx + 1/2 ||s||^2`` per row (Hyvarinen 2005, eq. 4).

    Parameters
    ----------
    score : callable
        The field, (n, d) -> (n, d).
    x : Tensor of shape (n, d)
        Rows.
    generator : torch.Generator, optional
        Draws the directions of the penalty; without one there is nothing random here.
    curl_penalty : float, default=0.0
        Weight of the curl, along one direction, at every second row.

    Returns
    -------
    Tensor of shape (n,)
        Lower is better. Its mean is the Fisher divergence up to a constant.

    Examples
    --------
    >>> import torch
    >>> from skscore.objectives import exact
    >>> exact(torch.neg, torch.zeros(1, 3)).tolist()
    [-3.0]
    """
    if curl_penalty and x.shape[-1] <= SMALL:  # the whole Jacobian costs no more than its parts
        return sliced(score, x, n_projections="auto", curl_penalty=curl_penalty)
    s, divergence = value_and_divergence(score, x)
    value = divergence + 0.5 * (s * s).sum(dim=-1)
    if curl_penalty:
        penalty = curl(score, first_rows(x), generator=generator)
        value = value + curl_penalty * on_all(penalty, x.shape[-2])
    return value
