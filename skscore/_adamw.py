"""AdamW (Loshchilov and Hutter 2019) on one flat buffer.

``torch.optim`` is not used: its first optimiser imports the compiler stack, which takes 1.6 s and
changes the environment and the warning filters of the process. One buffer also makes a snapshot,
a restart and the gradient's norm one operation each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AdamW:
    """Optimiser that owns the parameters of a module as views of `weights`.

    Parameters
    ----------
    module : nn.Module
        Its trainable parameters become views of one buffer, and stay so.
    weight_decay : float
        Decoupled, multiplied by the rate of the step.
    n_members : int, default=1
        Networks in the module, one after the other and of equal size: each is clipped, and may be
        slowed down and begun again, by itself.
    betas : (float, float), default=(0.9, 0.99)
        Decay of the first and the second moment.
    max_norm : float, default=10.0
        The gradient is scaled down to this norm.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        weight_decay: float,
        n_members: int = 1,
        betas: tuple[float, float] = (0.9, 0.99),
        max_norm: float = 10.0,
    ):
        parameters = [p for p in module.parameters() if p.requires_grad]
        flat = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.weights = flat.view(n_members, -1)  # a member to a row
        self.gradient = torch.zeros_like(self.weights)
        start = 0
        for p in parameters:
            span = slice(start, start + p.numel())
            p.data = flat[span].view_as(p)
            p.grad = self.gradient.view(-1)[span].view_as(p)  # backward accumulates in place
            start = span.stop
        self.weight_decay, self.betas, self.max_norm = weight_decay, betas, max_norm
        self.n_steps = torch.zeros_like(self.weights[:, :1])
        self._first = torch.zeros_like(self.weights)
        self._second = torch.zeros_like(self.weights)

    def forget(self, members: Tensor) -> None:
        """Set the moments of some members to zero, as at the start."""
        for moment in (self.n_steps, self._first, self._second):
            moment[members] = 0.0

    @torch.no_grad()
    def step(self, loss: Tensor, rate: Tensor) -> None:
        """Move the weights down the gradient of `loss`, each member at its own rate (k, 1)."""
        self.gradient.zero_()
        with torch.enable_grad():
            loss.backward()
        norm = torch.linalg.vector_norm(self.gradient, dim=1, keepdim=True)
        g = self.gradient.mul_((self.max_norm / (norm + 1e-12)).clamp(max=1.0))
        b1, b2 = self.betas
        self.n_steps += 1
        self._first.lerp_(g, 1 - b1)
        self._second.mul_(b2).addcmul_(g, g, value=1 - b2)
        self.weights.mul_(1 - rate * self.weight_decay)
        self.weights.sub_(self._direction().mul_(rate))

    def _direction(self) -> Tensor:
        """Return how far the weights move at a rate of one."""
        b1, b2 = self.betas
        scale = (self._second / (1 - b2**self.n_steps)).sqrt_().add_(1e-8)
        return (self._first / scale).div_(1 - b1**self.n_steps)
