"""What becomes of a chain that runs away.

A learnt field is only right where there were data. A few chains that leave their reach begin again
where they started; when many do, the step is too long, and that is an error and never a number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skscore._checks import warn
from skscore.exceptions import DivergenceError, SamplingWarning

FAR = 1e3  # times the largest norm at the start: the reach when none is given
MANY = 0.5  # share of the chains that may begin again
FEW = 0.01  # share that is not worth a warning


def check_start(x: Tensor) -> None:
    """Raise ValueError for what is no rows to start from."""
    if not isinstance(x, Tensor) or x.dim() != 2 or not len(x) or not x.is_floating_point():
        kind = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x must be a floating-point tensor of rows (n, d), n >= 1; it is {kind}.")
    lost = ~x.isfinite().all(dim=1)
    if lost.any():
        raise ValueError(
            f"x has NaN or infinity in row {int(lost.int().argmax())}: chains start at finite rows."
        )


class Guard:
    """Watch chains over one run of a sampler.

    Parameters
    ----------
    start : Tensor of shape (n, d)
        Where the chains start.
    step_size : float
        eta, for the message.
    reach : float or None
        Norm beyond which a point counts as lost.
    """

    def __init__(self, start: Tensor, step_size: float, reach: float | None):
        self.start, self.step_size = start, step_size
        self.reach = reach or FAR * (1.0 + float(start.norm(dim=1).max()))
        self.lost = torch.zeros(len(start), dtype=torch.bool, device=start.device)

    def keep(self, step: int, x: Tensor) -> Tensor:
        """Return the points, the lost ones set back; raise DivergenceError when they are many."""
        lost = ~(x.norm(dim=1) <= self.reach)  # also true for NaN
        if not bool(lost.any()):
            return x
        self.lost |= lost
        if int(self.lost.sum()) > MANY * len(x):
            raise DivergenceError(
                f"the chain diverged at step {step}: use step_size < {self.step_size:g}, or the "
                f"automatic one of an estimator (step_size=None)."
            )
        return torch.where(lost[:, None], self.start, x)

    def report(self) -> None:
        """Warn when more than a few chains were set back."""
        if int(self.lost.sum()) > FEW * len(self.start):
            warn(
                "some chains left the reach of the rows that they began at, where a fitted field "
                "is not to be trusted, and began again where they started.",
                SamplingWarning,
            )
