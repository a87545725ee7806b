"""Bandwidths of a Gaussian kernel, as shares of the data's standard deviation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar

from skscore._checks import warn
from skscore.exceptions import DataWarning

SEARCH = (0.05, 4.0)  # around Scott's value
EDGE = 1.02


def scott(n: int, d: int) -> float:
    """Return ``n^(-1 / (d + 4))`` (Scott 1992)."""
    return n ** (-1 / (d + 4))


def silverman(n: int, d: int) -> float:
    """Return ``(n (d + 2) / 4)^(-1 / (d + 4))`` (Silverman 1986, eq. 4.14)."""
    return (n * (d + 2) / 4) ** (-1 / (d + 4))


def search(held_out_score: Callable[[float], float], around: float) -> float:
    """Return the bandwidth that maximises a score, and warn when it is at the edge of the search.

    Parameters
    ----------
    held_out_score : callable
        Of one bandwidth; greater is better.
    around : float
        The search goes over ``SEARCH`` times this, on a log scale.
    """
    low, high = np.log(around * np.asarray(SEARCH))
    found = minimize_scalar(
        lambda log_h: -held_out_score(float(np.exp(log_h))),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-3},
    )
    h = float(np.exp(found.x))
    if min(h / np.exp(low), np.exp(high) / h) < EDGE:
        warn(
            f"bandwidth='cv' ended at the edge of its search, {h:.3g} standard deviations. "
            f"Repeated rows push it down, far outliers push it up: look at the data, or set "
            f"bandwidth yourself.",
            DataWarning,
        )
    return h
