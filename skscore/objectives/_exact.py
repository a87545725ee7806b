"""Exact score matching."""

from __future__ import annotations

import torch
from torch import Tensor

from skscore._autodiff import ScoreFn, value_and_divergence


def exact(score: ScoreFn, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return ``tr ds/dx + 1/2 ||s||^2`` per row (Hyvarinen 2005, eq. 4).

    Parameters
    ----------
    score : callable
        The field, (n, d) -> (n, d).
    x : Tensor of shape (n, d)
        Rows.
    generator : torch.Generator, optional
        Not used: there is nothing random in it.

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
    s, divergence = value_and_divergence(score, x)
    return divergence + 0.5 * (s * s).sum(dim=1)
