"""A fitted network as an estimator: the field, its energy, chains, and state.

Everything a user sees is in the units of X; the model lives in standardised coordinates u.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.metaestimators import available_if
from torch import Tensor

from skscore import _torch
from skscore._affine import AffineMap
from skscore._autodiff import divergence_by_probes, floats_per_row, value_and_divergence
from skscore._base import CHAIN_PARAMS, Array, BaseScoreEstimator, Spread
from skscore._chains import draw_rows, run_chains
from skscore._denoiser import Denoiser
from skscore._model import ScoreModel
from skscore.estimators._design import Design
from skscore.objectives import PROJECTIONS

MODELS = ("_model", "_guide")
SCORE_PROBES = 16  # directions that the divergence is estimated along, of larger images


def has_energy(estimator) -> bool:
    """Return true where the network of an estimator is, or will be, an energy.

    Raises
    ------
    AttributeError
        Elsewhere, with the remedy.
    """
    design = getattr(estimator, "_design", None)
    if estimator.parametrization == "energy" if design is None else design.energy:
        return True
    raise AttributeError("Only a network that is an energy has one: fit parametrization='energy'.")


class FittedNetwork(BaseScoreEstimator):
    """Abstract base: what a network gives, once it is fitted."""

    _model: Any  # a ScoreModel or a Denoiser
    _guide: Any = None  # one that has learnt less, for guidance
    _affine: AffineMap
    _design: Design
    _spread: Spread
    _rows: NDArray | None

    def _level(self, sigma: float | None = None) -> ScoreModel:
        """Return the field at a noise level, by default the lowest."""
        return at_level(self._model, self._design.levels.sigmas[-1] if sigma is None else sigma)

    def _map(self, function: Callable[..., tuple[Tensor, ...]], field, X: Array, seeds=None):
        floats, dtype = floats_per_row(field, self._affine.rank), self._design.dtype
        device = self._model.precision.device
        return _torch.map_rows(
            lambda u, *own: function(u.to(dtype), *own),
            self._affine.transform(X),
            device,
            bytes_per_row=dtype.itemsize * floats,
            seeds=seeds,
        )

    def _score_samples(self, X: Array, sigma: float | None = None) -> Array:
        field = self._level(sigma)
        (score_u,) = self._map(lambda u: (field(u),), field, X)
        return self._affine.pull_score(X, score_u)

    def _field(self, X: Array, covariance: Array) -> tuple[Array, Array]:
        device, field = self._model.precision.device, self._level()
        A = _torch.to_tensor(self._affine.metric(covariance), device, self._design.dtype)
        if self._design.images and self._affine.rank > SCORE_PROBES:

            def estimate(u: Tensor, own: Sequence[int]) -> tuple[Tensor, Tensor]:
                return divergence_by_probes(field, u, _probes(u, own), A)

            # By the row in the units of X: all estimators see the same directions at it.
            score_u, divergence = self._map(estimate, field, X, _torch.seeds_of(X))
        else:
            closed_form = partial(value_and_divergence, field, metric=A)
            score_u, divergence = self._map(closed_form, field, X)
        null = self._affine.null_divergence(covariance)
        return self._affine.pull_score(X, score_u), divergence + null

    @available_if(has_energy)
    def energy(self, X: ArrayLike) -> Array:
        """Return the energy, -log p(x) up to a constant.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Where to evaluate it.

        Returns
        -------
        ndarray of shape (n_samples,)
            Its gradient is minus `score_samples`.

        Raises
        ------
        ValueError
            When X is not as in `fit`: other columns, NaN or infinity, or rows too far away for
            float64.
        """
        return self._energy(self._query(X))

    def _energy(self, X: Array, sigma: float | None = None) -> Array:
        field = self._level(sigma)
        (energy_u,) = self._map(lambda u: (field.energy(u),), field, X)
        return self._finite(self._affine.pull_energy(X, energy_u))

    _sampler_params = CHAIN_PARAMS

    @property
    def _samplers(self) -> tuple[str, ...]:
        return ("langevin", "mala") if self._design.energy else ("langevin",)

    def _sample(self, n_samples: int, seed: int, sampler: str, params: dict) -> Array:
        name = self._samplers[-1] if sampler == "auto" else sampler
        device = self._model.precision.device
        with _torch.isolated(), self._design.threads:
            field = at_level(
                copy.deepcopy(self._model).to(torch.float32), self._design.levels.sigmas[-1]
            )
            if self._rows is None:
                own = self._level().precision  # float32 cannot hold that of collinear columns
                start = partial(_draw_gaussian, own, self._affine.rank)
            else:
                start = partial(draw_rows, _torch.to_tensor(self._rows, device, torch.float32))
            return run_chains(
                field,
                self._affine,
                start,
                self._spread,
                name,
                n_samples,
                seed,
                device,
                block_rows=self._design.block_rows,
                **params,
            )

    # State: arrays and no tensors, so that it loads where there is no such device ---------------

    def __getstate__(self):
        state = dict(super().__getstate__())
        kept = {name: state[name] for name in MODELS if state.get(name) is not None}
        return state | {name: weights_of(model) for name, model in kept.items()}

    def __setstate__(self, state):
        super().__setstate__(state)
        for name in MODELS:
            weights = vars(self).get(name)
            if weights is not None:
                with _torch.isolated():
                    model = self._design.build(weights)
                    if name == "_model":
                        self._design.remember(model)
                device = _torch.resolve_device_or_cpu(self.device)
                model = model.requires_grad_(False).to(device, self._design.dtype)
                setattr(self, name, self._design.mixed(model))


def _probes(u: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return directions of each row's own, (SCORE_PROBES, n, d): their errors average over rows."""
    shape = (SCORE_PROBES, u.shape[1])
    streams = (_torch.generator(seed, u.device) for seed in seeds)
    return torch.stack([PROJECTIONS["rademacher"](shape, stream, u) for stream in streams], dim=1)


def weights_of(model: ScoreModel | Denoiser) -> dict[str, NDArray]:
    """Return the weights of a model's network as arrays."""
    state = model.network.state_dict()
    return {name: t.to("cpu", torch.float32).numpy().copy() for name, t in state.items()}


def at_level(model: ScoreModel | Denoiser, sigma: float) -> ScoreModel:
    """Return the field at a noise level."""
    return model.at(sigma) if isinstance(model, Denoiser) else model


def spread_of(
    model: ScoreModel | Denoiser,
    design: Design,
    U: Array,
    looked: Array,
    random: np.random.Generator,
) -> Spread:
    """Return what chains go by: of the field of the lowest level, over rows that are blurred so."""
    sigma, device = design.levels.sigmas[-1], model.precision.device
    blurred = looked + sigma * random.standard_normal(looked.shape)
    field = at_level(model, sigma)
    scores = _torch.to_numpy(field(_torch.to_tensor(blurred, device, design.dtype)))
    radius = float(np.linalg.norm(U, axis=1).max()) + sigma * U.shape[1] ** 0.5
    return Spread.of(scores, radius)


def _draw_gaussian(precision: Tensor, rank: int, size: int, stream: torch.Generator) -> Tensor:
    """Draw from the Gaussian that the network stands over."""
    options = {"generator": stream, "device": precision.device, "dtype": torch.float64}
    z, P = torch.randn(size, rank, **options), precision.to(torch.float64)  # type: ignore[call-overload]
    if P.dim():
        u = torch.linalg.solve_triangular(torch.linalg.cholesky(P), z, upper=False, left=False)
    else:
        u = z / P.sqrt()
    return u.to(torch.float32)
