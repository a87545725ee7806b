"""AdamW (Loshchilov and Hutter 2019) on one flat buffer.

``torch.optim`` is not used: its first optimiser imports the compiler stack, which takes 1.6 s and
changes the environment and the warning filters of the process. One buffer also makes a snapshot,
a restart and the gradient's norm one operation each. The step itself is torch's fused one.
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
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        flat = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        self.weights = flat.view(n_members, -1)  # a member to a row
        self.gradient = torch.zeros_like(self.weights)
        start = 0
        self._starts: dict[int, int] = {}
        for p in self.parameters:
            p.data = flat[start : start + p.numel()].view_as(p)
            self._starts[id(p)] = start
            start += p.numel()
        self.weight_decay, self.betas, self.max_norm = weight_decay, betas, max_norm
        self.n_steps = torch.zeros_like(self.weights[:, :1])
        self._first = torch.zeros_like(self.weights)
        self._second = torch.zeros_like(self.weights)
        n = self.weights.shape[1]
        self._own([[slice(start, start + n)] for start in range(0, n * n_members, n)])

    def _own(self, spans: list[list[slice]]) -> None:
        """Name the parts of the buffer that are moved here, those of each member."""
        buffers = self.weights, self.gradient, self._first, self._second
        self._parts = [[[b.view(-1)[span] for span in member] for b in buffers] for member in spans]

    def forget(self, members: Tensor) -> None:
        """Set the moments of some members to zero, as at the start."""
        for moment in (self.n_steps, self._first, self._second):
            moment[members] = 0.0

    def stacked(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        """Return a parameter of the first member, and its gradient, with those of all others.

        They are views, (n_members, ...).
        """
        start = self._starts[id(parameter)]
        span = slice(start, start + parameter.numel())
        shape = len(self.weights), *parameter.shape
        return self.weights[:, span].view(shape), self.gradient[:, span].view(shape)

    @torch.no_grad()
    def differentiate(self, loss: Tensor) -> None:
        """Set the gradient to that of `loss`."""
        parts = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        torch.cat([part.reshape(-1) for part in parts], out=self.gradient.view(-1))

    def step(self, loss: Tensor, rate: Tensor) -> None:
        """Move the weights down the gradient of `loss`, each member at its own rate (k, 1)."""
        self.differentiate(loss)
        self.move(rate)

    @torch.no_grad()
    def move(self, rate: Tensor) -> None:
        """Move the weights down the gradient that is set."""
        norm = torch.linalg.vector_norm(self.gradient, dim=1)
        excess = (norm / self.max_norm).clamp_(min=1.0).to(torch.float32)
        self.n_steps += 1
        self._move(rate, excess)

    def _move(self, rate: Tensor, excess: Tensor) -> None:
        """Divide each member's gradient by its excess, and move along the moments."""
        b1, b2 = self.betas
        members = zip(self._parts, self.n_steps, rate, excess, strict=True)
        for (weights, gradient, first, second), n_steps, own_rate, scale in members:
            # One pass over memory, where the operations one by one take twelve.
            torch._fused_adamw_(
                weights,
                gradient,
                first,
                second,
                [],
                [n_steps] * len(weights),
                lr=own_rate,
                beta1=b1,
                beta2=b2,
                weight_decay=self.weight_decay,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
                grad_scale=scale,
            )
