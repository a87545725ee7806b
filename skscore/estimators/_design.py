"""What a fitted model is built from, beside its weights.

Kept from the fit, so that a copy does not depend on what was set on the estimator afterwards.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skscore import _torch
from skscore._affine import Array
from skscore._checks import refuse
from skscore._denoiser import Denoiser
from skscore._model import ScoreModel
from skscore.estimators._share import Weighed
from skscore.networks import Bound, Ensemble, Gated
from skscore.noise import Levels, OneLevel

IMAGE_BLOCK_ROWS = 32
FACTORY = "a factory (n_features, n_outputs, *, generator), as partial(UNet, image_shape=...) is"

# Torch computes their second derivative wrongly (seen in 2.13), and training needs it.
WRONG = (nn.LayerNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


PARAMETERS = {"widths": "hidden_layer_sizes"}  # of factories, by keyword


def _plain(factory: Callable[..., nn.Module]) -> tuple[list[object], dict[str, object]]:
    """Return a factory and its keywords as something to compare."""
    if not isinstance(factory, partial):
        return [factory], {}
    inner, keywords = _plain(factory.func)
    return [*inner, *factory.args], keywords | factory.keywords


def _equal(a: object, b: object) -> bool:
    """Tell whether two values of a parameter are the same, arrays and sequences by their items."""
    return a is b or bool(np.array_equal(a, b))  # type: ignore[arg-type]


def _takes_level(network: nn.Module, *, needs: bool = False) -> bool:
    """Tell whether a network takes the log of the noise level beside the rows, or `needs` it.

    Its second argument is that, unless it is an option with a default other than None.
    """
    parameters = inspect.signature(network.forward).parameters.values()  # type: ignore[arg-type]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return not needs
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(places) < 2:
        return False
    return places[1].default is places[1].empty or (places[1].default is None and not needs)


def _that_remember(module: nn.Module) -> list[nn.Module]:
    """Return the networks of a module that can remember rows, the outermost."""
    if hasattr(module, "remember"):
        return [module]
    return [network for child in module.children() for network in _that_remember(child)]


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
    seed : int
        Of the first weights, and of whatever else the factory draws.
    n_members : int
        Networks whose mean the field is.
    levels : OneLevel, Ladder, LogUniform or LogNormal
        The noise levels that they were trained at. Of many, a network also takes the log of the
        level, if it can.
    images : bool
        Whether the rows are images: their fields stay in float32, and use every thread.
    mixture : Weighed or None
        The mixture that the field is averaged with.
    memory : (n, rank) or None
        Rows for networks that remember some.
    """

    factory: Callable[..., nn.Module]
    energy: bool
    precision: Array
    rank: int
    seed: int
    n_members: int = 1
    levels: Levels = field(default_factory=lambda: OneLevel(0.0))
    images: bool = False
    mixture: Weighed | None = None
    memory: NDArray | None = None

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
        own, other = (_plain(design.factory) for design in (self, earlier))
        keywords = {
            PARAMETERS.get(k, k): not _equal(own[1].get(k), other[1].get(k))
            for k in own[1] | other[1]
        }
        changed = {
            "network": own[0] != other[0],
            **keywords,
            "image_shape": keywords.get("image_shape", False) or self.images != earlier.images,
            "parametrization": self.energy != earlier.energy,
            "n_members": self.n_members != earlier.n_members,
            "the noise levels (sigma, sigma_min, sigma_max, n_noise_levels)": self.levels
            != earlier.levels,
        }
        if any(changed.values()):
            names = ", ".join(name for name, is_other in changed.items() if is_other)
            raise ValueError(
                f"warm_start=True needs the network of the earlier fit, but {names} changed: set "
                f"this as it was, or warm_start=False."
            )

    def build(self, weights: dict[str, NDArray] | None = None) -> ScoreModel | Denoiser:
        """Return the model on the CPU, with new weights or given ones.

        Raises
        ------
        ValueError
            When the factory returns no module, or one of the wrong shape.
        """
        stream = _torch.generator(self.seed, torch.device("cpu"))
        with _torch.for_factories(self.seed):
            made = [self._made(stream) for _ in range(self.n_members)]
            if len({id(network) for network in made}) < len(made):
                raise refuse("network", self.factory, "a factory of a new module at each call")
            # A copy: a module that the factory returns at every call stays as it is.
            members = [self._member(copy.deepcopy(network)) for network in made]
        network = members[0] if self.n_members == 1 else Ensemble(members)
        if weights is not None:
            tensors = {name: torch.tensor(w, device="cpu") for name, w in weights.items()}
            network.load_state_dict(tensors)
        P = _torch.to_tensor(self.precision, torch.device("cpu"))
        if not self.levels.many:
            return ScoreModel(network, P, energy=self.energy)
        return Denoiser(network, P, energy=self.energy, conditional=self._conditional(members[0]))

    def remember(self, model: nn.Module) -> None:
        """Have the networks of a model remember the rows, those that can."""
        networks = _that_remember(model)
        if self.memory is None or not networks:
            return
        unit = np.float32(1 / np.sqrt(self.precision))
        rows = torch.tensor(self.memory / unit, device=next(model.parameters()).device)
        for network in networks:
            network.remember(rows)  # type: ignore[operator]

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
        return _takes_level(network.network if isinstance(network, Gated) else network)

    @property
    def _n_outputs(self) -> int:
        return 1 if self.energy else self.rank

    def _made(self, stream: torch.Generator) -> nn.Module:
        """Return what the factory makes."""
        try:
            network = self.factory(self.rank, self._n_outputs, generator=stream)
        except (TypeError, RuntimeError, MemoryError) as error:
            raise ValueError(
                f"{refuse('network', self.factory, FACTORY)} Calling it so gave "
                f"{type(error).__name__}: {error}"
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
        return network

    def _member(self, network: nn.Module) -> nn.Module:
        """Return one network, ready, of the right shape."""
        rank, n_outputs = self.rank, self._n_outputs
        network = network.eval().to(torch.float32)
        sigma = self.levels.sigmas[0]
        if not self.levels.many and sigma > 0 and _takes_level(network, needs=True):
            network = Bound(network, torch.tensor([math.log(sigma)], dtype=torch.float32))
        # In what it is trained in, where lazy layers get weights; a copy in what it is used in.
        for dtype in dict.fromkeys((torch.float32, self.dtype)):
            one = network if dtype is torch.float32 else copy.deepcopy(network).to(dtype)
            rows = torch.zeros(2, rank, dtype=dtype)
            try:
                levels = [rows[:, :1]] if self._conditional(one) else []
                shape = tuple(one(rows, *levels).shape)
            except Exception as error:
                raise ValueError(
                    f"network={self.factory!r} cannot be evaluated at 2 rows of {rank} columns in "
                    f"{str(dtype).removeprefix('torch.')}: it gave {type(error).__name__}: "
                    f"{error}. It must map a tensor of rows (and, for many noise levels, a column "
                    f"of the logs of their levels) to one tensor, and register what tensors it "
                    f"holds (register_buffer), so that their type changes with it."
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
