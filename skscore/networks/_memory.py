"""What a network remembers of the training rows: their mean, weighed by how near they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

N_ASKED = 256  # rows that the bandwidth is chosen on
N_BANDWIDTHS = 12  # that are tried: their squares halve, from the rows' own spread on
N_MARKS = 3  # random projections that tell a row from others
SAME = 1e-4  # difference of two marks, over their spread, up to which rows are one
LEFT_OUT = -1e9  # log of a weight that is none; finite, for a memory of one row


class Memory(nn.Module):
    """The mean of remembered rows r, each weighed by ``exp(-||x - r||^2 / 2 (sigma^2 + b^2))``.

    So a kernel density estimate of bandwidth b that is blurred as x is (Nadaraya 1964): its field
    is this mean less x, over ``sigma^2 + b^2``. With b = 0 it would be the best denoiser of the
    remembered rows alone, and a network that saw it would learn these by heart. So a row that is
    trained on does not see itself, and b is chosen so that rows are nearest to the mean of the
    others. Of rows that are equal one is out of sight: data that repeat are known to repeat.

    References
    ----------
    Nadaraya (1964), "On estimating regression", Theory of Probability and its Applications 9.

    Examples
    --------
    >>> import torch
    >>> from skscore.networks import Memory
    >>> memory = Memory()
    >>> memory.remember(torch.tensor([[0.0, 0.0], [2.0, 2.0]]))
    >>> memory(torch.ones(1, 2), torch.ones(1, 1))
    tensor([[1., 1.]])
    """

    rows: Tensor
    offsets: Tensor
    marks: Tensor
    projections: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.variance = 0.0  # b^2
        self.own: Tensor | None = None  # what the next rows were before noise came, if known
        for name in ("rows", "offsets", "marks", "projections"):
            empty = torch.empty(0, dtype=torch.float32, device="cpu")
            self.register_buffer(name, empty, persistent=False)

    def remember(self, rows: Tensor) -> None:
        """Keep rows in place of all others.

        Parameters
        ----------
        rows : Tensor of shape (m, d)
            Without noise.
        """
        stream = torch.Generator().manual_seed(0)
        shape = rows.shape[1], N_MARKS
        directions = torch.randn(shape, generator=stream, dtype=torch.float32, device="cpu")
        self.rows, self.offsets = rows, 0.5 * rows.square().sum(dim=1)
        self.projections = directions.to(rows) / rows.norm(dim=1).square().mean().sqrt()
        self.marks = rows @ self.projections
        self._choose()

    @torch.no_grad()
    def _choose(self) -> None:
        """Choose the bandwidth: rows are predicted by the others."""
        asked = self.rows[:: -(-len(self.rows) // N_ASKED)]
        spread = self.rows.var(dim=0, correction=0).sum()
        logits, without, error = self._logits(asked), self._without(asked), torch.inf
        for k in range(N_BANDWIDTHS):
            variance = float(2.0**-k * spread)
            mean = (logits / variance + without).softmax(dim=1) @ self.rows
            own = float((mean - asked).square().sum())
            if own < error:
                self.variance, error = variance, own

    def _logits(self, x: Tensor) -> Tensor:
        """Return ``x'r - r'r / 2`` for each row and each r, (n, m)."""
        return x @ self.rows.T - self.offsets

    def _without(self, own: Tensor) -> Tensor:
        """Return the log of the share of each r that is left where one like `own` is taken away."""
        apart = (own @ self.projections).unsqueeze(1) - self.marks
        same = apart.abs().amax(dim=2) < SAME
        left = torch.log1p(-1 / same.sum(dim=1, keepdim=True).to(own)).clamp(min=LEFT_OUT)
        return torch.where(same, left, torch.zeros_like(left))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the mean that each row sees.

        Parameters
        ----------
        x : Tensor of shape (n, d)
            Rows with noise.
        sigma : Tensor of shape (n, 1)
            Its level, in the units of the rows.

        Returns
        -------
        Tensor of shape (n, d)
        """
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 has no digits for these
            logits = self._logits(x) / (sigma**2 + self.variance)
            weights = (logits if self.own is None else logits + self._without(self.own)).softmax(1)
        return weights @ self.rows
