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
        betas: tuple[float, float] = (0.9, 0.99),
        max_norm: float = 10.0,
    ):
        parameters = [p for p in module.parameters() if p.requires_grad]
        self.weights = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradient = torch.zeros_like(self.weights)
        start = 0
        for p in parameters:
            span = slice(start, start + p.numel())
            p.data = self.weights[span].view_as(p)
            p.grad = self.gradient[span].view_as(p)  # backward accumulates in place
            start = span.stop
        self.weight_decay, self.betas, self.max_norm = weight_decay, betas, max_norm
        self.forget()

    def forget(self) -> None:
        """Set the moments to zero, as at the start."""
        self.n_steps = 0
        self._first = torch.zeros_like(self.weights)
        self._second = torch.zeros_like(self.weights)

    @torch.no_grad()
    def step(self, loss: Tensor, rate: float) -> None:
        """Move the weights down the gradient of `loss`."""
        self.gradient.zero_()
        with torch.enable_grad():
            loss.backward()
        norm = torch.linalg.vector_norm(self.gradient)
        g = self.gradient.mul_((self.max_norm / (norm + 1e-12)).clamp(max=1.0))
        b1, b2 = self.betas
        self.n_steps += 1
        self._first.lerp_(g, 1 - b1)
        self._second.mul_(b2).addcmul_(g, g, value=1 - b2)
        scale = (self._second / (1 - b2**self.n_steps)).sqrt_().add_(1e-8)
        self.weights.mul_(1 - rate * self.weight_decay)
        self.weights.addcdiv_(self._first, scale, value=-rate / (1 - b1**self.n_steps))
