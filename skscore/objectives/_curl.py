"""The curl of a field, which every gradient field lacks.

``J = ds/dx``, v random directions with ``E[vv'] = I``. A penalty on it is the strongest known
regulariser of score matching from ten columns up: a free field that is bent towards a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skscore._autodiff import ScoreFn, value_and_products
from skscore.objectives._projections import PROJECTIONS

SHARE = 2  # one row in so many is penalised, which saves most of the cost


def first_rows(x: Tensor) -> Tensor:
    """Return the rows of a batch that are penalised, (..., n, d) -> (..., k, d)."""
    return x[..., : -(-x.shape[-2] // SHARE), :]


def on_all(penalty: Tensor, n: int) -> Tensor:
    """Return a penalty of the first rows as one of all n: weighted up, and zero elsewhere."""
    k = penalty.shape[-1]
    return torch.nn.functional.pad(penalty * (n / k), (0, n - k))


def size_of(jv: Tensor) -> Tensor:
    """Return ``sqrt(mean ||J v||^2 / d + 1)`` over rows (..., n, d): (..., 1)."""
    return torch.sqrt((jv**2).mean(dim=-1).mean(dim=-1, keepdim=True) + 1)


def asymmetry(jv: Tensor, jtv: Tensor, scale: Tensor) -> Tensor:
    """Return ``||J v - J' v||^2 / sqrt(mean ||J v||^2 / d + 1)``, (..., n).

    Parameters
    ----------
    jv, jtv : Tensor of shape (..., n, d)
        J v and J' v.
    scale : Tensor of shape (..., n', d)
        J v at the rows whose mean square sets the scale; it has no part in the gradient.
    """
    return ((jv - jtv) ** 2).sum(dim=-1) / size_of(scale.detach())


def curl(
    score: ScoreFn,
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
    directions: Tensor | None = None,
) -> Tensor:
    """Return ``||(J - J') v||^2 / sqrt(mean ||J v||^2 / d + 1)`` per row.

    Zero for every gradient field, whatever the density. The scale keeps one weight right for
    narrow and for wide densities: a Jacobian is as large as the inverse of a variance.

    Parameters
    ----------
    score : callable
        The field, (n, d) -> (n, d).
    x : Tensor of shape (n, d)
        Rows.
    generator : torch.Generator
        Draws one Rademacher direction to a row.
    directions : Tensor of shape (1, n, d), optional
        Fixed directions in place of random ones.

    Returns
    -------
    Tensor of shape (n,)
        Lower is better.

    Examples
    --------
    >>> import torch
    >>> from skscore.objectives import curl
    >>> quarter_turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    >>> stream = torch.Generator().manual_seed(0)
    >>> curl(lambda x: x @ quarter_turn, torch.zeros(1, 2), generator=stream)
    tensor([5.6569])
    """
    v = directions
    if v is None:
        v = PROJECTIONS["rademacher"]((1, *x.shape), generator, x)
    _, jv, jtv = value_and_products(score, x, v, v[0])
    return asymmetry(jv[0], jtv, jv[0])
