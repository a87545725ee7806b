"""The shell of an estimator with a field at each of many noise levels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import chain

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from skscore import _torch
from skscore._autodiff import floats_per_row, repeat_rows
from skscore._base import CHAIN_PARAMS, Array
from skscore._descents import BEST, descent_params, run_descents
from skscore._training import held_out_objective
from skscore._validation import Check, auto_or, integer, option, real, refuse
from skscore._validation import random_state as check_random_state_of
from skscore.density import carry, flow_log_density, log_grid
from skscore.estimators._base import NetworkScoreEstimator, _has_energy
from skscore.networks import NoiseConditionalMLP
from skscore.noise import Ladder, LogUniform, geometric_grid
from skscore.objectives import PROJECTIONS, denoising, noise_conditional
from skscore.samplers import FROM_NOISE

LEAST, COARSEST = 0.01, 0.1  # sigma_min="auto" is between, in deviations of the columns
LOOK_AT = 2_000  # rows, for the largest distance
MOST_TANGENTS = 64  # features up to which the trace is exact by default
AT_LOWEST = 0.1  # share of the training rows at the lowest level of a range
JUDGED = 4_000  # held-out rows that the loss is judged on, each as often as it takes
FLOW_STEPS = 20
ROUNDING = 1e-9  # share by which a level may leave the range


def _levels(name: str, value: object) -> None:
    """Check a decreasing sequence of noise levels, a number, or None."""
    if value is None:
        return
    if np.ndim(value) == 0:  # type: ignore[arg-type]
        real(high=1e10)(name, value)
        return
    try:
        sigmas = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        sigmas = np.empty(0)
    decreasing = sigmas.ndim == 1 and len(sigmas) > 1 and bool((np.diff(sigmas) < 0).all())
    if not decreasing or not np.isfinite(sigmas).all() or sigmas[-1] <= 0 or sigmas[0] >= 1e10:
        raise refuse(
            name,
            value,
            "None, a positive number, or a strictly decreasing sequence of two or more positive "
            "finite numbers, the largest first",
        )


def _has_many_levels(estimator) -> bool:
    design = getattr(estimator, "_design", None)
    if design is None:
        return estimator.sigma is None or np.ndim(estimator.sigma) > 0
    return design.at_many_levels


def _by_rows(objective: Callable[..., Tensor], model, x: Tensor) -> Tensor:
    """Return the objective of held-out rows with the same noise each time, (k, n)."""
    stream = _torch.generator(0, x.device)
    n = x.shape[-2]
    repeats = -(-JUDGED // n)
    with torch.no_grad():
        parts = repeat_rows(x, repeats).split(2 * JUDGED, dim=-2)
        values = torch.cat([objective(model, rows, generator=stream) for rows in parts], dim=-1)
    return values.unflatten(-1, (repeats, n)).mean(dim=-2).to(torch.float64)


def _exact_when_blurred(sigma: float, model, x: Tensor) -> Tensor:
    """Return the exact objective of held-out rows with the same noise each time, (k, n)."""
    z = torch.randn(x.shape, generator=_torch.generator(0, x.device), device=x.device)
    return held_out_objective(model, x + sigma * z)


class ManyLevelEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NetworkScoreEstimator):
    """Abstract base: a network that is trained by denoising, at one noise level or at many."""

    @property
    def _constraints(self) -> dict[str, Check]:
        return {
            **super()._constraints,
            "sigma": _levels,
            "n_noise_levels": auto_or(integer(2, 10_000), None),
            "sigma_min": auto_or(real(high=1e10)),
            "sigma_max": auto_or(real(high=1e10)),
        }

    # Fitting ------------------------------------------------------------------------------------

    @property
    def _many(self) -> bool:
        return self.sigma is None or np.ndim(self.sigma) > 0

    _batch = 128  # each twice, with opposite noise
    _average_span = 1000

    @property
    def _steps(self) -> int:  # type: ignore[override]
        return 8000 if self._many else 2500

    def _noise_levels(self, U: Array, earlier: tuple[float, ...] | None) -> tuple[float, ...]:
        if self.sigma is not None:
            return tuple(float(sigma) for sigma in np.atleast_1d(self.sigma))
        automatic = (earlier[0], earlier[-1]) if earlier else _range_of(U)
        high, low = (
            auto if isinstance(value, str) else float(value)
            for value, auto in zip((self.sigma_max, self.sigma_min), automatic, strict=True)
        )
        if not low < high:
            raise ValueError(
                f"sigma_min={low:g} must be below sigma_max={high:g}: pass other values, or 'auto' "
                f"for both."
            )
        if self.n_noise_levels is None:
            return high, low
        return tuple(geometric_grid(high, low, int(self.n_noise_levels)))

    def _needs_density(self) -> bool:
        return False

    def _fitted_levels(self, sigmas: tuple[float, ...]) -> dict[str, object]:
        return {"sigmas_": np.array(sigmas)}

    def _blur(self) -> float:
        return 0.0  # the objective blurs its rows

    def _objective(self) -> Callable[..., Tensor]:
        return denoising

    def _loss(self, sigmas: tuple[float, ...]) -> Callable[..., Tensor]:
        if len(sigmas) == 1:
            return partial(super()._loss(sigmas), sigma=sigmas[0])
        spread = self.n_noise_levels is None and self.sigma is None
        levels = LogUniform(sigmas[0], sigmas[-1], AT_LOWEST) if spread else Ladder(sigmas)
        return partial(noise_conditional, levels=levels)

    def _judge(self, sigmas: tuple[float, ...]) -> Callable[..., Tensor]:
        if len(sigmas) == 1:
            return partial(_exact_when_blurred, sigmas[0])
        return partial(_by_rows, self._loss(sigmas))

    def _automatic_sizes(self, n_features: int) -> tuple[int, ...]:
        return (128, 128, 128) if self._many else (96, 96, 96)

    def _factory(self, n_features: int):
        if self.network is not None or not self._many:
            return super()._factory(n_features)
        return partial(
            NoiseConditionalMLP,
            hidden_layer_sizes=self._sizes(n_features),
            activation=self.activation,
            frequency_spread=1.0 if self.frequency_spread == "auto" else self.frequency_spread,
        )

    # Evaluating ---------------------------------------------------------------------------------

    def _known_level(self, sigma: object) -> float | None:
        """Return a level that the model has a field at."""
        if sigma is None:
            return None
        real()("sigma", sigma)
        high, low = self._design.sigmas[0], self._design.sigmas[-1]
        if not low * (1 - ROUNDING) <= sigma <= high * (1 + ROUNDING):  # type: ignore[operator]
            raise ValueError(
                f"sigma={sigma!r} is not valid: the model was trained at noise levels from "
                f"{low:g} to {high:g} (standardised units). Ask for one of these, or fit with "
                f"another range (sigma_min, sigma_max)."
            )
        return float(sigma)  # type: ignore[arg-type]

    def score_samples(self, X: ArrayLike, sigma: float | None = None) -> Array:
        """Return the gradient field, grad_x log p_sigma(x), at each row.

        Unlike in scikit-learn's density estimators this is a vector to a row, not a log density.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Where to evaluate it.
        sigma : float, default=None
            Noise level, in units of the standardised coordinates; None is the lowest.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The field of the data blurred at that level, in the inverse units of X.
        """
        X = self._query(X)
        return self._finite(self._score_samples(X, self._known_level(sigma)))

    @available_if(_has_energy)
    def energy(self, X: ArrayLike, sigma: float | None = None) -> Array:
        """Return the energy, -log p_sigma(x) up to a constant that depends on the level.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Where to evaluate it.
        sigma : float, default=None
            Noise level, in units of the standardised coordinates; None is the lowest.

        Returns
        -------
        ndarray of shape (n_samples,)
            Its gradient is minus `score_samples`.
        """
        X = self._query(X)
        return self._energy(X, self._known_level(sigma))

    # The probability flow -----------------------------------------------------------------------

    def _flow(self, X: Array, function: Callable[..., tuple[Tensor, ...]]):
        """Apply ``function(velocity, x)`` to rows in coordinates u."""
        velocity = cache(self._model.flow)
        floats = 4 * floats_per_row(self._level(), self._affine.rank)
        device = self._model.precision.device
        with _torch.one_thread:  # hundreds of small products
            return _torch.map_rows(partial(function, velocity), X, device, bytes_per_row=8 * floats)

    @available_if(_has_many_levels)
    def log_density(
        self,
        X: ArrayLike,
        *,
        n_steps: int = FLOW_STEPS,
        trace: str = "auto",
        n_probes: int = 16,
        random_state=None,
        return_std: bool = False,
    ):
        """Return the log density in nats, in the units of X, along the probability flow.

        It is that of the data blurred at the lowest noise level. For Gaussian data it is that of
        the fitted Gaussian, exactly.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Where to evaluate it.
        n_steps : int, default=20
            Fourth-order steps in the log of the noise level, of four evaluations each.
        trace : {"auto", "exact", "hutchinson"}, default="auto"
            How the divergence is computed; "auto" is exact up to 64 features, and estimated along
            random directions beyond.
        n_probes : int, default=16
            Directions of the estimate, at least two.
        random_state : int, RandomState instance or None, default=None
            Draws the directions.
        return_std : bool, default=False
            Whether the standard error over the directions is returned too; zero when exact.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Log density of each row.
        standard_error : ndarray of shape (n_samples,)
            Only with `return_std`.
        """
        X = self._query(X)
        integer(1)("n_steps", n_steps)
        option("auto", "exact", "hutchinson")("trace", trace)
        integer(2)("n_probes", n_probes)
        check_random_state_of("random_state", random_state)
        exact = trace == "exact" or (trace == "auto" and self._affine.rank <= MOST_TANGENTS)
        seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
        stream = _torch.generator(seed, self._model.precision.device)
        low, high = self._design.sigmas[-1], self._design.sigmas[0]
        taus = log_grid(low, high, int(n_steps))

        def values(velocity, x: Tensor) -> tuple[Tensor, ...]:
            w, log_det = self._model.to_flow(x, low)
            v = None if exact else PROJECTIONS["rademacher"]((n_probes, *w.shape), stream, w)
            found = flow_log_density(velocity, w, taus, directions=v) + log_det
            error = (
                found.std(dim=0) / n_probes**0.5 if len(found) > 1 else torch.zeros_like(found[0])
            )
            return found.mean(dim=0), error

        log_density_u, error = self._flow(self._affine.transform(X), values)
        log_density = self._finite(self._affine.pull_log_density(X, log_density_u))
        return (log_density, error) if return_std else log_density

    def _carried(self, rows: Array, first: float, last: float, n_steps: int) -> Array:
        taus = log_grid(first, last, n_steps)
        (w,) = self._flow(rows, lambda velocity, w: (carry(velocity, w, taus),))
        return w

    def transform(self, X: ArrayLike) -> Array:
        """Return the latent code of each row: where the probability flow carries it.

        Up to the error of the fit the codes of the training law are standard normal, whatever that
        law; `inverse_transform` goes back.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Codes, as many columns as X has directions that vary.
        """
        X = self._query(X)
        high, low = self._design.sigmas[0], self._design.sigmas[-1]
        with _torch.isolated():
            x = _torch.to_tensor(self._affine.transform(X), self._model.precision.device)
            w = _torch.to_numpy(self._model.to_flow(x, low)[0])
        return self._finite(self._carried(w, low, high, FLOW_STEPS))

    def fit_transform(self, X: ArrayLike, y=None, **fit_params) -> Array:
        """Fit to rows and return their latent codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : Ignored
            Not used, here for the convention of scikit-learn.
        **fit_params
            Passed to `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Codes.
        """
        return self.fit(X, y, **fit_params).transform(X)

    @available_if(_has_many_levels)
    def inverse_transform(self, Z: ArrayLike) -> Array:
        """Return the row of each latent code.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Rows in the units of X.
        """
        check_is_fitted(self)
        codes: Array = check_array(Z, dtype=np.float64, input_name="Z")
        if codes.shape[1] != self._affine.rank:
            raise ValueError(
                f"Z has {codes.shape[1]} columns, but codes of {type(self).__name__} have "
                f"{self._affine.rank}."
            )
        high, low = self._design.sigmas[0], self._design.sigmas[-1]
        w = self._carried(codes, high, low, FLOW_STEPS)
        with _torch.isolated():
            x = self._model.from_flow(_torch.to_tensor(w, self._model.precision.device), low)
        return self._finite(self._affine.inverse_transform(_torch.to_numpy(x)))

    @property
    def _n_features_out(self) -> int:
        return self._affine.rank

    # Sampling -----------------------------------------------------------------------------------

    @property
    def _samplers(self) -> tuple[str, ...]:
        at_one_level = super()._samplers
        return (*FROM_NOISE, *at_one_level) if self._design.at_many_levels else at_one_level

    @property
    def _sampler_params(self) -> tuple[str, ...]:  # type: ignore[override]
        if not _has_many_levels(self):
            return CHAIN_PARAMS
        return tuple(sorted({"given", *CHAIN_PARAMS, *chain(*map(descent_params, FROM_NOISE))}))

    def _given(self, given: ArrayLike | Mapping) -> ArrayLike:
        """Return known values as an array, NaN where they are to be drawn."""
        if isinstance(given, Mapping):
            names = getattr(self, "feature_names_in_", range(self.n_features_in_))
            columns = {name: j for j, name in enumerate(names)}
            unknown = [name for name in given if name not in columns]
            if unknown:
                raise ValueError(
                    f"given names {unknown[0]!r}, which is no column of the data that were fitted: "
                    f"these are {', '.join(map(repr, columns))}."
                )
            row = np.full(self.n_features_in_, np.nan)
            for name, value in given.items():
                real(-np.inf)(f"given[{name!r}]", value)
                row[columns[name]] = value
            return row
        if hasattr(given, "columns"):  # a data frame: its columns are checked by name
            return validate_data(
                self, given, dtype=np.float64, reset=False, ensure_all_finite="allow-nan"
            )
        return given

    def _sample(self, n_samples: int, seed: int, sampler: str, params: dict) -> Array:
        given = params.get("given")
        if sampler == "auto":
            best = BEST if given is None else "predictor_corrector"
            sampler = best if self._design.at_many_levels else self._samplers[-1]
        takes = descent_params(sampler) if sampler in FROM_NOISE else CHAIN_PARAMS
        if sampler == "predictor_corrector":
            takes = (*takes, "given")
        wrong = sorted(set(params) - set(takes))
        if wrong:
            use = "; use sampler='auto' or 'predictor_corrector'" if wrong == ["given"] else ""
            raise TypeError(
                f"sample() got {wrong[0]!r}, which sampler={sampler!r} does not take: it takes "
                f"{', '.join(takes)}{use}."
            )
        if sampler not in FROM_NOISE:
            return super()._sample(n_samples, seed, sampler, params)
        if given is not None:
            params = {**params, "given": self._given(given)}
        with _torch.isolated(), _torch.one_thread:
            model = copy.deepcopy(self._model).to(torch.float32)
            sigmas = self._design.sigmas
            return run_descents(model, self._affine, sigmas, sampler, n_samples, seed, **params)


# After scikit-learn has wrapped them for `set_output`: its wrappers would be there in any case.
for _name in ("transform", "fit_transform"):
    setattr(
        ManyLevelEstimator,
        _name,
        available_if(_has_many_levels)(getattr(ManyLevelEstimator, _name)),
    )


def _range_of(U: Array) -> tuple[float, float]:
    """Return the automatic highest and lowest noise level for rows in coordinates u.

    The highest is the largest distance of two rows (Song and Ermon 2020, technique 1): there the
    blurred data are near their Gaussian. The lowest is a hundredth of a deviation, or more where
    columns are discrete: half their steps, at most a tenth.
    """
    looked = U[:LOOK_AT]
    unit = float(np.sqrt(looked.var(axis=0).mean())) or 1.0
    steps = [gap for gap in map(_step_of, looked.T) if gap]
    low = np.clip(0.5 * float(np.median(steps)) / unit if steps else 0.0, LEAST, COARSEST) * unit
    return max(float(pdist(looked).max()), unit), float(low)


def _step_of(column: Array) -> float:
    """Return the distance of neighbouring values of a discrete column, 0.0 for another one."""
    values = np.unique(column)
    if len(values) > len(column) / 2 or len(values) < 2:
        return 0.0
    return float(np.median(np.diff(values)))
