"""Noise of its own for each row, so that what is drawn for one does not depend on the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skscore import _torch


class RowNoise:
    """One stream of noise to a row.

    Parameters
    ----------
    seeds : sequence of int
        One for each row.
    device : torch.device
        Where the streams are drawn.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device):
        self.streams = [_torch.generator(seed, device) for seed in seeds]
        self.device = device

    def of_mixtures(self, k: int, d: int) -> tuple[Tensor, Tensor]:
        """Return noise for k draws of mixtures: uniform (n, k) and normal (n, k, d)."""
        return self.uniform(k), self.normal(k, d)

    def normal(self, *shape: int) -> Tensor:
        """Return normal noise, (n, *shape)."""
        return self._stacked(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Return noise that is uniform in [0, 1), (n, *shape)."""
        return self._stacked(torch.rand, shape)

    def _stacked(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        options = {"dtype": torch.float64, "device": self.device}
        return torch.stack([draw(shape, generator=stream, **options) for stream in self.streams])
