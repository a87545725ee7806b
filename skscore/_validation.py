"""Checks of rows that name the columns and the remedy."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from skscore._affine import AffineMap, Moments
from skscore._checks import warn
from skscore.exceptions import DataWarning, DegenerateDataError

PART = 1e-3  # of a unit vector in standardised columns, that a column takes part in it with
FEW_VALUES = 20  # a column with fewer distinct values, and many ties, is taken as discrete
LOOK_AT = 10_000  # rows
COPIES = 0.01  # share of the rows that may be copies of others
REMEDY = "it the score at a noise level, sigma=0.1 of a network estimator"
DISCRETE = (
    "many times each. Such discrete data has no density, and score matching is unbounded below on "
    f"it. F{REMEDY}, or treat the fitted field with care."
)
ATOM, TIES = 0.02, 15  # share of the rows, and rows, that one value of a column may fill


def describe(
    X: NDArray[np.float64],
    names: NDArray | None,
    *,
    shrinkage: float | str = 0.0,
    density: bool = True,
    pixels: bool = False,
) -> Moments:
    """Return the moments of training rows; warn, by name, of columns without a density.

    That a column is constant is no fault of `pixels`.

    Raises
    ------
    DegenerateDataError
        When every column is constant.
    MemoryError
        When this machine cannot hold the covariance.
    ValueError
        When a column's scale leaves the range of float64.
    """
    refuse_wide(X.shape[1])
    moments = Moments.of(X, shrinkage)
    if not moments.varying.any():
        raise DegenerateDataError(
            f"X has zero variance: all {len(X)} rows are equal, and such data have no score. "
            f"Pass rows that differ."
        )
    if not (pixels or moments.varying.all()):
        warn(
            f"Constant columns {names_of(~moments.varying, names)} have no density: the field "
            f"there is fixed to -(x - mean) and left out of the objective. Drop them to silence "
            f"this.",
            DataWarning,
        )
    atoms = density and _warn_of_atoms(X, moments.varying, names)
    return replace(moments, atoms=atoms)


def warn_of_collinear(affine: AffineMap, moments: Moments, names: NDArray | None) -> None:
    """Warn, by name, of columns that others determine, where there are rows enough to tell."""
    live = moments.varying
    n_live = int(live.sum())
    if affine.rank < min(n_live, moments.n_rows - 1):
        parts = np.abs(affine.matrix[affine.rank :]) * moments.scale  # of unit vectors
        involved = (parts > PART).any(axis=0) & live
        warn(
            f"Columns {names_of(involved, names)} are collinear: some are combinations of others. "
            f"The direction in which they do not vary has no density; the field there is fixed to "
            f"-(x - mean) and left out of the objective. Drop one to silence this.",
            DataWarning,
        )


def refuse_no_longer_constant(affine: AffineMap, moments: Moments, names: NDArray | None) -> None:
    """Raise ValueError when columns vary that have no part in the model of an earlier fit."""
    changed = moments.varying & (affine.matrix[: affine.rank] == 0).all(axis=0)
    if changed.any():
        raise ValueError(
            f"warm_start=True needs the columns of the earlier fit, but {names_of(changed, names)} "
            f"were constant there and have no part in the model: set warm_start=False."
        )


def _warn_of_atoms(
    X: NDArray[np.float64], varying: NDArray[np.bool_], names: NDArray | None
) -> bool:
    """Warn of what gives single points a probability: no density is finite there."""
    looked = X[:LOOK_AT]
    rows = np.unique(looked, axis=0)
    few = _few_values(looked) & varying
    tied = _tied(rows) & varying & ~few
    copies = len(looked) - len(rows)
    said = []
    if few.any():
        said.append(f"Columns {names_of(few, names)} hold few distinct values, {DISCRETE}")
    elif copies > COPIES * len(looked):
        said.append(
            f"{copies} of the {len(looked)} rows are copies of others. Score matching is unbounded "
            f"below at repeated points. Remove the copies, or f{REMEDY}."
        )
    if tied.any():
        said.append(f"Columns {names_of(tied, names)} repeat some value, {DISCRETE}")
    for message in said:
        warn(message, DataWarning)
    return bool(said)


def _few_values(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    ordered = np.sort(rows, axis=0)
    distinct = 1 + np.count_nonzero(np.diff(ordered, axis=0), axis=0)
    return (distinct < FEW_VALUES) & (distinct <= len(ordered) // 2)


def _tied(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which columns repeat one value too often, among rows that differ."""
    ordered = np.sort(rows, axis=0)
    often = max(TIES, round(ATOM * len(rows)))
    # A value that fills more than `often` sorted rows is equal to the one that far behind it.
    return (ordered[often:] == ordered[:-often]).any(axis=0)


def names_of(which: NDArray[np.bool_], names: NDArray | None, limit: int = 10) -> str:
    """Return columns by their names, or by their numbers where they have none."""
    found = [int(j) if names is None else str(names[j]) for j in np.flatnonzero(which)]
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return f"{found[:limit]}{more}"


def refuse_oversize(n_rows: int, n_columns: int, name: str) -> None:
    """Raise MemoryError, before anything is allocated, for rows that this machine cannot hold."""
    wanted, total = n_rows * n_columns * 8, _memory()
    if wanted > total:
        raise MemoryError(
            f"{name}={n_rows} rows of {n_columns} columns take {wanted / 2**30:.0f} GiB; this "
            f"machine has {total / 2**30:.0f} GiB. Sample in parts."
        )


def refuse_wide(n_columns: int) -> None:
    """Raise MemoryError, before it is allocated, for a covariance that this machine cannot hold."""
    wanted, total = 3 * n_columns**2 * 8, _memory()  # with what it is made of
    if wanted > total:
        raise MemoryError(
            f"X has {n_columns} columns (the pixels of images), whose covariance takes "
            f"{wanted / 2**30:.0f} GiB; this machine has {total / 2**30:.0f} GiB. Use smaller "
            f"images, or fewer columns."
        )


def _memory() -> int:
    """Return the bytes of this machine."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return 2**40
