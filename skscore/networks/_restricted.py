"""A perceptron that acts in a few directions: ``x -> V f(V' x)``, f of fewer columns.

So is the residual score of data that are Gaussian in every other direction: where
``p(x) = g(V'x) N(x)``, its score less that of N is ``V grad log g (V'x)``. V is learnt with f.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from skscore.networks._mlp import MLP, Layer, LayeredNetwork
from skscore.networks._noise_conditional import ConditionalNetwork, NoiseConditionalMLP


class Between(LayeredNetwork):
    """Abstract base: a perceptron, or several at once, between a basis V and its transpose."""

    network: LayeredNetwork
    basis: Tensor

    def value_and_divergence(self, x: Tensor, metric: Tensor | None = None):
        """Return a field, not an energy, and its ``tr(A J) = tr(V' A V J_f)`` in m columns."""
        V = self.basis
        inner = V.mT @ V if metric is None else V.mT @ metric @ V
        s, divergence = self.network.value_and_divergence(x @ V, inner)
        return s @ V.mT, divergence

    def floats_per_row(self, n_features: int) -> int:
        """Return about how many numbers `value_and_divergence` holds at once, for one row."""
        return self.network.floats_per_row(self.basis.shape[-1]) + 4 * n_features


class Restricted(Between):
    """A perceptron of m columns between a basis and its transpose.

    Parameters
    ----------
    network : MLP
        f, of m columns, and m outputs or one.
    basis : Tensor of shape (n_features, m)
        V at the start; a parameter.
    field : bool
        Whether the values are rows too, and leave through V; those of an energy do not.
    """

    def __init__(self, network: MLP, basis: Tensor, *, field: bool):
        super().__init__()
        self.network: MLP = network
        self.field = field
        self.activation = network.activation
        self.basis = nn.Parameter(basis)

    @property
    def layers(self) -> list[Layer]:
        """W and b of each layer of the whole."""
        V, layers = self.basis, self.network.layers
        W, b = layers[0]
        layers[0] = V @ W, b
        if self.field:
            W, b = layers[-1]
            layers[-1] = W @ V.mT, b @ V.mT
        return layers


class ConditionalRestricted(ConditionalNetwork, Restricted):
    """The same of a perceptron whose hidden layers see the noise level."""

    def __init__(self, network: NoiseConditionalMLP, basis: Tensor, *, field: bool):
        super().__init__(network, basis, field=field)
        self.sizes = network.sizes
        self.register_buffer("frequencies", network.frequencies, persistent=False)

    @property
    def film(self) -> Tensor:  # type: ignore[override]
        """Weights of the scales and shifts."""
        return self.network.film  # type: ignore[return-value]


RESTRICTED = {MLP: Restricted, NoiseConditionalMLP: ConditionalRestricted}


def restrict(network: MLP, basis: Tensor, *, field: bool = True) -> Restricted:
    """Return ``x -> V V' network(V V' x)`` as a network of its own.

    Parameters
    ----------
    network : MLP or NoiseConditionalMLP
        It is left as it is.
    basis : Tensor of shape (n_features, m)
        V, orthonormal.
    field : bool, default=True
        Whether its values are rows; those of an energy stay as they are.

    Returns
    -------
    Restricted
        With parameters of its own.

    Examples
    --------
    >>> import torch
    >>> from skscore.networks import MLP, restrict
    >>> network = MLP(3, 3, generator=torch.Generator().manual_seed(0))
    >>> restrict(network, torch.eye(3)[:, :1]).basis.shape
    torch.Size([3, 1])
    """
    small = copy.deepcopy(network)
    with torch.no_grad():
        small.weights[0] = nn.Parameter(basis.mT @ small.weights[0])
        if field:
            small.weights[-1] = nn.Parameter(small.weights[-1] @ basis)
            small.biases[-1] = nn.Parameter(small.biases[-1] @ basis)
    kind = RESTRICTED[type(network)]
    return kind(small, basis.clone(), field=field)  # type: ignore[arg-type]


@torch.no_grad()
def widen(restricted: Restricted, network: MLP) -> None:
    """Give a network the weights with which it equals one that was restricted from it.

    Parameters
    ----------
    restricted : Restricted
        Where the weights come from.
    network : MLP or NoiseConditionalMLP
        It is written to.
    """
    for (W, b), (W_new, b_new) in zip(network.layers, restricted.layers, strict=True):
        W.copy_(W_new)
        b.copy_(b_new)
    if isinstance(network, NoiseConditionalMLP):
        network.film.copy_(restricted.film)  # type: ignore[attr-defined, arg-type]
