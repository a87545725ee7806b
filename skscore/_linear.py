"""Matrices that may be multiples of the identity: then they are a number, and cost nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def times(x: Tensor, M: Tensor) -> Tensor:
    """Return ``x M`` for rows x.

    Parameters
    ----------
    x : Tensor of shape (..., n, d)
        Rows.
    M : Tensor of shape (d, d) or ()
        A matrix, or the number of a multiple of the identity.

    Returns
    -------
    Tensor of shape (..., n, d)
        The products.
    """
    return x @ M if M.dim() else x * M


def transposed(M: Tensor) -> Tensor:
    """Return ``M'``.

    Parameters
    ----------
    M : Tensor of shape (d, d) or ()
        As in `times`.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    return M.mT if M.dim() else M


def from_eigen(basis: Tensor, factors: Tensor) -> Tensor:
    """Return ``Q diag(factors) Q'``.

    Parameters
    ----------
    basis : Tensor of shape (d, d) or ()
        Q, orthonormal.
    factors : Tensor of shape (d,) or ()
        Eigenvalues.

    Returns
    -------
    Tensor of shape (d, d) or ()
        The matrix.
    """
    return times(basis * factors, basis.mT) if basis.dim() else factors


def eigen(M: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues and the basis Q of a symmetric matrix, in float64.

    Parameters
    ----------
    M : Tensor of shape (d, d) or ()
        As in `times`.

    Returns
    -------
    eigenvalues : Tensor of shape (d,) or ()
        In ascending order.
    basis : Tensor of shape (d, d) or ()
        Orthonormal.
    """
    M = M.to(torch.float64)
    if M.dim():
        eigenvalues, basis = torch.linalg.eigh(M)
        return eigenvalues, basis
    return M, torch.ones_like(M)


def trace(M: Tensor, n_features: int) -> Tensor:
    """Return the trace of a matrix of n_features columns.

    Parameters
    ----------
    M : Tensor of shape (d, d) or ()
        As in `times`.
    n_features : int
        d.

    Returns
    -------
    Tensor of shape ()
        The trace.
    """
    return torch.trace(M) if M.dim() else M * n_features
