"""Checks of parameters that name the parameter, the value and the remedy."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

Check = Callable[[str, object], None]

WITHIN = {"skscore", "sklearn", "contextlib", "torch"}  # a warning points at none of these


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line of the caller's that led here, through whatever wraps a method."""
    level, frame = 2, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in WITHIN:
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    warnings.warn(message, category, stacklevel=level)


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
