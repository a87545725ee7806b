"""Smooth activations: f, its first derivative f', and its second f''.

An objective holds a derivative of the network and training one more, an energy one more still, so
f must be smooth: the second derivative of a kinked one (relu) is zero wherever it exists.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


class Activation(ABC):
    """A smooth function of the pre-activations u, elementwise."""

    value: Callable[[Tensor], Tensor]

    @staticmethod
    @abstractmethod
    def slope(u: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and f'."""

    @staticmethod
    @abstractmethod
    def curve_(u: Tensor, slope: Tensor, ratio: Tensor) -> None:
        """Write f over u, and f' and ``f'' / f'``; f' is nowhere zero, maybe the least number."""

    @classmethod
    def pulled(cls, g: Tensor, u: Tensor) -> Tensor:
        """Return ``g f'``, a new tensor."""
        return cls.slope(u)[1].mul_(g)


def _not_zero(slope: Tensor) -> Tensor:
    return torch.where(slope == 0, torch.finfo(slope.dtype).tiny, slope)


class Silu(Activation):
    """``f = u g`` with the logistic g."""

    value = staticmethod(F.silu)

    @staticmethod
    def slope(u: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and ``f' = g (1 + u - f)``."""
        g = torch.sigmoid(u)
        f = u * g
        return f, g * (1 + u - f)

    @staticmethod
    def curve_(u: Tensor, slope: Tensor, ratio: Tensor) -> None:
        """Write f, f' and, over f', ``f'' = g (1 - g) + (1 - g) f' - f g (1 - g)``."""
        g = torch.sigmoid(u)
        f = u.mul_(g)
        slope.copy_(_not_zero(torch.addcmul(g, f, 1 - g)))
        torch.div((1 - g) * (g + slope - f * g), slope, out=ratio)

    @classmethod
    def pulled(cls, g: Tensor, u: Tensor) -> Tensor:
        """Return ``g f'``, in one pass."""
        return torch.ops.aten.silu_backward(g, u)


class Softplus(Activation):
    """``f = log(1 + e^u)``; f' is the logistic."""

    value = staticmethod(F.softplus)

    @staticmethod
    def slope(u: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and ``f' = g``."""
        return F.softplus(u), torch.sigmoid(u)

    @staticmethod
    def curve_(u: Tensor, slope: Tensor, ratio: Tensor) -> None:
        """Write f, f' and ``f'' / f' = 1 - g``; here ``f = u - log g``, three times as fast."""
        u.clamp_min_(math.log(torch.finfo(u.dtype).eps))  # denormal numbers are slow
        torch.sigmoid(u, out=slope)
        u.sub_(torch.log(slope, out=ratio))
        torch.sub(slope.new_ones(()), slope, out=ratio)


class Tanh(Activation):
    """``f = tanh u``."""

    value = staticmethod(torch.tanh)

    @staticmethod
    def slope(u: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and ``f' = 1 - f^2``."""
        f = torch.tanh(u)
        return f, 1 - f * f

    @staticmethod
    def curve_(u: Tensor, slope: Tensor, ratio: Tensor) -> None:
        """Write f, f' and ``f'' / f' = -2 f``."""
        slope.copy_(_not_zero(1 - u.tanh_() ** 2))
        torch.mul(u, -2, out=ratio)


class Gelu(Activation):
    """``f = u Phi(u)``, with Phi and phi the standard normal's."""

    value = staticmethod(F.gelu)

    @staticmethod
    def _normal(u: Tensor) -> tuple[Tensor, Tensor]:
        Phi = 0.5 * (1 + torch.erf(u / math.sqrt(2)))
        return Phi, torch.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)

    @staticmethod
    def slope(u: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and ``f' = Phi + u phi``."""
        Phi, phi = Gelu._normal(u)
        return u * Phi, Phi + u * phi

    @staticmethod
    def curve_(u: Tensor, slope: Tensor, ratio: Tensor) -> None:
        """Write f, f' and, over f', ``f'' = (2 - u^2) phi``."""
        Phi, phi = Gelu._normal(u)
        slope.copy_(_not_zero(Phi + u * phi))
        torch.div((2 - u * u) * phi, slope, out=ratio)
        u.mul_(Phi)


ACTIVATIONS: dict[str, type[Activation]] = {
    "gelu": Gelu,
    "silu": Silu,
    "softplus": Softplus,
    "tanh": Tanh,
}
KINKED = ("relu", "leaky_relu", "elu", "hardtanh", "relu6", "hardswish")


def activation_named(name: str) -> type[Activation]:
    """Return an activation by its name.

    Raises
    ------
    ValueError
        When there is none of that name.
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(
            f"activation={name!r} is not valid: it must be one of {', '.join(ACTIVATIONS)}; a "
            f"kinked one has no second derivative, which training needs."
        )
    return ACTIVATIONS[name]
