"""Laws of the random directions v, all with ``E[vv'] = I``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BITS = 30


def _gaussian(shape, generator: torch.Generator | None, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def _rademacher(shape, generator: torch.Generator | None, like: Tensor) -> Tensor:
    # Drawing a number is most of the cost, and each has bits for many signs.
    size = math.prod(shape)
    words, kind, device = (-(-size // BITS), 1), torch.int32, like.device
    drawn = torch.randint(2**BITS, words, generator=generator, dtype=kind, device=device)
    bits = (drawn >> torch.arange(BITS, dtype=kind, device=device)) & 1
    return bits.flatten()[:size].view(shape).to(like.dtype).mul_(2).sub_(1)


def _sphere(shape, generator: torch.Generator | None, like: Tensor) -> Tensor:
    # Radius sqrt(d), not 1: the norm term of the reduced form needs E[vv'] = I.
    z = _gaussian(shape, generator, like)
    return z * (math.sqrt(shape[-1]) / z.norm(dim=-1, keepdim=True))


PROJECTIONS = {"gaussian": _gaussian, "rademacher": _rademacher, "sphere": _sphere}
