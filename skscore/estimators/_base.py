"""The shell of the estimators that train a network: how they are fitted.

Everything a user sees is in the units of X; the model lives in standardised coordinates u.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor, nn

from skscore import _torch
from skscore._affine import STANDARDIZE, AffineMap, Moments
from skscore._base import KEPT_ROWS, Array
from skscore._callbacks import CallbackSupportMixin, epochs_of, print_epoch
from skscore._checks import (
    Check,
    auto_or,
    flag,
    hidden_layer_sizes,
    integer,
    option,
    optional_callable,
    random_state,
    real,
    refuse,
    share,
    verbosity,
)
from skscore._denoiser import Denoiser
from skscore._model import ScoreModel
from skscore._training import ByHand, History, Plan, fit_score, held_out_objective, with_weights
from skscore._validation import describe, refuse_no_longer_constant, warn_of_collinear
from skscore.estimators._design import Design
from skscore.estimators._exact_step import exact_step
from skscore.estimators._fitted import FittedNetwork, spread_of, weights_of
from skscore.estimators._share import Weighed, weigh
from skscore.estimators._sliced_step import sliced_step
from skscore.exceptions import DivergenceError
from skscore.networks import ACTIVATIONS, KINKED, MLP
from skscore.noise import Levels, OneLevel
from skscore.objectives import exact, sliced

LOOKED = 3_000  # training rows at which the values of a network are looked at
STEPS: dict[Callable, Callable[..., ByHand | None]] = {exact: exact_step, sliced: sliced_step}
LARGEST_RATE = 1e30  # beyond, a product with a weight leaves the range of float32


def _activation(name: str, value: object) -> None:
    if isinstance(value, str) and value in KINKED:
        raise refuse(
            name,
            value,
            f"smooth, one of {sorted(ACTIVATIONS)}: the objective needs the activation's second "
            f"derivative, which a kinked one does not have",
        )
    option(*ACTIVATIONS)(name, value)


def _residual(model: ScoreModel, x: Tensor) -> Tensor:
    return model.residual(x[..., :LOOKED, :])


def _by_hand(loss: Callable[..., Tensor]) -> Callable[..., ByHand | None] | None:
    """Return what knows the gradient of a loss without autograd, where that is known."""
    if not isinstance(loss, partial) or loss.func not in STEPS:
        return None
    return partial(STEPS[loss.func], **loss.keywords)


class NetworkScoreEstimator(CallbackSupportMixin, FittedNetwork):
    """Abstract base: a network, trained on an objective, over the score of a Gaussian."""

    @property
    def _constraints(self) -> dict[str, Check]:
        return {
            "hidden_layer_sizes": auto_or(hidden_layer_sizes),
            "activation": _activation,
            "frequency_spread": auto_or(real(1.0, 1e6, closed=True)),
            "network": optional_callable,
            "n_members": integer(1, 1000),
            "sigma": real(high=1e10, closed=True),
            "parametrization": option("score", "energy"),
            "standardize": option(*STANDARDIZE),
            "shrinkage": auto_or(share),
            "max_iter": auto_or(integer(1)),
            "batch_size": auto_or(integer(1)),
            "curl_penalty": real(high=LARGEST_RATE, closed=True),
            "learning_rate": option("adaptive", "constant"),
            "learning_rate_init": real(high=LARGEST_RATE),
            "average": flag,
            "mixture": flag,
            "weight_decay": real(high=LARGEST_RATE, closed=True),
            "early_stopping": flag,
            "validation_fraction": real(high=1.0),
            "n_iter_no_change": integer(1),
            "tol": real(closed=True),
            "residual_test": flag,
            "subspace_test": flag,
            "warm_start": flag,
            "keep_rows": flag,
            "device": _torch.check_device,
            "random_state": random_state,
            "verbose": verbosity,
        }

    @abstractmethod
    def _objective(self) -> Callable[..., Tensor]:
        """Return the per-row training loss."""

    # What a leaf may replace ------------------------------------------------------------------

    _steps = 2000  # the budget that max_iter="auto" stands for
    _batch = 256

    def _noise_levels(self, U: Array, earlier: Levels | None) -> Levels:
        """Return the levels that the field is learnt at, given those of an earlier fit."""
        return OneLevel(float(self.sigma))

    _looked = KEPT_ROWS  # rows that the mean square of the field is taken over
    _most_held_out = sys.maxsize
    _images = False  # whether the rows are images
    _guided = False  # whether a network that has learnt less is kept, for guidance
    _mixed = False  # whether training may take products in bfloat16

    def _n_networks(self) -> int:
        return int(self.n_members)

    def _first_rate(self) -> float:
        return float(self.learning_rate_init)

    def _coordinates(self, moments: Moments) -> AffineMap:
        """Return the map that standardises rows."""
        return AffineMap.standardising(moments, self.standardize)

    def _gaussian(self, affine: AffineMap, moments: Moments, blur: float) -> Array:
        """Return the precision, in coordinates u, of the Gaussian that the network stands over."""
        return affine.gaussian_precision(moments, blur)

    def _needs_density(self) -> bool:
        """Tell whether the objective is unbounded on rows without a density."""
        return not self.sigma

    def _loss(self, levels: Levels) -> Callable[..., Tensor]:
        """Return the per-row training loss."""
        # The curl of a gradient is zero: nothing to penalise.
        penalty = 0.0 if self.parametrization == "energy" else float(self.curl_penalty)
        return partial(self._objective(), curl_penalty=penalty)

    def _judge(self, levels: Levels) -> Callable[..., Tensor]:
        """Return what the held-out rows are judged by."""
        return held_out_objective

    def _weighing_judge(self, levels: Levels) -> Callable[..., Tensor]:
        """Return what a mixture is weighed by."""
        return self._judge(levels)

    def _outputs(self, levels: Levels) -> Callable[..., Tensor]:
        """Return what tells the values of the networks at rows."""
        return _residual

    def _fitted_levels(self, levels: Levels) -> dict[str, object]:
        """Return the noise levels as a fitted attribute, where they were not all given."""
        return {}

    def _blur(self) -> float:
        """Return the noise level of the rows that the objective is given."""
        return float(self.sigma)

    def _remembers(self, levels: Levels) -> bool:
        """Tell whether networks see kept rows: where each is hidden while it is trained on."""
        return self._images and levels.many and bool(self.keep_rows)

    # Fitting ----------------------------------------------------------------------------------

    def _forgets(self) -> bool:
        return not (self.warm_start and hasattr(self, "_model"))

    def _fit(self, X: Array) -> tuple[dict[str, object], BaseException | None]:
        device = _torch.resolve_device(self.device)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        names = getattr(self, "feature_names_in_", None)
        moments = describe(
            X,
            names,
            shrinkage=0.0 if self._images else self.shrinkage,
            density=self._needs_density(),
            pixels=self._images,
        )
        anew = self._forgets()
        affine = self._coordinates(moments) if anew else self._affine
        if not self._images and affine.matrix.ndim:  # not of images, now or before
            look = warn_of_collinear if anew else refuse_no_longer_constant
            look(affine, moments, names)
        U = affine.transform(X)
        levels = self._noise_levels(U, None if anew else self._design.levels)
        blur = levels.sigma if isinstance(levels, OneLevel) else 0.0
        precision = self._gaussian(affine, moments, blur) if anew else self._design.precision
        random = np.random.default_rng(seed)
        with np.errstate(over="ignore"):  # what leaves float32 is refused as a loss
            train, held_out = self._split(U.astype(np.float32), random)
            kept = U[random.permutation(len(U))[:KEPT_ROWS]].astype(np.float32)

        design = Design(
            self._factory(affine.rank),
            self.parametrization == "energy",
            precision,
            affine.rank,
            seed if anew else self._design.seed,
            self._n_networks(),
            levels,
            self._images,
            memory=kept if self._remembers(levels) else None,
        )
        with _torch.isolated(), design.threads:
            _torch.keep_freed_memory()
            if not anew:
                design.refuse_another(self._design)
            model = design.build(None if anew else weights_of(self._model))
            model = model.to(device, torch.float32)
            guide: Any = None if anew else self._guide
            if guide is not None:
                design.remember(model)
            later = design.remember if guide is None and design.memory is not None else None
            history, failure = self._train(model, train, held_out, levels, device, seed, later)
            if failure is None:
                try:
                    products = not moments.atoms
                    mixture = self._weighed_mixture(
                        model, affine, U, train, held_out, levels, device, seed, products=products
                    )
                    design = replace(design, mixture=mixture)
                except KeyboardInterrupt as interrupt:
                    failure = interrupt
            if guide is None and self._guided and history.early is not None:
                # Anew: one that remembers nothing, as when it learnt these weights.
                guide = with_weights(design.build().to(device), history.early)
            for each in filter(None, (model, guide)):
                each.requires_grad_(False).to(design.dtype)
                # The skip was rounded to float32 for training; fields are in the design's dtype.
                each.set_gaussian(_torch.to_tensor(precision, device, design.dtype))
            model = design.mixed(model)
            spread = spread_of(model, design, U, U[: self._looked], random)
        return {
            "_model": model,
            "_guide": guide,
            "_affine": affine,
            "_design": design,
            "_spread": spread,
            "_rows": kept if self.keep_rows else None,
            **self._fitted_levels(levels),
            "n_directions_": history.n_directions or affine.rank,
            "mixture_share_": 0.0 if design.mixture is None else design.mixture.share,
            "location_": moments.mean,
            "covariance_": moments.covariance,
            "shrinkage_": moments.shrinkage if anew else self.shrinkage_,
            "loss_curve_": history.loss,
            "validation_scores_": [-v for v in history.held_out] or None,
            "n_iter_": history.n_epochs,
        }, failure

    def _weighed_mixture(
        self,
        model: ScoreModel | Denoiser,
        affine: AffineMap,
        U: Array,
        train: NDArray,
        held_out: NDArray,
        levels: Levels,
        device: torch.device,
        seed: int,
        *,
        products: bool,
    ) -> Weighed | None:
        """Return the mixture that the field is averaged with, where held-out rows ask for it."""
        if not self.mixture or not held_out.size or self._images:
            return None
        x = _torch.to_tensor(held_out, device, torch.float32)
        noise = torch.randn(x.shape, generator=_torch.generator(seed, device), device=device)
        sigma = levels.sigma if isinstance(levels, OneLevel) else None
        judge, judged = self._weighing_judge(levels), x + self._blur() * noise
        return weigh(
            model,
            lambda own: judge(own, judged),
            U,
            train,
            x + (sigma or 0.0) * noise,
            axes=affine.axes if products else None,
            sigma=sigma,
            seed=seed,
        )

    def _split(self, U: NDArray, random: np.random.Generator) -> tuple[NDArray, NDArray]:
        """Return training and held-out rows, which have no row in common.

        Each member of an ensemble holds out the next rows of one shuffled round, so that their
        held-out rows overlap only where there are too few rows; its arrays are (n_members, n, d).
        """
        n, k = len(U), self._n_networks()
        n_held_out = 0
        if self.early_stopping:
            n_held_out = max(1, round(self.validation_fraction * n))
            n_held_out = min(n_held_out, n - 1, self._most_held_out)
        order = random.permutation(n)
        turns = np.stack([np.roll(order, -member * n_held_out) for member in range(k)])
        parts = U[turns[:, n_held_out:]], U[turns[:, :n_held_out]]
        return parts if k > 1 else (parts[0][0], parts[1][0])

    def _sizes(self, n_features: int) -> tuple[int, ...]:
        """Return the units of each hidden layer."""
        if isinstance(self.hidden_layer_sizes, str):
            return self._automatic_sizes(n_features)
        return tuple(int(size) for size in self.hidden_layer_sizes)

    def _automatic_sizes(self, n_features: int) -> tuple[int, ...]:
        return (96, 96, 96)

    def _factory(self, n_features: int) -> Callable[..., nn.Module]:
        if self.network is not None:
            return self.network
        return partial(
            MLP,
            hidden_layer_sizes=self._sizes(n_features),
            activation=self.activation,
            frequency_spread=self.frequency_spread,
        )

    def _train(
        self,
        model: ScoreModel | Denoiser,
        train: NDArray,
        held_out: NDArray,
        levels: Levels,
        device: torch.device,
        seed: int,
        at_early: Callable[[nn.Module], None] | None,
    ) -> tuple[History, BaseException | None]:
        size = self._batch if self.batch_size == "auto" else int(self.batch_size)
        n = train.shape[-2]
        size = min(size, n)
        steps_per_epoch = max(1, n // size)
        n_epochs = (
            -(-self._steps // steps_per_epoch) if self.max_iter == "auto" else int(self.max_iter)
        )
        plan = Plan(
            n_epochs=n_epochs,
            batch_size=size,
            learning_rate=self._first_rate(),
            weight_decay=float(self.weight_decay),
            n_iter_no_change=int(self.n_iter_no_change),
            tol=float(self.tol),
            adaptive=self.learning_rate == "adaptive",
            average=bool(self.average),
            residual_test=bool(self.residual_test),
            subspace_test=bool(self.subspace_test),
            sigma=self._blur(),
            mixed=self._mixed and _torch.has_fast_bfloat16(device),
        )
        x = _torch.to_tensor(train, device, torch.float32)
        x_held_out = _torch.to_tensor(held_out, device, torch.float32) if held_out.size else None
        history, loss = History(), self._loss(levels)
        with epochs_of(self, n_epochs) as report:

            def on_epoch(epoch: int, so_far: History) -> bool:
                self._print(epoch, n_epochs, so_far)
                return report()

            try:
                fit_score(
                    model,
                    x,
                    x_held_out,
                    loss,
                    plan,
                    generator=_torch.generator(seed, device),
                    history=history,
                    judge=self._judge(levels),
                    outputs=None if self.network is not None else self._outputs(levels),
                    by_hand=_by_hand(loss),
                    at_early=at_early,
                    on_epoch=on_epoch,
                )
            except (KeyboardInterrupt, DivergenceError) as failure:
                return history, failure
        return history, None

    def _print(self, epoch: int, n_epochs: int, history: History) -> None:
        held_out = f", held-out score {-history.held_out[-1]:.5f}" if history.held_out else ""
        print_epoch(epoch, n_epochs, self.verbose, f"loss {history.loss[-1]:.5f}{held_out}")
