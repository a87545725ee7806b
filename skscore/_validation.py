"""Checks of parameters and rows that name the parameter, the value and the remedy."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from skscore._affine import Moments
from skscore.exceptions import DataWarning, DegenerateDataError

Check = Callable[[str, object], None]

FEW_VALUES = 20  # a column with fewer distinct values, and many ties, is taken as discrete
LOOK_AT = 10_000  # rows
COPIES = 0.01  # share of the rows that may be copies of others
REMEDY = "it the score at a noise level, sigma=0.1 of a network estimator"
DISCRETE = (
    "many times each. Such discrete data has no density, and score matching is unbounded below on "
    f"it. F{REMEDY}, or treat the fitted field with care."
)
ATOM, TIES = 0.02, 15  # share of the rows, and rows, that one value of a column may fill


def refuse(name: str, value: object, wanted: str) -> ValueError:
    """Return the error for a parameter."""
    return ValueError(f"{name}={value!r} is not valid: it must be {wanted}.")


def integer(low: int, high: float = np.inf) -> Check:
    """Return a check for an integer in [low, high)."""

    def check(name, value):
        whole = isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
        if not whole or not low <= value < high:
            below = "" if high == np.inf else f" and < {high}"
            raise refuse(name, value, f"an integer >= {low}{below}")

    return check


def real(low: float = 0.0, high: float = np.inf, *, closed: bool = False) -> Check:
    """Return a check for a finite number in (low, high), or with `closed` in [low, high)."""

    def check(name, value):
        number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
        # Compared as it is: a Python integer may be larger than any float. One of half precision
        # would take the bounds to its own.
        value = value.item() if number and isinstance(value, np.floating) else value
        inside = number and (low <= value if closed else low < value) and value < high
        if not inside or not value <= sys.float_info.max:
            side = ">=" if closed else ">"
            below = "" if high == np.inf else f" and < {high:g}"
            raise refuse(name, value, f"a finite number {side} {low:g}{below}")

    return check


def option(*values: object) -> Check:
    """Return a check for one of some values."""

    def check(name, value):
        words = [v for v in values if isinstance(v, str)]
        if not (any(value is v for v in values) or (isinstance(value, str) and value in words)):
            raise refuse(name, value, "one of " + ", ".join(map(repr, values)))

    return check


def random_state(name: str, value: object) -> None:
    """Check a seed."""
    try:
        check_random_state(value)
    except (ValueError, TypeError):
        wanted = "None, an integer in [0, 2**32), or a numpy RandomState"
        raise refuse(name, value, wanted) from None


def flag(name: str, value: object) -> None:
    """Check a bool."""
    if not isinstance(value, bool | np.bool_):
        raise refuse(name, value, "True or False")


def verbosity(name: str, value: object) -> None:
    """Check how much is printed: a bool is one or nothing."""
    if not isinstance(value, bool | np.bool_):
        try:
            integer(0)(name, value)
        except ValueError:
            raise refuse(name, value, "a bool or an integer >= 0") from None


def share(name, value):
    """Check a number from 0 to 1, both included."""
    number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    if not (number and 0 <= value <= 1):
        raise refuse(name, value, "a number from 0 to 1")


def auto_or(other: Check, word: str | None = "auto") -> Check:
    """Return a check for a word (None counts) or what another check accepts."""

    def check(name, value):
        if value is word or (isinstance(value, str) and value == word):
            return
        try:
            other(name, value)
        except ValueError as error:
            raise ValueError(f"{str(error)[:-1]}, or {word!r}.") from None

    return check


def is_sequence(value: object) -> TypeGuard[Sequence | NDArray]:
    """Tell whether a value has items in an order; text has none."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def hidden_layer_sizes(name: str, value: object) -> None:
    """Check a sequence of positive integers."""
    form = "a sequence of positive integers, such as (128, 128)"
    if not is_sequence(value):
        raise refuse(name, value, form)
    for size in value:
        try:
            integer(1)(name, size)
        except ValueError:
            raise refuse(name, value, form) from None


def optional_callable(
    name: str,
    value: object,
    form: str = "a factory (n_features, n_outputs, *, generator) -> nn.Module",
) -> None:
    """Check a callable of the given form, or None."""
    if value is not None and not callable(value):
        raise refuse(name, value, f"None or {form}")


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
        warnings.warn(
            f"Constant columns {names_of(~moments.varying, names)} have no density: the field "
            f"there is fixed to -(x - mean) and left out of the objective. Drop them to silence "
            f"this.",
            DataWarning,
            stacklevel=4,
        )
    atoms = density and _warn_of_atoms(X, moments.varying, names)
    return replace(moments, atoms=atoms)


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
        warnings.warn(message, DataWarning, stacklevel=5)
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
