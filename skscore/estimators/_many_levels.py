"""The shell of an estimator with a field at each of many noise levels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from skscore import _torch
from skscore._autodiff import repeat_rows
from skscore._base import CHAIN_PARAMS, Array
from skscore._checks import Check, auto_or, integer, real, refuse
from skscore._descents import BEST, descent_params, run_descents
from skscore._training import held_out_objective
from skscore.estimators._base import LARGEST_RATE, LOOKED, NetworkScoreEstimator
from skscore.estimators._fitted import has_energy
from skscore.estimators._flow import FlowMixin
from skscore.estimators._noise_range import range_of
from skscore.networks import NoiseConditionalMLP
from skscore.noise import Ladder, Levels, LogNormal, LogUniform, OneLevel, geometric_grid
from skscore.objectives import SHARED, denoising, noise_conditional
from skscore.samplers import FROM_NOISE

AT_LOWEST = 0.02  # share of the training rows at the lowest level of a range
JUDGED = 4_000  # held-out rows that the loss is judged on, each as often as it takes
WEIGHED = 32  # times that each is taken where a mixture is weighed: noise is most of its error
CHUNK = 1_000  # of them at once, which fit into a cache
GUIDANCE, CORRECTIONS = 2.0, 1  # of samples that are led: doc/guide/images.md has the choice
APART, WIDEST = 1 + 1e-6, 1e7  # the least and the largest ratio of two levels
PRINTED = 1e-5  # share by which a level may be off: six digits of it are printed


def _levels(name: str, value: object) -> None:
    """Check a decreasing sequence of noise levels, a number, or None."""
    if value is None:
        return
    try:
        sigmas = np.asarray(value)
        numeric = sigmas.dtype.kind in "fiu"
    except ValueError:
        sigmas, numeric = np.empty(1), False
    if sigmas.ndim == 0:
        real(high=1e10)(name, value)
        return
    apart = numeric and sigmas.ndim == 1 and len(sigmas) > 1 and np.isfinite(sigmas).all()
    if apart:
        apart = sigmas[-1] > 0 and sigmas[0] < 1e10 and (sigmas[:-1] > APART * sigmas[1:]).all()
    if not apart:
        raise refuse(
            name,
            value,
            "None, a positive number, or a strictly decreasing sequence of two or more positive "
            "finite numbers, the largest first",
        )


def _by_rows(objective: Callable[..., Tensor], judged: int, chunk: int, model, x: Tensor) -> Tensor:
    """Return the objective of held-out rows with the same noise each time, (k, n).

    It is taken `judged` times or more, over repeated rows where these are fewer, in chunks.
    """
    stream = _torch.generator(0, x.device)
    n = x.shape[-2]
    repeats = -(-judged // n)
    with torch.no_grad():
        parts = repeat_rows(x, repeats).split(chunk, dim=-2)
        values = torch.cat([objective(model, rows, generator=stream) for rows in parts], dim=-1)
    return values.unflatten(-1, (repeats, n)).mean(dim=-2).to(torch.float64)


def _exact_when_blurred(sigma: float, model, x: Tensor) -> Tensor:
    """Return the exact objective of held-out rows with the same noise each time, (k, n)."""
    stream = _torch.generator(0, x.device)
    z = torch.randn(x.shape, generator=stream, dtype=x.dtype, device=x.device)
    return held_out_objective(model, x + sigma * z)


def _outputs(levels: Levels, model, x: Tensor) -> Tensor:
    """Return what networks return at some training rows, blurred at levels of their law."""
    rows, stream = x[..., :LOOKED, :], _torch.generator(0, x.device)
    sigma = levels.draw(rows, stream)  # type: ignore[union-attr]
    z = torch.randn(rows.shape, generator=stream, dtype=x.dtype, device=x.device)
    return model.outputs(rows + sigma * z, sigma)


class ManyLevelEstimator(FlowMixin, NetworkScoreEstimator):
    """Abstract base: a network that is trained by denoising, at one noise level or at many."""

    @property
    def _constraints(self) -> dict[str, Check]:
        return {
            **super()._constraints,
            "sigma": _levels,
            "n_noise_levels": auto_or(integer(2, 10_000), None),
            "n_members": auto_or(integer(1, 1000)),
            "learning_rate_init": auto_or(real(high=LARGEST_RATE)),
            "sigma_min": auto_or(real(high=1e10)),
            "sigma_max": auto_or(real(high=1e10)),
        }

    # Fitting ------------------------------------------------------------------------------------

    @property
    def _many(self) -> bool:
        return self.sigma is None or np.ndim(self.sigma) > 0

    _batch = 128  # each twice, with opposite noise
    _shared = SHARED  # rows that have one noise level
    _judged, _chunk = JUDGED, CHUNK  # evaluations of the held-out loss, and how many at once

    @property
    def _steps(self) -> int:  # type: ignore[override]
        return 3600 if self._many else super()._steps

    def _n_networks(self) -> int:
        return 2 if self.n_members == "auto" else super()._n_networks()

    def _first_rate(self) -> float:
        return 0.006 if self.learning_rate_init == "auto" else super()._first_rate()

    def _range(self, U: Array) -> tuple[float, float]:
        """Return the automatic highest and lowest noise level for rows in coordinates u."""
        return range_of(U)

    def _law(self, high: float, low: float, U: Array) -> Levels:
        """Return the law of the noise levels in training."""
        return LogUniform(high, low, AT_LOWEST)

    def _noise_levels(self, U: Array, earlier: Levels | None) -> Levels:
        if self.sigma is not None:
            self._refuse_a_range()
            sigmas = tuple(float(sigma) for sigma in np.atleast_1d(self.sigma))
            return Ladder(sigmas) if self._many else OneLevel(*sigmas)
        known = earlier is not None and earlier.many
        automatic = (earlier.sigmas[0], earlier.sigmas[-1]) if known else self._range(U)  # type: ignore[union-attr]
        high, low = (
            auto if isinstance(value, str) else float(value)
            for value, auto in zip((self.sigma_max, self.sigma_min), automatic, strict=True)
        )
        if not APART * low < high < WIDEST * low:
            raise ValueError(
                f"sigma_min={low:g} must be below sigma_max={high:g}, and by a factor less than "
                f"{WIDEST:g}: pass other values, or 'auto' for both."
            )
        if self.n_noise_levels is not None:
            return Ladder(tuple(geometric_grid(high, low, int(self.n_noise_levels))))
        same = isinstance(earlier, LogUniform | LogNormal) and earlier.sigmas == (high, low)
        return earlier if same else self._law(high, low, U)  # type: ignore[return-value]

    def _refuse_a_range(self) -> None:
        """Raise ValueError when levels are given by `sigma` and by other parameters too."""
        for name, default in (
            ("n_noise_levels", None),
            ("sigma_min", "auto"),
            ("sigma_max", "auto"),
        ):
            value = getattr(self, name)
            if value is not default and value != default:
                raise ValueError(
                    f"{name}={value!r} has no meaning with sigma={self.sigma!r}, which names the "
                    f"levels: leave it at {default!r}, or set sigma=None."
                )

    def _needs_density(self) -> bool:
        return False

    def _fitted_levels(self, levels: Levels) -> dict[str, object]:
        return {"sigmas_": np.array(levels.sigmas)}

    def _blur(self) -> float:
        return 0.0  # the objective blurs its rows

    def _objective(self) -> Callable[..., Tensor]:
        return denoising

    def _loss(self, levels: Levels) -> Callable[..., Tensor]:
        if isinstance(levels, OneLevel):
            return partial(super()._loss(levels), sigma=levels.sigma)
        return partial(noise_conditional, levels=levels, shared=self._shared)

    def _judge(self, levels: Levels) -> Callable[..., Tensor]:
        if isinstance(levels, OneLevel):
            return partial(_exact_when_blurred, levels.sigma)
        return self._held_out_loss(levels)

    def _weighing_judge(self, levels: Levels) -> Callable[..., Tensor]:
        if isinstance(levels, OneLevel):
            return super()._weighing_judge(levels)
        loss = self._loss(levels)

        def judge(model, x: Tensor) -> Tensor:
            return _by_rows(loss, max(self._judged, WEIGHED * x.shape[-2]), self._chunk, model, x)

        return judge

    def _held_out_loss(self, levels: Levels) -> Callable[..., Tensor]:
        return partial(_by_rows, self._loss(levels), self._judged, self._chunk)

    def _outputs(self, levels: Levels) -> Callable[..., Tensor]:
        return partial(_outputs, levels) if levels.many else super()._outputs(levels)

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

    def _query(self, X: ArrayLike, sigma: float | None = None) -> Array:
        """Return valid rows that are to be taken as blurred at a level, by default the lowest."""
        return super()._query(X)

    def _known_level(self, sigma: object) -> float | None:
        """Return a level that the model has a field at."""
        if sigma is None:
            return None
        real()("sigma", sigma)
        levels = self._design.levels
        off = np.abs(np.array(levels.sigmas) / sigma - 1)  # type: ignore[operator]
        if off.min() < PRINTED:
            return float(levels.sigmas[off.argmin()])
        inside = levels.between and levels.sigmas[-1] < sigma < levels.sigmas[0]  # type: ignore[operator]
        if not inside:
            listed = ", ".join(f"{level:g}" for level in levels.sigmas[:20])
            trained = "from {1:g} to {0:g}".format(*levels.sigmas) if levels.between else listed
            raise ValueError(
                f"sigma={sigma!r} is not valid: the model was trained at noise levels {trained} "
                f"(standardised units). Ask for one of these, or fit with others."
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

        Raises
        ------
        ValueError
            When the model was not trained at that level.
        """
        check_is_fitted(self)
        level = self._known_level(sigma)
        return self._finite(self._score_samples(self._query(X, level), level))

    @available_if(has_energy)
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

        Raises
        ------
        ValueError
            When X is not as in `fit`, or the model has no such noise level.
        """
        check_is_fitted(self)
        level = self._known_level(sigma)
        return self._energy(self._query(X, level), level)

    # Sampling -----------------------------------------------------------------------------------

    @property
    def _samplers(self) -> tuple[str, ...]:
        at_one_level = super()._samplers
        return (*FROM_NOISE, *at_one_level) if self._design.levels.many else at_one_level

    _sampler_params = tuple(
        sorted({"given", *CHAIN_PARAMS, *chain(*map(descent_params, FROM_NOISE))})
    )

    def _given(self, given: ArrayLike | Mapping) -> ArrayLike:
        """Return known values as an array, NaN where they are to be drawn."""
        if hasattr(given, "dropna") and not hasattr(given, "columns"):  # a row of a data frame
            labelled = given.dropna().to_dict()
            given = labelled if all(isinstance(name, str) for name in labelled) else given
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
        if isinstance(given, np.ma.MaskedArray):
            return np.ma.filled(given.astype(np.float64), np.nan)
        if hasattr(given, "columns"):  # a data frame: its columns are checked by name
            return validate_data(
                self, given, dtype=np.float64, reset=False, ensure_all_finite="allow-nan"
            )
        return given

    def _led(self, guidance: object, given: object) -> dict:
        """Return the guide and how far it leads, as `run_descents` takes them."""
        if guidance is None:
            guidance = GUIDANCE if self._guide is not None and given is None else 1.0
        real(1.0, 100.0, closed=True)("guidance", guidance)
        if self._guide is None and guidance != 1:
            raise ValueError(
                f"guidance={guidance!r} needs an early network beside the last one, which is kept "
                f"by a fit of images (image_shape) at many noise levels that went on to learn from "
                f"there: leave guidance at None."
            )
        if guidance == 1:
            return {"guidance": 1.0}
        return {"guide": copy.deepcopy(self._guide), "guidance": float(guidance)}  # type: ignore[arg-type]

    def _sample(self, n_samples: int, seed: int, sampler: str, params: dict) -> Array:
        params = {name: value for name, value in params.items() if value is not None}
        given = params.get("given")
        if sampler == "auto":
            best = BEST if given is None else "predictor_corrector"
            sampler = best if self._design.levels.many else self._samplers[-1]
        takes = descent_params(sampler) if sampler in FROM_NOISE else CHAIN_PARAMS
        if sampler == "predictor_corrector":
            takes = (*takes, "given")
        wrong = sorted(set(params) - set(takes))
        if wrong:
            use = ""
            if wrong == ["given"]:
                many = self._design.levels.many
                use = "; " + ("use sampler='auto'" if many else "fit with sigma=None for that")
            raise TypeError(
                f"sample() got {wrong[0]!r}, which sampler={sampler!r} does not take: it takes "
                f"{', '.join(takes)}{use}."
            )
        if sampler not in FROM_NOISE:
            return super()._sample(n_samples, seed, sampler, params)
        if given is not None:
            params = {**params, "given": self._given(given)}
        with _torch.isolated(), self._design.threads:
            params |= self._led(params.get("guidance"), given)
            if "guide" in params and sampler == BEST:
                params.setdefault("n_corrections", CORRECTIONS)
            model = copy.deepcopy(self._model).to(torch.float32)
            walk = self._design.levels, sampler, n_samples, seed
            params["block_rows"] = self._design.block_rows
            return run_descents(model, self._affine, *walk, **params)
