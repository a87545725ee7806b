"""Grids of noise levels, largest first."""

from __future__ import annotations

import math

from skscore._checks import integer, real


def _check(high: float, low: float, n_levels: int) -> None:
    """Raise ValueError for ends and a number that make no grid."""
    real()("high", high)
    real()("low", low)
    integer(1)("n_levels", n_levels)
    if n_levels > 1 and low >= high:
        raise ValueError(f"low={low!r} is not valid: it must be below high={high!r}.")


def geometric_grid(high: float, low: float, n_levels: int) -> list[float]:
    """Return levels at equal ratios (Song and Ermon 2019, section 4.1).

    Parameters
    ----------
    high, low : float
        The ends.
    n_levels : int
        How many, both ends included; one is the higher end: a walk begins there.

    Returns
    -------
    list of float
        The levels, decreasing.

    Raises
    ------
    ValueError
        When a parameter is not valid, or `low` is not below `high`.

    Examples
    --------
    >>> from skscore.noise import geometric_grid
    >>> [round(sigma, 3) for sigma in geometric_grid(1.0, 0.01, 3)]
    [1.0, 0.1, 0.01]
    """
    _check(high, low, n_levels)
    if n_levels == 1:
        return [high]
    ratio = math.log(low / high) / (n_levels - 1)
    return [high, *(high * math.exp(ratio * i) for i in range(1, n_levels - 1)), low]


def rho_grid(high: float, low: float, n_levels: int, *, rho: float = 7.0) -> list[float]:
    """Return levels whose rho-th roots are equally spaced (Karras et al. 2022, eq. 5).

    Parameters
    ----------
    high, low : float
        The ends.
    n_levels : int
        How many, both ends included; one is the higher end: a walk begins there.
    rho : float, default=7.0
        One is a linear grid; the larger, the nearer to a geometric one.

    Returns
    -------
    list of float
        The levels, decreasing.

    Raises
    ------
    ValueError
        When a parameter is not valid, or `low` is not below `high`.

    Examples
    --------
    >>> from skscore.noise import rho_grid
    >>> [round(sigma, 3) for sigma in rho_grid(1.0, 0.01, 3)]
    [1.0, 0.145, 0.01]
    """
    _check(high, low, n_levels)
    real()("rho", rho)
    if n_levels == 1:
        return [high]
    first, last = high ** (1 / rho), low ** (1 / rho)
    steps = (i / (n_levels - 1) for i in range(1, n_levels - 1))
    return [high, *((first + t * (last - first)) ** rho for t in steps), low]
