"""Steps of an ordinary differential equation ``dy/dt = rate(y, t)`` on a grid of t."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from skscore._checks import option

Rate = Callable[[Tensor, float], Tensor]


def _heun(rate: Rate, y: Tensor, t: float, h: float) -> Tensor:
    k1 = rate(y, t)
    k2 = rate(y + h * k1, t + h)
    return y + (h / 2) * (k1 + k2)


def _rk4(rate: Rate, y: Tensor, t: float, h: float) -> Tensor:
    k1 = rate(y, t)
    k2 = rate(y + (h / 2) * k1, t + h / 2)
    k3 = rate(y + (h / 2) * k2, t + h / 2)
    k4 = rate(y + h * k3, t + h)
    return y + (h / 6) * (k1 + 2 * (k2 + k3) + k4)


SCHEMES = {"heun": _heun, "rk4": _rk4}  # of order two and four


def solve(rate: Rate, y: Tensor, grid: Sequence[float], scheme: str = "rk4") -> Tensor:
    """Return y at the end of the grid; each row goes its own way."""
    option(*SCHEMES)("scheme", scheme)
    step = SCHEMES[scheme]
    for t, after in pairwise(grid):
        y = step(rate, y, t, after - t)
    return y
