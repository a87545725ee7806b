"""The shell of the latent variable models: parameters, fit and state.

A user sees the units of X; the networks see standardised columns.
"""

from __future__ import annotations

import copy
from abc import ABCMeta, abstractmethod

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from skscore import _torch
from skscore._base import columns_kept
from skscore._callbacks import CallbackSupportMixin, epochs_of, print_epoch, with_callbacks
from skscore._checks import (
    Check,
    auto_or,
    hidden_layer_sizes,
    integer,
    option,
    real,
    refuse,
    verbosity,
)
from skscore._checks import random_state as random_state_of
from skscore.exceptions import DivergenceError
from skscore.latent._design import Array, Columns, Design, refuse_grey
from skscore.latent._encoders import Encoder
from skscore.latent._likelihood import GaussianDecoder
from skscore.latent._queries import Queries
from skscore.latent._training import History, Plan, fit_vae
from skscore.networks import ACTIVATIONS

LARGEST_RATE = 1e30
FARTHEST_MEAN = 1e5  # deviations from zero that a given network can learn columns at, in float32


def _decoder(name: str, value: object) -> None:
    if value is not None and (not callable(value) or isinstance(value, torch.nn.Module)):
        raise refuse(
            name,
            value,
            "None or a factory (n_components, n_features, *, generator) -> nn.Module; for a "
            "network that is there already: lambda n_components, n_features, *, generator: network",
        )


class BaseVAE(
    CallbackSupportMixin,
    Queries,
    metaclass=ABCMeta,
):
    """Abstract base: ``z ~ N(0, I)``, a decoder ``p(x | z)``, and an encoder of a leaf."""

    _steps = 3000  # what max_iter="auto" stands for, and with a decoder that is known:
    _steps_known = 4000
    _batch = 128

    @property
    def _constraints(self) -> dict[str, Check]:
        return {
            "n_components": integer(1),
            "likelihood": option("bernoulli", "gaussian"),
            "decoder": _decoder,
            "noise_scale": auto_or(real()),
            "hidden_layer_sizes": hidden_layer_sizes,
            "activation": option(*ACTIVATIONS),
            "max_iter": auto_or(integer(1)),
            "batch_size": auto_or(integer(1)),
            "learning_rate_init": real(high=LARGEST_RATE),
            "weight_decay": real(high=LARGEST_RATE, closed=True),
            "device": _torch.check_device,
            "random_state": random_state_of,
            "verbose": verbosity,
        }

    @property
    @abstractmethod
    def _encoder(self) -> type[Encoder]:
        """The class of the encoder."""

    @with_callbacks
    def fit(self, X: ArrayLike, y=None):
        """Fit the encoder and the decoder to data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows; in [0, 1] for ``likelihood="bernoulli"``.
        y : Ignored
            Not used, here for the convention of scikit-learn.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When a parameter or X is not valid; the message names it and the remedy.
        DivergenceError
            When training leaves the finite numbers; the last good weights are kept.
        """
        for name, check in self._constraints.items():
            check(name, getattr(self, name))
        with columns_kept(self):
            rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
            state, failure = self._fit(rows)
        for name, value in state.items():
            setattr(self, name, value)
        if failure is not None:
            raise failure
        return self

    def _fit(self, X: Array) -> tuple[dict[str, object], BaseException | None]:
        d = int(self.n_components)
        if self.decoder is None and d > X.shape[1]:
            raise ValueError(
                f"n_components={d} is more than the data have: n_features={X.shape[1]}. Use at "
                f"most as many components as features, or give a decoder."
            )
        if self.likelihood == "bernoulli" and not isinstance(self.noise_scale, str):
            raise ValueError(
                f"noise_scale={self.noise_scale!r} has no meaning with likelihood='bernoulli', "
                f"whose pixels have no noise: leave it at 'auto'."
            )
        refuse_grey(X, self.likelihood)
        device = _torch.resolve_device(self.device)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        columns = Columns.of(X, self.likelihood, getattr(self, "feature_names_in_", None))
        design = Design(
            seed=seed,
            encoder=self._encoder,
            n_components=d,
            hidden_layer_sizes=tuple(self.hidden_layer_sizes),
            activation=self.activation,
            likelihood=self.likelihood,
            columns=columns,
            decoder=self.decoder,
            noise=None if isinstance(self.noise_scale, str) else float(self.noise_scale),
        )
        with _torch.isolated(), _torch.one_thread:
            _torch.keep_freed_memory()
            model = design.build()
            weights = {k: v.numpy().copy() for k, v in model.state_dict().items()}
            given = model.decoder if self.decoder is not None else None
            exact = copy.deepcopy(given)
            model = model.to(device, torch.float32)
            if isinstance(given, GaussianDecoder) and isinstance(exact, GaussianDecoder):
                if given.is_known:
                    given.with_mean_of(exact.to(device, torch.float64))
                else:
                    columns.refuse_offset(FARTHEST_MEAN)
            history, failure = self._train(model, design, X, device, seed)
            # The buffers of a given decoder stay as they were, not rounded to float32.
            learnt = model.named_parameters(remove_duplicate=False)  # shared ones by each name
            weights |= {k: v.detach().cpu().numpy().copy() for k, v in learnt}
        volume = design.log_volume
        state = {
            "_design": design,
            "_weights": weights,
            "_model": self._ready(design, weights),
            "loss_curve_": [v + volume for v in history.loss],
            "reconstruction_curve_": [v + volume for v in history.reconstruction],
            "prior_curve_": history.prior,
            "n_iter_": len(history.loss),
        }
        return state, failure

    def _train(self, model, design: Design, X: Array, device, seed: int):
        n = len(X)
        size = min(n, self._batch if self.batch_size == "auto" else int(self.batch_size))
        per_epoch = max(1, n // size)
        known = model.decoder.is_known
        steps = self._steps_known if known else self._steps
        plan = Plan(
            n_epochs=-(-steps // per_epoch) if self.max_iter == "auto" else int(self.max_iter),
            batch_size=size,
            n_draws=max(1, min(4, 256 // X.shape[1])),
            learning_rate=float(self.learning_rate_init),
            weight_decay=float(self.weight_decay),
            known=known,
        )
        with np.errstate(over="ignore"):
            U = design.columns.standardise(X).astype(np.float32)
        x = _torch.to_tensor(U, device, torch.float32)
        grey = design.likelihood == "bernoulli"
        targets = _torch.to_tensor(X, device, torch.float32) if grey else x
        history = History()
        with epochs_of(self, plan.n_epochs) as report:

            def on_epoch(epoch: int, so_far: History) -> bool:
                loss = so_far.loss[-1] + design.log_volume
                print_epoch(epoch, plan.n_epochs, self.verbose, f"loss {loss:.5f}")
                return report()

            stream = _torch.generator(seed, device)
            try:
                fit_vae(
                    model, x, targets, plan, generator=stream, history=history, on_epoch=on_epoch
                )
            except (KeyboardInterrupt, DivergenceError) as failure:
                return history, failure
        return history, None

    # State: arrays and no tensors, so that it loads where there is no such device --------------

    @property
    def _n_features_out(self) -> int:
        return self._design.n_components

    def _ready(self, design: Design, weights: dict[str, NDArray]):
        """Build the networks for use, in float64."""
        with _torch.isolated():
            model = design.build(weights)
        device = _torch.resolve_device_or_cpu(self.device)
        return model.requires_grad_(False).to(device, torch.float64)

    def __getstate__(self):
        state = dict(super().__getstate__())
        state.pop("_model", None)
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "_weights" in vars(self):
            self._model = self._ready(self._design, self._weights)
