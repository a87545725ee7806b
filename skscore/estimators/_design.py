"""What a fitted model is built from, beside its weights.

Kept from the fit, so that a copy does not depend on what was set on the estimator afterwards.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from numpy.typing import NDArray
from torch import nn

from skscore import _torch
from skscore._affine import Array
from skscore._denoiser import Denoiser
from skscore._model import ScoreModel
from skscore._validation import refuse
from skscore.estimators._share import Weighed
from skscore.networks import Ensemble, Gated
from skscore.noise import Levels, OneLevel

IMAGE_BLOCK_ROWS = 32

# Torch computes their second derivative wrongly (seen in 2.13), and training needs it.
WRONG = (nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass(frozen=True)
class Design:
    """The plan of a model.

    Attributes
    ----------
    factory : callable
        ``(n_features, n_outputs, *, generator) -> nn.Module``.
    energy : bool
        Whether the network is an energy.
    precision : (rank, rank) or ()
        P, of the Gaussian that the network stands over; a number is a multiple of the identity.
    rank : int
        Columns of the network.
    n_members : int
        Networks whose mean the field is.
    levels : OneLevel, Ladder, LogUniform or LogNormal
        The noise levels that they were trained at. Of many, a network also takes the log of the
        level, if it can.
    images : bool
        Whether the rows are images: their fields stay in float32, and use every thread.
    mixture : Weighed or None
        The mixture that the field is averaged with.
    """

    factory: Callable[..., nn.Module]
    energy: bool
    precision: Array
    rank: int
    n_members: int = 1
    levels: Levels = field(default_factory=lambda: OneLevel(0.0))
    images: bool = False
    mixture: Weighed | None = None

    @property
    def dtype(self) -> torch.dtype:
        """What the field is evaluated in."""
        return torch.float32 if self.images else torch.float64

    @property
    def block_rows(self) -> int:
        """Chains that share one stream of noise, and are walked together."""
        return IMAGE_BLOCK_ROWS if self.images else _torch.BLOCK_ROWS

    @property
    def threads(self) -> AbstractContextManager:
        """The threads that it is evaluated with: small products are faster on one."""
        return nullcontext() if self.images else _torch.one_thread

    def refuse_another(self, earlier: Design) -> None:
        """Raise ValueError when a warm start would read the earlier weights as another network."""
        plain = [
            (f.func, f.keywords) if isinstance(f, partial) else f
            for f in (self.factory, earlier.factory)
        ]
        same = (self.energy, self.n_members, self.levels) == (
            earlier.energy,
            earlier.n_members,
            earlier.levels,
        )
        if plain[0] != plain[1] or not same:
            raise ValueError(
                "warm_start=True needs the network of the earlier fit: set hidden_layer_sizes, "
                "activation, frequency_spread, network, n_members, sigma and parametrization "
                "as they were, or warm_start=False."
            )

    def build(self, seed: int, weights: dict[str, NDArray] | None) -> ScoreModel | Denoiser:
        """Return the model on the CPU, with new weights or given ones.

        Raises
        ------
        ValueError
            When the factory returns no module, or one of the wrong shape.
        """
        stream = _torch.generator(seed, torch.device("cpu"))
        # A factory of the user's may say neither where nor from which stream.
        with torch.device("cpu"), _torch.global_stream:
            torch.default_generator.manual_seed(seed)
            members = [self._member(stream) for _ in range(self.n_members)]
        if len({id(member) for member in members}) < len(members):
            raise refuse("network", self.factory, "a factory of a new module at each call")
        network = members[0] if self.n_members == 1 else Ensemble(members)
        if weights is not None:
            tensors = {name: torch.tensor(w, device="cpu") for name, w in weights.items()}
            network.load_state_dict(tensors)
        P = _torch.to_tensor(self.precision, torch.device("cpu"))
        if not self.levels.many:
            return ScoreModel(network, P, energy=self.energy)
        return Denoiser(network, P, energy=self.energy, conditional=self._conditional(members[0]))

    def mixed(self, model: ScoreModel | Denoiser) -> ScoreModel | Denoiser:
        """Return a model with its share of the mixture, in the precision of the model."""
        if self.mixture is None:
            return model
        P = model.precision
        field = self.mixture.field(P.device, P.dtype)
        return model.mixed(field, self.mixture.share)  # type: ignore[arg-type]

    def _conditional(self, network: nn.Module) -> bool:
        """Tell whether the network takes the log of the noise level beside the rows."""
        if not self.levels.many:
            return False
        own = network.network if isinstance(network, Gated) else network
        parameters = inspect.signature(own.forward).parameters.values()  # type: ignore[arg-type]
        return sum(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters) > 1

    def _member(self, stream: torch.Generator) -> nn.Module:
        """Return one network of the right shape."""
        rank = self.rank
        n_outputs = 1 if self.energy else rank
        try:
            network = self.factory(rank, n_outputs, generator=stream)
        except TypeError as error:
            raise refuse(
                "network", self.factory, "a factory (n_features, n_outputs, *, generator)"
            ) from error
        if not isinstance(network, nn.Module):
            raise refuse("network", network, "a factory that returns a torch.nn.Module")
        if any(isinstance(module, WRONG) for module in network.modules()):
            raise refuse(
                "network",
                self.factory,
                "without layer or instance normalisation, whose second derivative torch computes "
                "wrongly; training needs it",
            )
        if not any(p.requires_grad for p in network.parameters()):
            raise refuse("network", self.factory, "a factory of a module with parameters to train")
        network = network.eval().to(torch.float32)
        rows = torch.zeros(2, rank, dtype=torch.float32, device="cpu")
        try:
            levels = [rows[:, :1]] if self._conditional(network) else []
            shape = tuple(network(rows, *levels).shape)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(
                f"network={self.factory!r} cannot be evaluated at 2 rows of {rank} columns: it "
                f"must map a tensor of rows (and, for many noise levels, a column of the logs of "
                f"their levels) to one tensor."
            ) from error
        if shape != (2, n_outputs):
            raise ValueError(
                f"network={self.factory!r} maps 2 rows to shape {shape}, not to {(2, n_outputs)}: "
                f"it must return {'one energy' if self.energy else 'one column per feature'} for "
                f"each row."
            )
        # Small levels multiply what a network is at the start: it must be zero, as ours is.
        gated = self.levels.many and not getattr(network, "begins_at_zero", False)
        return Gated(network, n_outputs) if gated else network
