"""What differs where the rows are images: one scale for all pixels, a U-Net, and less at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from skscore._affine import AffineMap, Array, Moments
from skscore._checks import Check, integer, is_sequence, optional_callable, refuse
from skscore.estimators._many_levels import ManyLevelEstimator
from skscore.estimators._noise_range import range_of
from skscore.networks import UNet
from skscore.noise import Levels, LogNormal, OneLevel
from skscore.objectives import denoising

WIDTHS = (32, 96)  # channels at each resolution
CENTER, SPREAD = 2.0, 1.2  # of the noise levels in training, in deviations, and of their log
UNIFORM = 0.1  # share of the rows that is spread over all levels below
LONGEST = 10_000  # sides are shorter
MARGIN = 0.25  # share of the range by which pixels may leave it, beside six times the noise


def _network(name: str, value: object) -> None:
    if not (isinstance(value, str) and value == "unet"):
        try:
            optional_callable(name, value)
        except ValueError as error:
            raise ValueError(f"{error} Or 'unet', for images.") from None


def _image_shape(name: str, value: object) -> None:
    if value is None:
        return
    sides = list(value) if is_sequence(value) else []
    try:
        for side in sides:
            integer(1, LONGEST)(name, side)
    except ValueError:
        sides = []
    if len(sides) != 3:
        raise refuse(
            name,
            value,
            f"None, or a tuple of three integers from 1 to {LONGEST - 1}: (channels, height, "
            f"width)",
        )


class _ForImages:
    """An attribute that has another value where the rows are images."""

    def __init__(self, value: int):
        self.value = value

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def __get__(self, estimator, _=None) -> int:
        if estimator._images:
            return self.value
        return getattr(super(self.owner, estimator), self.name)


class ImageEstimator(ManyLevelEstimator):
    """Abstract base: a denoiser of rows, which may be images."""

    @property
    def _constraints(self) -> dict[str, Check]:
        return {**super()._constraints, "network": _network, "image_shape": _image_shape}

    @property
    def _images(self) -> bool:  # type: ignore[override]
        return self.image_shape is not None

    @property
    def _guided(self) -> bool:  # type: ignore[override]
        return self._images and self._many

    @property
    def _mixed(self) -> bool:  # type: ignore[override]
        # Not where derivatives or small differences of the network are trained, or it is not ours.
        ours = self.network == "unet" or getattr(self.network, "func", None) is UNet
        return self._many and ours and self.parametrization == "score"

    # Sizes of the work --------------------------------------------------------------------------

    _batch = _ForImages(16)
    _steps = _ForImages(11_000)
    _shared = _ForImages(1)
    _judged = _ForImages(256)
    _most_held_out = _ForImages(256)
    _chunk = _ForImages(64)
    _looked = _ForImages(256)

    def _n_networks(self) -> int:
        return 1 if self._images and self.n_members == "auto" else super()._n_networks()

    def _first_rate(self) -> float:
        automatic = self._images and self.learning_rate_init == "auto"
        return 5e-3 if automatic else super()._first_rate()

    def _automatic_sizes(self, n_features: int) -> tuple[int, ...]:
        return WIDTHS if self._images else super()._automatic_sizes(n_features)

    # Fitting ------------------------------------------------------------------------------------

    def _coordinates(self, moments: Moments) -> AffineMap:
        if not self._images:
            return super()._coordinates(moments)
        return AffineMap.isotropic(moments, scaled=self.standardize is not None)

    def _refuse_mismatch(self, n_features: int) -> None:
        """Raise ValueError when network, image_shape and the columns do not belong together."""
        side = math.isqrt(n_features)
        if self.image_shape is None:
            if self.network == "unet":
                such = f", such as (1, {side}, {side})" if side**2 == n_features else ""
                raise ValueError(
                    f"network='unet' needs image_shape=(channels, height, width){such}: what image "
                    f"a row is."
                )
            return
        shape = tuple(map(int, self.image_shape))
        most = 1 + math.ceil(math.log2(max(shape[1:])))  # until a side has one pixel
        if self.network == "unet" and not 0 < len(self._sizes(n_features)) <= most:
            raise refuse(
                "hidden_layer_sizes",
                self.hidden_layer_sizes,
                f"the channels of a U-Net at one resolution or more, at most {most} for images of "
                f"{shape[1]} x {shape[2]}, or 'auto'",
            )
        own = getattr(self.network, "keywords", {}).get("image_shape", shape)
        if is_sequence(own) and tuple(own) != shape:
            raise ValueError(
                f"image_shape={shape!r}, but that of network={self.network!r} is {tuple(own)!r}: "
                f"set both alike."
            )
        if self.network is None:
            raise ValueError(
                f"image_shape={shape!r} has no meaning without a network for images: set "
                f"network='unet', or a factory of your own."
            )
        if self.standardize == "full":
            raise ValueError(
                "standardize='full' mixes the pixels of images: with image_shape use 'diag', one "
                "scale for all pixels, or None."
            )
        if n_features != math.prod(shape):
            channels, rest = divmod(n_features, shape[1] * shape[2])
            use = "" if rest else f", or set image_shape=({channels}, {shape[1]}, {shape[2]})"
            raise ValueError(
                f"X has {n_features} columns, but an image of image_shape={shape} has "
                f"{math.prod(shape)} pixels: pass rows that are such images, flattened{use}."
            )

    def _gaussian(self, affine: AffineMap, moments: Moments, blur: float) -> Array:
        if not self._images:
            return super()._gaussian(affine, moments, blur)
        offsets = moments.mean - affine.mean
        variance = np.mean(affine.scales**2 * (moments.scale**2 + offsets**2))
        return np.array(1 / (variance + blur**2))

    def _range(self, U: Array) -> tuple[float, float]:
        return range_of(U, pooled=self._images)

    def _law(self, high: float, low: float, U: Array) -> Levels:
        if not self._images:
            return super()._law(high, low, U)
        return LogNormal(high, low, CENTER * float(np.sqrt(np.mean(U**2))), SPREAD, UNIFORM)

    def _loss(self, levels: Levels) -> Callable[..., Tensor]:
        if self._images and isinstance(levels, OneLevel):
            # Without the penalty: the curl of a U-Net costs several times the rest.
            return partial(denoising, sigma=levels.sigma)
        return super()._loss(levels)

    def _judge(self, levels: Levels) -> Callable[..., Tensor]:
        return self._held_out_loss(levels) if self._images else super()._judge(levels)

    def _factory(self, n_features: int) -> Callable[..., nn.Module]:
        if self.network != "unet":
            return super()._factory(n_features)
        return partial(
            UNet,
            image_shape=tuple(map(int, self.image_shape)),  # type: ignore[arg-type]
            widths=self._sizes(n_features),
            activation=self.activation,
        )

    def _fit(self, X: Array) -> tuple[dict[str, object], BaseException | None]:
        self._refuse_mismatch(X.shape[1])
        state, failure = super()._fit(X)
        if self._images:
            state["_pixel_range"] = (float(X.min()), float(X.max()))
        return state, failure

    # Evaluating ---------------------------------------------------------------------------------

    def _query(self, X: ArrayLike, sigma: float | None = None) -> Array:
        rows = super()._query(X, sigma)
        if self._design.images:
            level = self._design.levels.sigmas[-1] if sigma is None else sigma
            self._refuse_range("X", rows, level / self._affine.scales[0])
        return rows

    def _given(self, given):
        given = super()._given(given)
        if self._design.images:
            try:
                values = np.asarray(given, dtype=np.float64)
            except (TypeError, ValueError):
                return given  # what is no number is refused where it is used
            self._refuse_range("given", values, 0.0)
        return given

    def _refuse_range(self, name: str, values: Array, noise: float) -> None:
        """Raise ValueError when pixels are far outside those of the training images."""
        low, high = self._pixel_range
        room = MARGIN * (high - low) + 6 * noise
        known = values[np.isfinite(values)]
        if known.size and not low - room <= known.min() <= known.max() <= high + room:
            raise ValueError(
                f"{name} has pixels from {known.min():.4g} to {known.max():.4g}, but those of the "
                f"images that were fitted are from {low:.4g} to {high:.4g}: scale these images as "
                f"those were, by one number for all pixels (X / X.max()): a scale for each, as "
                f"StandardScaler's and MinMaxScaler's, blows up those that are rarely lit. Samples "
                f"of a model that was trained too little, or led with much guidance, may be "
                f"outside, too: clip them."
            )
