"""A chain that runs away is an error, never a number."""

from __future__ import annotations

from torch import Tensor

from skscore.exceptions import DivergenceError

FAR = 1e3  # times the reach of the starting points


class Guard:
    """Watch chains for points that are not finite or absurdly far from where they started."""

    def __init__(self, x: Tensor, step_size: float):
        self.limit = FAR * (1.0 + float(x.abs().max()))
        self.step_size = step_size

    def check(self, step: int, x: Tensor) -> None:
        """Raise DivergenceError when a chain has left."""
        if not bool(x.abs().max() <= self.limit):  # also true for NaN
            raise DivergenceError(
                f"the chain diverged at step {step}: use step_size < {self.step_size:g}, or the "
                f"automatic one (step_size=None)."
            )
