"""The probability flow in coordinates w, in which the blurred Gaussian is N(0, I) at each level.

``tau = log sigma``; ``dw/dtau = v(w, sigma)``. The flow carries the density along (the
instantaneous change of variables, Chen et al. 2018, eq. 8): ``d log p_w / dtau = -tr dv/dw``. For
Gaussian data v = 0, so that codes and densities are exact, whatever the grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skscore._autodiff import ScoreFn, value_and_curvature, value_and_divergence
from skscore._checks import integer, real
from skscore._integrate import solve

Velocity = Callable[[float], ScoreFn]  # the velocity at a level


def log_grid(first: float, last: float, n_steps: int) -> list[float]:
    """Return n_steps + 1 values of tau, from one level to another, equally spaced.

    Parameters
    ----------
    first, last : float
        Noise levels, of which either may be the larger.
    n_steps : int
        Steps between them.

    Returns
    -------
    list of float
        ``log sigma`` at the ends of the steps.

    Raises
    ------
    ValueError
        When a parameter is not valid.

    Examples
    --------
    >>> from skscore.density import log_grid
    >>> [round(tau, 2) for tau in log_grid(0.1, 10.0, 2)]
    [-2.3, 0.0, 2.3]
    """
    real()("first", first)
    real()("last", last)
    integer(1)("n_steps", n_steps)
    a, b = math.log(first), math.log(last)
    return [a + (b - a) * i / n_steps for i in range(n_steps + 1)]


def carry(velocity: Velocity, w: Tensor, taus: Sequence[float], scheme: str = "rk4") -> Tensor:
    """Return rows carried along the flow.

    Parameters
    ----------
    velocity : callable
        ``velocity(sigma)`` is a field, (n, d) -> (n, d).
    w : Tensor of shape (n, d)
        Rows at the first level.
    taus : sequence of float
        Logs of the levels.
    scheme : {"heun", "rk4"}, default="rk4"
        Of second or of fourth order.

    Returns
    -------
    Tensor of shape (n, d)
        Rows at the last level.

    Examples
    --------
    >>> import torch
    >>> from skscore.density import carry
    >>> carry(lambda sigma: torch.neg, torch.ones(1, 1), [0.0, 0.5, 1.0]).round(decimals=3)
    tensor([[0.3680]])
    """
    return solve(lambda y, tau: velocity(math.exp(tau))(y), w, taus, scheme)


def flow_log_density(
    velocity: Velocity,
    w: Tensor,
    taus: Sequence[float],
    *,
    directions: Tensor | None = None,
    scheme: str = "rk4",
) -> Tensor:
    """Return the log density of rows at the first level, that at the last being N(0, I).

    Parameters
    ----------
    velocity : callable
        ``velocity(sigma)`` is a field, (n, d) -> (n, d).
    w : Tensor of shape (n, d)
        Rows at the first level.
    taus : sequence of float
        Logs of the levels.
    directions : Tensor of shape (m, n, d), optional
        With ``E[vv'] = I``, each kept along the whole path: then the trace is Hutchinson's, and
        there are m estimates (Grathwohl et al. 2019). By default it is exact.
    scheme : {"heun", "rk4"}, default="rk4"
        Of second or of fourth order.

    Returns
    -------
    Tensor of shape (1, n) or (m, n)
        In nats, in coordinates w.

    Examples
    --------
    >>> import torch
    >>> from skscore.density import flow_log_density
    >>> still = lambda sigma: torch.zeros_like
    >>> round(flow_log_density(still, torch.zeros(1, 2), [0.0, 1.0]).item(), 3)
    -1.838
    """
    d = w.shape[-1]
    n_traces = 1 if directions is None else len(directions)

    def rate(y: Tensor, tau: float) -> Tensor:
        field = velocity(math.exp(tau))
        if directions is None:
            v, trace = value_and_divergence(field, y[:, :d])
            return torch.cat([v, trace[:, None]], dim=1)
        v, traces = value_and_curvature(field, y[:, :d], directions, directions)
        return torch.cat([v, traces.T], dim=1)

    y = solve(rate, torch.cat([w, w.new_zeros(len(w), n_traces)], dim=1), taus, scheme)
    end = -0.5 * (y[:, :d] ** 2 + math.log(2 * math.pi)).sum(dim=1)
    return end + y[:, d:].T
