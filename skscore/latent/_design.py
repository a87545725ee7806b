"""What it takes to build the networks of a fitted model again, beside their weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skscore import _torch
from skscore._validation import describe, refuse
from skscore.latent._encoders import ConditionalScore, Encoder, ImplicitEncoder
from skscore.latent._likelihood import BernoulliDecoder, Decoder, GaussianDecoder
from skscore.latent._training import VAE
from skscore.networks import MLP

Array = NDArray[np.float64]
Factory = Callable[..., nn.Module]


@dataclass(frozen=True, eq=False)
class Columns:
    """How the columns of X are standardised: ``u = (x - location) / scale``."""

    location: Array
    scale: Array
    varying: NDArray[np.bool_]

    @classmethod
    def of(cls, X: Array, likelihood: str, names: NDArray | None) -> Columns:
        """Measure training rows: each column has its own scale, and pixels have one."""
        if likelihood == "gaussian":
            moments = describe(X, names, density=False)
            scale = np.where(moments.varying, moments.scale, 1.0)
            return cls(moments.mean, scale, moments.varying)
        deviation = float(np.sqrt(X.var(axis=0).mean())) or 1.0
        return cls(X.mean(axis=0), np.full(X.shape[1], deviation), np.ones(X.shape[1], bool))

    def refuse_offset(self, most: float) -> None:
        """Raise ValueError for a column whose mean is more than that many deviations from zero."""
        away = np.where(self.varying, np.abs(self.location) / self.scale, 0.0)
        j = int(np.argmax(away))
        if away[j] > most:
            raise ValueError(
                f"X is too far from zero for a decoder that learns in the units of X: column {j} "
                f"has mean {self.location[j]:.4g} and deviation {self.scale[j]:.4g}. Standardise X "
                f"first, or give a decoder without trainable parameters."
            )

    def standardise(self, X: Array) -> Array:
        """Return u; a constant column is zero."""
        return np.where(self.varying, (X - self.location) / self.scale, 0.0)

    def restore(self, U: Array) -> Array:
        """Return x."""
        return self.location + self.scale * U

    @property
    def log_volume(self) -> float:
        """``log |dx/du|`` over the columns that vary."""
        return float(np.log(self.scale[self.varying]).sum())


@dataclass(frozen=True, eq=False)
class Design:
    """The networks' sizes and fixed parts."""

    encoder: type[Encoder]
    n_components: int
    hidden_layer_sizes: Sequence[int]
    activation: str
    likelihood: str
    columns: Columns
    decoder: Factory | None
    noise: float | None  # in the units of X, when it is known

    @property
    def log_volume(self) -> float:
        """What a loss in standardised columns lacks, in nats a row; greys are not standardised."""
        return self.columns.log_volume if self.likelihood == "gaussian" else 0.0

    def build(self, seed: int, weights: dict[str, NDArray] | None = None) -> VAE:
        """Build the model, with given weights or those that a seed draws."""
        cpu = torch.device("cpu")
        stream = _torch.generator(seed, cpu)
        options: dict[str, Any] = {"generator": stream, "activation": self.activation}
        sizes = tuple(int(size) for size in self.hidden_layer_sizes)
        d, n_features = self.n_components, len(self.columns.location)
        decoder = self._decoder(sizes, seed, options)  # first: both encoders get the same
        implicit = self.encoder is ImplicitEncoder
        # A decoder that is learnt shapes its posteriors; those of a known one are as they are.
        law = {"in_parts": decoder.is_known} if implicit else {}
        make: Callable[..., Encoder] = self.encoder
        encoder = make(n_features, d, hidden_layer_sizes=sizes, **law, **options)
        score = ConditionalScore(d, **options) if implicit else None
        model = VAE(encoder, decoder, score)
        if weights is not None:
            model.load_state_dict({k: torch.tensor(w, device=cpu) for k, w in weights.items()})
        return model

    def _decoder(self, sizes: tuple[int, ...], seed: int, options: dict[str, Any]) -> Decoder:
        columns, n_features = self.columns, len(self.columns.location)
        m, c = (_torch.to_tensor(a, torch.device("cpu")) for a in (columns.location, columns.scale))
        if self.decoder is None:
            network: nn.Module = MLP(
                self.n_components, n_features, hidden_layer_sizes=sizes[::-1], **options
            )
        else:
            network = self._given(self.decoder, seed, options["generator"])
        if self.likelihood == "bernoulli":
            own = self.decoder is None
            p = m.clamp(0.005, 0.995)
            return BernoulliDecoder(network, torch.logit(p) if own else torch.zeros_like(m))
        noise = None if self.noise is None else self.noise / c
        if self.decoder is None:
            m, c = torch.zeros_like(m), torch.ones_like(c)
        varying = _torch.to_tensor(columns.varying, torch.device("cpu"))
        return GaussianDecoder(network, m, c, varying, noise)

    def _given(self, factory: Factory, seed: int, stream: torch.Generator) -> nn.Module:
        """Return a network of the caller's factory: a copy, since training changes it."""
        wanted = (2, len(self.columns.location))
        try:
            with _torch.for_factories(seed):
                network = factory(self.n_components, wanted[1], generator=stream)
                if not isinstance(network, nn.Module):
                    raise self._refused(f"it gave no nn.Module but a {type(network).__name__}")
                network = copy.deepcopy(network).eval()
                z = torch.zeros(2, self.n_components, dtype=torch.float32)
                with torch.no_grad():
                    shape = tuple(copy.deepcopy(network).to(torch.float32)(z).shape)
        except (TypeError, RuntimeError, AttributeError) as error:
            raise self._refused(f"it gave {type(error).__name__}: {error}") from error
        if shape != wanted:
            taken = (2, self.n_components)
            raise self._refused(f"it gave rows {taken} to shape {shape}, not {wanted}")
        return network

    def _refused(self, found: str) -> ValueError:
        form = (
            "a factory (n_components, n_features, *, generator) of networks of z with a row of X "
            "each"
        )
        return refuse("decoder", self.decoder, f"{form}; {found}")


def refuse_grey(X: Array, likelihood: str) -> None:
    """Raise ValueError for values that a likelihood cannot have."""
    if likelihood != "bernoulli" or (X.min() >= 0 and X.max() <= 1):
        return
    j = int(np.argmax((X < 0).any(axis=0) | (X > 1).any(axis=0)))
    raise ValueError(
        f"likelihood='bernoulli' needs X in [0, 1], but column {j} goes from "
        f"{X[:, j].min():g} to {X[:, j].max():g}. Scale X (MinMaxScaler, or X / X.max()), or "
        f"use likelihood='gaussian'."
    )
