"""Laws of the random directions v, all with ``E[vv'] = I``."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _gaussian(shape, generator: torch.Generator | None, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def _rademacher(shape, generator: torch.Generator | None, like: Tensor) -> Tensor:
    bits = torch.randint(2, shape, generator=generator, dtype=like.dtype, device=like.device)
    return bits.mul_(2).sub_(1)


def _sphere(shape, generator: torch.Generator | None, like: Tensor) -> Tensor:
    # Radius sqrt(d), not 1: the norm term of the reduced form needs E[vv'] = I.
    z = _gaussian(shape, generator, like)
    return z * (math.sqrt(shape[-1]) / z.norm(dim=-1, keepdim=True))


PROJECTIONS = {"gaussian": _gaussian, "rademacher": _rademacher, "sphere": _sphere}
