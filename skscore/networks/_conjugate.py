"""A network, or any field, in other coordinates and at one condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skscore._autodiff import floats_per_row, value_and_curvature, value_and_jvp
from skscore._linear import times, transposed


class Conjugate(nn.Module):
    """``x -> f(x inside) outside``: a field in other coordinates.

    Parameters
    ----------
    field : callable
        f, rows in and rows out.
    inside, outside : Tensor of shape (d, d) or ()
        Matrices; a number is a multiple of the identity.

    Examples
    --------
    >>> import torch
    >>> from skscore.networks import Conjugate
    >>> Conjugate(torch.neg, 2 * torch.eye(2), 3 * torch.eye(2))(torch.ones(1, 2))
    tensor([[-6., -6.]])
    """

    def __init__(self, field, inside: Tensor, outside: Tensor):
        super().__init__()
        self.field, self.inside, self.outside = field, inside, outside

    def forward(self, x: Tensor) -> Tensor:
        """Return the field, (n, d) -> (n, d)."""
        return times(self.field(times(x, self.inside)), self.outside)

    def value_and_jvp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value and ``J v``."""
        inside = times(x, self.inside), times(v, self.inside)
        s, jv = value_and_jvp(self.field, *inside)
        return times(s, self.outside), times(jv, self.outside)

    def value_and_curvature(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value and ``w' J v``."""
        inside = times(x, self.inside), times(v, self.inside)
        s, curvature = value_and_curvature(self.field, *inside, times(w, transposed(self.outside)))
        return times(s, self.outside), curvature

    def floats_per_row(self, n_features: int) -> int:
        """Return about how many numbers a value with its divergence holds at once, for one row."""
        return floats_per_row(self.field, n_features)


class Gated(nn.Module):
    """A network times a factor for each output that is learnt from zero.

    So a network of any kind begins as zero, and the field as the Gaussian that it stands over.

    Parameters
    ----------
    network : nn.Module
        It maps rows, and whatever else it takes, to (n, n_outputs).
    n_outputs : int
        Columns out.

    Examples
    --------
    >>> import torch
    >>> from skscore.networks import Gated
    >>> Gated(torch.nn.Identity(), 2)(torch.ones(1, 2)).tolist()
    [[0.0, 0.0]]
    """

    def __init__(self, network: nn.Module, n_outputs: int):
        super().__init__()
        self.network = network
        self.gain = nn.Parameter(torch.zeros(n_outputs, dtype=torch.float32, device="cpu"))

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        """Return the network's values times the factors, (n, d) -> (n, n_outputs)."""
        return self.network(x, *condition) * self.gain


class Bound(nn.Module):
    """A network of rows and a condition, at one condition.

    Parameters
    ----------
    network : nn.Module
        It maps (n, d) and (n, 1) to (n, o).
    condition : Tensor of shape (1,)
        The condition of all rows.

    Examples
    --------
    >>> import torch
    >>> from skscore.networks import Bound, NoiseConditionalMLP
    >>> network = NoiseConditionalMLP(2, 2, generator=torch.Generator().manual_seed(0))
    >>> Bound(network, torch.zeros(1))(torch.ones(3, 2)).shape
    torch.Size([3, 2])
    """

    condition: Tensor

    def __init__(self, network: nn.Module, condition: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("condition", condition, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the network, (n, d) -> (n, o)."""
        return self.network(x, self.condition.expand(*x.shape[:-1], 1))


def conjugate(network, inside: Tensor, outside: Tensor):
    """Return ``x -> network(x inside) outside``, folded into the weights where they are known.

    Parameters
    ----------
    network : callable
        Rows in and rows out.
    inside, outside : Tensor of shape (d, d) or ()
        Matrices; a number is a multiple of the identity.

    Returns
    -------
    nn.Module
        The network in other coordinates.
    """
    fold = getattr(network, "between", None)
    return Conjugate(network, inside, outside) if fold is None else fold(inside, outside)


def bind(network: nn.Module, condition: Tensor) -> nn.Module:
    """Return the network of rows alone, at one condition.

    Parameters
    ----------
    network : nn.Module
        Of rows and a condition.
    condition : Tensor of shape (1,)
        The condition of all rows.

    Returns
    -------
    nn.Module
        Of rows.
    """
    at = getattr(network, "at", None)
    return Bound(network, condition) if at is None else at(condition)
