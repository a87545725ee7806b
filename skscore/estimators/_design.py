"""What a fitted model is built from, beside its weights.

Kept from the fit, so that a copy does not depend on what was set on the estimator afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import nn

from skscore import _torch
from skscore._affine import Array
from skscore._model import ScoreModel
from skscore._validation import refuse


@dataclass(frozen=True)
class Design:
    """The plan of a model.

    Attributes
    ----------
    factory : callable
        ``(n_features, n_outputs, *, generator) -> nn.Module``.
    energy : bool
        Whether the network is an energy.
    precision : (rank, rank)
        P, of the Gaussian that the network stands over.
    """

    factory: Callable[..., nn.Module]
    energy: bool
    precision: Array

    def build(self, seed: int, weights: dict[str, NDArray] | None) -> ScoreModel:
        """Return the model on the CPU, with new weights or given ones.

        Raises
        ------
        ValueError
            When the factory returns no module, one of the wrong shape, or one that the weights do
            not fit.
        """
        rank = len(self.precision)
        n_outputs = 1 if self.energy else rank
        stream = _torch.generator(seed, torch.device("cpu"))
        # A factory of the user's may say neither where nor from which stream.
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = self.factory(rank, n_outputs, generator=stream)
        if not isinstance(network, nn.Module):
            raise refuse("network", network, "a factory that returns a torch.nn.Module")
        network = network.eval().to(torch.float32)
        shape = tuple(network(torch.zeros(2, rank, dtype=torch.float32, device="cpu")).shape)
        if shape != (2, n_outputs):
            raise ValueError(
                f"network={self.factory!r} maps 2 rows to shape {shape}, not to {(2, n_outputs)}: "
                f"it must return {'one energy' if self.energy else 'one column per feature'} for "
                f"each row."
            )
        if weights is not None:
            tensors = {name: torch.tensor(w, device="cpu") for name, w in weights.items()}
            try:
                network.load_state_dict(tensors)
            except RuntimeError as error:
                raise ValueError(
                    "warm_start=True needs the network of the earlier fit: set hidden_layer_sizes "
                    "and network as they were, or warm_start=False."
                ) from error
        P = _torch.to_tensor(self.precision, torch.device("cpu"))
        return ScoreModel(network, P, energy=self.energy)
