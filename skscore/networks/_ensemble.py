"""Several networks of one design as one field: their mean.

Rows (n, d) go through every member, and the field is the mean. Rows (k, n, d), as in training, are
each member's own: nothing is averaged, so that one pass trains all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from skscore._autodiff import floats_per_row as floats_of
from skscore._autodiff import (
    value_and_curvature,
    value_and_divergence,
    value_and_jvp,
    value_and_products,
)
from skscore._checks import refuse
from skscore.networks._conjugate import bind, conjugate
from skscore.networks._mlp import MLP, Layer, LayeredNetwork
from skscore.networks._noise_conditional import (
    ConditionalNetwork,
    FixedNetwork,
    NoiseConditionalMLP,
)
from skscore.networks._restricted import Between, ConditionalRestricted, Restricted


class _Stack(LayeredNetwork):
    """Perceptrons of one design, evaluated together: each product is one batched product."""

    def __init__(self, networks: Sequence[LayeredNetwork]):
        super().__init__()
        self.members = nn.ModuleList(networks)
        self.activation = networks[0].activation

    @property
    def layers(self) -> list[Layer]:
        columns = zip(*(network.layers for network in self.members), strict=True)
        return [
            (torch.stack([W for W, _ in layer]), torch.stack([b for _, b in layer]))
            for layer in columns
        ]


class _RestrictedStack(_Stack, Between):
    """Restricted perceptrons of one design, evaluated together."""

    @property
    def network(self) -> LayeredNetwork:  # type: ignore[override]
        return _Stack([restricted.network for restricted in self.members])  # type: ignore[misc]

    @property
    def basis(self) -> Tensor:  # type: ignore[override]
        return torch.stack([restricted.basis for restricted in self.members])  # type: ignore[misc]


class _ConditionalStack(ConditionalNetwork, _Stack):
    """Conditional perceptrons of one design, evaluated together."""

    def __init__(self, networks: Sequence[NoiseConditionalMLP | ConditionalRestricted]):
        super().__init__(networks)
        self.sizes = networks[0].sizes
        self.register_buffer("frequencies", networks[0].frequencies, persistent=False)

    @property
    def film(self) -> Tensor:  # type: ignore[override]
        return torch.stack([network.film for network in self.members])  # type: ignore[misc]


class _Loop(nn.Module):
    """Networks of any kind, one after the other."""

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(networks)

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        columns = zip(self.members, x, *condition, strict=True)
        return torch.stack([f(*rows) for f, *rows in columns])


STACKS = {
    MLP: _Stack,
    FixedNetwork: _Stack,
    Restricted: _RestrictedStack,
    NoiseConditionalMLP: _ConditionalStack,
    ConditionalRestricted: _ConditionalStack,
}


def _design(network: nn.Module) -> tuple:
    """Return what networks have in common that can be evaluated together."""
    shapes = tuple(p.shape for p in network.parameters())
    return type(network), getattr(network, "activation", None), shapes


class Ensemble(nn.Module):
    """The mean of several networks.

    Parameters
    ----------
    networks : sequence of nn.Module
        One or more; perceptrons of one design are evaluated together.

    Raises
    ------
    ValueError
        When there is no network.

    Examples
    --------
    >>> import torch
    >>> from skscore.networks import MLP, Ensemble
    >>> stream = torch.Generator().manual_seed(0)
    >>> Ensemble([MLP(2, 2, generator=stream) for _ in range(3)])(torch.ones(1, 2)).shape
    torch.Size([1, 2])
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        if not networks:
            raise refuse("networks", networks, "one network or more")
        (design, *others) = {_design(network) for network in networks}
        self.stack = (_Loop if others else STACKS.get(design[0], _Loop))(networks)  # type: ignore[operator, arg-type]

    def __len__(self) -> int:
        return len(self.stack.members)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.stack.members)

    @property
    def shares_conditions(self) -> bool:
        """Whether neighbouring rows may share a condition."""
        return isinstance(self.stack, ConditionalNetwork)

    def _each(self, x: Tensor) -> tuple[Tensor, bool]:
        """Return rows for each member, and whether they are the same rows."""
        shared = x.dim() == 2
        return (x.expand(len(self), *x.shape) if shared else x), shared

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        """Return the mean over the members, or each member's own values."""
        rows, shared = self._each(x)
        s = self.stack(rows, *(self._each(c)[0] for c in condition))
        return s.mean(dim=0) if shared else s

    def at(self, condition: Tensor) -> Ensemble:
        """Return the ensemble of rows alone, at one condition (1,)."""
        return Ensemble([bind(network, condition) for network in self.stack.members])

    def between(self, inside: Tensor, outside: Tensor) -> Ensemble:
        """Return ``x -> ensemble(x inside) outside`` for two matrices."""
        return Ensemble([conjugate(network, inside, outside) for network in self.stack.members])

    def value_and_jvp(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``s`` and ``J v``."""
        rows, shared = self._each(x)
        if not shared:
            return value_and_jvp(self.stack, rows, v)
        s, jv = value_and_jvp(self.stack, rows, v.unsqueeze(1).expand(-1, len(self), -1, -1))
        return s.mean(dim=0), jv.mean(dim=1)

    def value_and_curvature(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``s`` and ``w' J v``."""
        rows, shared = self._each(x)
        if not shared:
            return value_and_curvature(self.stack, rows, v, w)
        v, w = (each.unsqueeze(1).expand(-1, len(self), -1, -1) for each in (v, w))
        s, curvature = value_and_curvature(self.stack, rows, v, w)
        return s.mean(dim=0), curvature.mean(dim=1)

    def value_and_products(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``s``, ``J v``, and ``J' w`` for w at the first rows."""
        rows, shared = self._each(x)
        if not shared:
            return value_and_products(self.stack, rows, v, w)
        v = v.unsqueeze(1).expand(-1, len(self), -1, -1)
        s, jv, jw = value_and_products(self.stack, rows, v, w.expand(len(self), *w.shape))
        return s.mean(dim=0), jv.mean(dim=1), jw.mean(dim=0)

    def value_and_divergence(self, x: Tensor, metric: Tensor | None = None):
        """Return ``s`` and ``tr(A J)``."""
        rows, shared = self._each(x)
        s, divergence = value_and_divergence(self.stack, rows, metric)
        return (s.mean(dim=0), divergence.mean(dim=0)) if shared else (s, divergence)

    def floats_per_row(self, n_features: int) -> int:
        """Return about how many numbers `value_and_divergence` holds at once, for one row."""
        return len(self) * floats_of(self.stack, n_features)
