"""Muon (Jordan et al. 2024): the weights of convolutions move along their orthogonalised momentum.

Each convolution is a matrix, channels out x (channels in x its window), and all its directions
move equally far, those of small gradients too. The rest of a module moves as AdamW moves it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skscore._adamw import AdamW

N_ITERATIONS = 5  # of the orthogonalisation
QUINTIC = 3.4445, -4.7750, 2.0315  # its polynomial: singular values of (0, 1] come near 1
SMALL = 1e-7  # norm below which a momentum counts as none: what has no gradient comes to rest
LENGTH = 0.1  # of a step, root mean square of its entries, where AdamW's are nearly 1


def orthogonal(M: Tensor) -> Tensor:
    """Return about ``U V'`` of ``M = U S V'``, by Newton-Schulz steps.

    They are taken on the square matrix ``M M'``, with which all their factors commute: only the
    product that makes it and one at the end are as large as M.

    Parameters
    ----------
    M : Tensor of shape (p, q)
        Any matrix.

    Returns
    -------
    Tensor of shape (p, q)
        Its singular values are between 0.6 and 1.3 where those of M are at least a hundredth of the
        norm of M, and smaller below; nearly zero where that norm is far below ``SMALL``.
    """
    a, b, c = QUINTIC
    wide = M if M.shape[0] <= M.shape[1] else M.T
    X = wide / (torch.linalg.matrix_norm(wide) + SMALL)
    S = X @ X.T
    eye = torch.eye(len(S), dtype=S.dtype, device=S.device)
    factor = eye
    for _ in range(N_ITERATIONS):
        P = a * eye + b * S + c * (S @ S)
        factor, S = P @ factor, P @ S @ P
    X = factor @ X
    return X if wide is M else X.T


def has_convolutions(module: nn.Module) -> bool:
    """Tell whether a module trains weights (channels out, channels in, height, width)."""
    return any(p.dim() == 4 for p in module.parameters() if p.requires_grad)


class Muon(AdamW):
    """Optimiser that owns the parameters of a module, which has convolutions; as AdamW."""

    def __init__(self, module: nn.Module, **options):
        super().__init__(module, **options)
        self._convolutions = []
        others: list[list[slice]] = [[] for _ in self.weights]
        start = 0
        for p in self.parameters:
            span, member = slice(start, start + p.numel()), start // self.weights.shape[1]
            if p.dim() == 4:
                self._convolutions.append((span, member, len(p)))
            else:
                others[member].append(span)
            start = span.stop
        self._own(others)

    def _move(self, rate: Tensor, excess: Tensor) -> None:
        super()._move(rate, excess)
        weights, gradient, momentum = (
            buffer.view(-1) for buffer in (self.weights, self.gradient, self._first)
        )
        for span, member, n_rows in self._convolutions:
            own_rate = rate[member]
            momentum[span].lerp_(gradient[span] / excess[member], 1 - self.betas[0])
            M = orthogonal(momentum[span].view(n_rows, -1))
            weights[span] *= 1 - own_rate * self.weight_decay
            weights[span] -= own_rate * LENGTH * max(M.shape) ** 0.5 * M.flatten()
