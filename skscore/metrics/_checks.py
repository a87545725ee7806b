"""Argument checks and the quadratic form that the metrics share."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

Array: TypeAlias = NDArray[np.float64]


def check_rows(name: str, value: ArrayLike) -> Array:
    """Return a finite float64 array of shape (n, d), or raise a ValueError that names it."""
    try:
        rows: Array = check_array(value, dtype=np.float64, input_name=name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return rows


def check_same_shape(name: str, rows: Array, other_name: str, other: Array) -> None:
    """Raise a ValueError unless the two arrays have one shape."""
    if rows.shape != other.shape:
        raise ValueError(
            f"{name} has shape {rows.shape} and {other_name} has shape {other.shape}; "
            "pass two arrays of the same shape, one row for each point"
        )


def check_same_columns(X: Array, Y: Array) -> None:
    """Raise a ValueError unless both samples have the same number of columns."""
    if X.shape[1] != Y.shape[1]:
        raise ValueError(
            f"X has {X.shape[1]} features and Y has {Y.shape[1]}; pass samples on the same columns"
        )


def squared_norms(rows: Array, covariance: ArrayLike | None) -> Array:
    """Return v' S v for every row v, with S the identity where `covariance` is None."""
    if covariance is None:
        return np.einsum("ij,ij->i", rows, rows)
    S = check_rows("covariance", covariance)
    d = rows.shape[1]
    if S.shape != (d, d):
        raise ValueError(
            f"covariance has shape {S.shape}; pass a matrix of shape {(d, d)}, one row and one "
            "column for each column of the scores"
        )
    if not np.allclose(S, S.T, rtol=1e-8, atol=1e-12 * np.abs(S).max()):
        gap = np.abs(S - S.T).max()
        raise ValueError(
            f"covariance is not symmetric, it differs from its transpose by {gap:.3g}; "
            "pass (covariance + covariance.T) / 2 if that is meant"
        )
    values = np.einsum("ij,ij->i", rows @ S, rows)
    # Semidefinite is enough: a constant column has variance zero and drops out.
    slack = 1e-9 * np.abs(np.diag(S)).sum() * np.einsum("ij,ij->i", rows, rows)
    if np.any(values < -slack):
        raise ValueError(
            f"covariance is not positive semidefinite, it gives the square {values.min():.3g}; "
            "pass the covariance of the rows, for instance numpy.cov(X, rowvar=False)"
        )
    return np.maximum(values, 0.0)
