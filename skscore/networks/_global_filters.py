"""Filters as large as the image: what lies far apart is seen together in one layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GlobalFilters(nn.Module):
    """Filters that find a form anywhere in the image, and filters that draw one there.

    Added to its input: ``leave(far2(f(mix(f(film(far1(enter(norm(x)))))))))``, where `far` has one
    filter to a channel, which reaches from any pixel to any other, and all else is between the
    channels of a pixel. As in Rao et al. (2021), whose filters wrap around; these end at the edge.

    Parameters
    ----------
    norm : nn.Module
        Of the channels that come in.
    enter, mix, leave : nn.Module
        Convolutions of one pixel, to as many channels as there are filters, among them, and back.
    film : nn.Module
        From the embedding of the noise level to a gain and a shift of each channel.
    find, draw : Tensor of shape (n_filters, 1, 2 height - 1, 2 width - 1)
        The initial filters.
    f : callable
        The activation.
    """

    index: Tensor

    def __init__(self, norm, enter, mix, leave, film, find: Tensor, draw: Tensor, f):
        super().__init__()
        self.norm, self.enter, self.mix, self.leave = norm, enter, mix, leave
        self.film, self.f = film, f
        # Four axes, as a convolution has: the optimiser takes them for what they are.
        self.find, self.draw = nn.Parameter(find), nn.Parameter(draw)
        n_rows, n_columns = find.shape[2:]
        rows, columns = _offsets(n_rows), _offsets(n_columns)
        index = rows[:, None, :, None] * n_columns + columns[None, :, None, :]
        self.register_buffer("index", index.flatten(), persistent=False)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return what enters and what the filters add, (n, c, height, width)."""
        gain, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        found = self._far(self.enter(self.norm(x)), self.find)
        found = self.f(self.mix(self.f(found * (1 + gain) + shift)))
        drawn = self.leave(self._far(found, self.draw))
        return (x + drawn).contiguous(memory_format=torch.channels_last)

    def _far(self, x: Tensor, filters: Tensor) -> Tensor:
        """Convolve each channel with its filter, as a product of matrices: 196 pixels are few."""
        n_pixels = x.shape[2] * x.shape[3]
        flat = filters.to(x.dtype).flatten(1)
        matrices = flat.index_select(1, self.index).unflatten(1, (n_pixels, n_pixels))
        out = torch.bmm(x.flatten(2).transpose(0, 1), matrices.mT)
        return out.transpose(0, 1).unflatten(2, x.shape[2:])


def _offsets(size: int) -> Tensor:
    """Return the entry of a filter, of 2 n - 1, that leads from each of n places to each other."""
    places = torch.arange((size + 1) // 2, device="cpu")
    return places[:, None] - places[None, :] + size // 2
