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
from torch.nn.parameter import is_lazy

from skscore import _torch
from skscore._affine import standardised
from skscore._checks import refuse, warn
from skscore._validation import names_of
from skscore.exceptions import DataWarning, DegenerateDataError
from skscore.latent._encoders import ConditionalScore, Encoder, ImplicitEncoder
from skscore.latent._likelihood import BernoulliDecoder, Decoder, GaussianDecoder
from skscore.latent._training import VAE
from skscore.networks import MLP

Array = NDArray[np.float64]
Factory = Callable[..., nn.Module]
ROUNDING = 1e-8  # what greys may leave [0, 1] by: a scaler rounds


@dataclass(frozen=True, eq=False)
class Columns:
    """How the columns of X are standardised: ``u = (x - location) / scale``."""

    location: Array
    scale: Array
    varying: NDArray[np.bool_]

    @classmethod
    def of(cls, X: Array, likelihood: str, names: NDArray | None) -> Columns:
        """Measure training rows: each column has its own scale, and pixels have one."""
        mean, scale, _ = standardised(X)
        varying = scale > 0
        if likelihood == "bernoulli":
            deviation = float(np.sqrt(np.mean(scale**2))) or 1.0
            return cls(mean, np.full_like(mean, deviation), np.ones_like(varying))
        if not varying.any():
            raise DegenerateDataError(
                f"X has zero variance: all {len(X)} rows are equal, and their density is infinite. "
                f"Pass rows that differ."
            )
        if not varying.all():
            warn(
                f"Constant columns {names_of(~varying, names)} have no density: they are left out "
                f"of the likelihood. Drop them to silence this.",
                DataWarning,
            )
        return cls(mean, np.where(varying, scale, 1.0), varying)

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

    seed: int  # of the first weights, and of whatever else a decoder's factory draws
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

    def build(self, weights: dict[str, NDArray] | None = None) -> VAE:
        """Build the model, with given weights or those that its seed draws."""
        cpu = torch.device("cpu")
        stream = _torch.generator(self.seed, cpu)
        options: dict[str, Any] = {"generator": stream, "activation": self.activation}
        sizes = tuple(int(size) for size in self.hidden_layer_sizes)
        d, n_features = self.n_components, len(self.columns.location)
        decoder = self._decoder(sizes, options)  # first: both encoders get the same
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

    def _decoder(self, sizes: tuple[int, ...], options: dict[str, Any]) -> Decoder:
        columns, n_features = self.columns, len(self.columns.location)
        m, c = (_torch.to_tensor(a, torch.device("cpu")) for a in (columns.location, columns.scale))
        if self.decoder is None:
            network: nn.Module = MLP(
                self.n_components, n_features, hidden_layer_sizes=sizes[::-1], **options
            )
        else:
            network = self._given(self.decoder, options["generator"])
        if self.likelihood == "bernoulli":
            own = self.decoder is None
            p = m.clamp(0.005, 0.995)
            return BernoulliDecoder(network, torch.logit(p) if own else torch.zeros_like(m))
        noise = None if self.noise is None else self.noise / c
        if self.decoder is None:
            m, c = torch.zeros_like(m), torch.ones_like(c)
        varying = _torch.to_tensor(columns.varying, torch.device("cpu"))
        return GaussianDecoder(network, m, c, varying, noise)

    def _given(self, factory: Factory, stream: torch.Generator) -> nn.Module:
        """Return a network of the caller's factory: a copy, since training changes it."""
        with _torch.for_factories(self.seed):
            try:
                network = factory(self.n_components, len(self.columns.location), generator=stream)
            except Exception as error:
                raise self._refused(f"calling it gave {told(error)}") from error
            if not isinstance(network, nn.Module):
                raise self._refused(f"it gave no nn.Module but a {type(network).__name__}")
            if any(is_lazy(p) for p in network.parameters()):
                raise self._refused("it gave a lazy module, whose weights are not there yet")
            network = copy.deepcopy(network).eval()
            for dtype in (torch.float32, torch.float64):  # of training, and of use
                self._try(copy.deepcopy(network).to(dtype), dtype)
        return network

    def _try(self, network: nn.Module, dtype: torch.dtype) -> None:
        """Raise ValueError when a network cannot be evaluated, or returns no rows."""
        wanted, taken = (2, len(self.columns.location)), (2, self.n_components)
        kind = str(dtype).removeprefix("torch.")
        z = torch.tensor([[-1.0], [1.0]], dtype=dtype).expand(taken).clone().requires_grad_()
        try:
            with torch.enable_grad():
                out = network(z)
            found = tuple(out.shape), out.dtype, bool(out.isfinite().all())
        except Exception as error:
            raise self._refused(
                f"its network gave {told(error)}. It is trained in float32 and used in float64, "
                f"with gradients; this was {kind}. Tensors that it holds must be registered "
                f"(register_buffer), so that they change with it"
            ) from error
        if found[0] != wanted:
            raise self._refused(f"it gave rows {taken} to shape {found[0]}, not {wanted}")
        if not found[1].is_floating_point:
            raise self._refused(f"its network gave {found[1]} and no floating-point numbers")
        if not found[2]:
            raise self._refused("its network gave numbers that are not finite at codes -1 and 1")

    def _refused(self, found: str) -> ValueError:
        form = (
            "a factory (n_components, n_features, *, generator) of networks of z with a row of X "
            "each"
        )
        return refuse("decoder", self.decoder, f"{form}; {found}")


def told(error: Exception) -> str:
    """Return what an error says, with its type."""
    return f"{type(error).__name__}: {error}"


def refuse_grey(X: Array, likelihood: str) -> None:
    """Raise ValueError for values that a likelihood cannot have."""
    if likelihood != "bernoulli" or (X.min() >= -ROUNDING and X.max() <= 1 + ROUNDING):
        return
    j = int(np.argmax(((X < -ROUNDING) | (X > 1 + ROUNDING)).any(axis=0)))
    raise ValueError(
        f"likelihood='bernoulli' needs X in [0, 1], but column {j} goes from "
        f"{X[:, j].min():.9g} to {X[:, j].max():.9g}. Scale X (X / X.max(), or "
        f"MinMaxScaler(clip=True), which holds new rows in its range, too), or use "
        f"likelihood='gaussian'."
    )
