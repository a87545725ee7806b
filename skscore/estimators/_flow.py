"""What the probability flow of a noise-conditional model gives: densities, and latent codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor, zeros_like

from skscore import _torch
from skscore._affine import AffineMap
from skscore._autodiff import floats_per_row
from skscore._base import Array
from skscore._checks import flag, integer, option
from skscore._checks import random_state as check_random_state_of
from skscore._denoiser import Denoiser
from skscore._descents import warn_if_coarse
from skscore.density import carry, flow_log_density, log_grid
from skscore.estimators._design import Design
from skscore.objectives import PROJECTIONS

MOST_TANGENTS = 64  # features up to which the trace is exact by default
FLOW_STEPS = 20  # for a density, whose error is then below a thousandth of a nat
CODE_STEPS = 50  # for codes, which need no trace and are to come back


def has_many_levels(estimator) -> bool:
    """Return true where an estimator has, or will have, a field at many noise levels.

    Raises
    ------
    AttributeError
        Elsewhere, with the remedy.
    """
    design = getattr(estimator, "_design", None)
    given = estimator.sigma
    if given is None or np.ndim(given) > 0 if design is None else design.levels.many:
        return True
    raise AttributeError("Only a model at many noise levels has it: fit sigma=None.")


class FlowMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """The probability flow of a fitted model, where it has a field at many noise levels."""

    _model: Denoiser
    _affine: AffineMap
    _design: Design
    _query: Callable[[ArrayLike], Array]
    _finite: Callable[[Array], Array]

    def _flow(self, X: Array, function: Callable[..., tuple[Tensor, ...]]):
        """Apply ``function(velocity, x)`` to rows in coordinates u."""
        velocity = cache(self._model.flow)
        floats = 4 * floats_per_row(velocity(self._design.levels.sigmas[-1]), self._affine.rank)
        device, dtype = self._model.precision.device, self._design.dtype
        with self._design.threads:
            return _torch.map_rows(
                lambda x: function(velocity, x.to(dtype)),
                X,
                device,
                bytes_per_row=dtype.itemsize * floats,
            )

    @available_if(has_many_levels)
    def log_density(
        self,
        X: ArrayLike,
        *,
        n_steps: int | None = None,
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
        n_steps : int, default=None
            Fourth-order steps in the log of the noise level, of four evaluations each; None is 20.
            On a ladder the steps are those from level to level, of second order.
        trace : {"auto", "exact", "hutchinson"}, default="auto"
            How the divergence is computed; "auto" is exact up to 64 features, and estimated along
            random directions beyond and for images.
        n_probes : int, default=16
            Directions of the estimate, at least two.
        random_state : int, RandomState instance or None, default=None
            Draws the directions, the same for all rows.
        return_std : bool, default=False
            Whether the standard error over the directions is returned too; zero when exact.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Log density of each row.
        standard_error : ndarray of shape (n_samples,)
            Only with `return_std`.

        Raises
        ------
        ValueError
            When X is not as in `fit`, a parameter is not valid, or `n_steps` is given on a ladder,
            where the steps are those from level to level.
        """
        X = self._query(X)
        option("auto", "exact", "hutchinson")("trace", trace)
        integer(2)("n_probes", n_probes)
        check_random_state_of("random_state", random_state)
        flag("return_std", return_std)
        few = self._affine.rank <= MOST_TANGENTS and not self._design.images
        exact = trace == "exact" or (trace == "auto" and few)
        seed = 0 if exact else int(check_random_state(random_state).randint(2**31 - 1))
        stream = _torch.generator(seed, self._model.precision.device)
        taus, scheme = self._path(n_steps)
        low = self._design.levels.sigmas[-1]
        like = self._model.precision.to(self._design.dtype)
        # The same for all rows, so that the value of each does not depend on the others.
        probes = PROJECTIONS["rademacher"]((n_probes, 1, self._affine.rank), stream, like)

        def values(velocity, x: Tensor) -> tuple[Tensor, ...]:
            w, log_det = self._model.to_flow(x, low)
            v = None if exact else probes.expand(-1, len(w), -1)
            found = flow_log_density(velocity, w, taus, directions=v, scheme=scheme) + log_det
            spread = zeros_like(found[0]) if exact else found.std(dim=0)
            return found.mean(dim=0), spread / math.sqrt(n_probes)

        log_density_u, error = self._flow(self._affine.transform(X), values)
        log_density = self._finite(self._affine.pull_log_density(X, log_density_u))
        return (log_density, error) if return_std else log_density

    def _path(self, n_steps: int | None = None) -> tuple[list[float], str]:
        """Return the logs of the levels from data to noise, and the scheme of the steps."""
        levels = self._design.levels
        if n_steps is not None:
            integer(1)("n_steps", n_steps)
        if levels.between:
            high, low = levels.sigmas
            return log_grid(low, high, FLOW_STEPS if n_steps is None else int(n_steps)), "rk4"
        if n_steps is not None:
            raise ValueError(
                f"n_steps={n_steps!r} has no meaning on a ladder, where the steps are those from "
                f"level to level: leave it at None, or fit with sigma=None."
            )
        warn_if_coarse(levels, "the probability flow")
        return [math.log(sigma) for sigma in reversed(levels.sigmas)], "heun"

    def _carried(self, rows: Array, *, to_noise: bool) -> Array:
        taus, scheme = self._path(CODE_STEPS if self._design.levels.between else None)
        taus = taus if to_noise else taus[::-1]
        (w,) = self._flow(rows, lambda velocity, w: (carry(velocity, w, taus, scheme),))
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

        Raises
        ------
        ValueError
            When X is not as in `fit`: other columns, NaN or infinity, or rows too far away for
            float64.
        """
        X = self._query(X)
        low = self._design.levels.sigmas[-1]
        with _torch.isolated():
            x = _torch.to_tensor(self._affine.transform(X), self._model.precision.device)
            w = _torch.to_numpy(self._model.to_flow(x, low)[0])
        return self._finite(self._carried(w, to_noise=True))

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

        Raises
        ------
        ValueError
            When a parameter or X is not valid; the message names it and the remedy.
        """
        return self.fit(X, y, **fit_params).transform(X)

    @available_if(has_many_levels)
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

        Raises
        ------
        ValueError
            When codes have another number of columns than `transform` returns.
        """
        check_is_fitted(self)
        codes: Array = check_array(Z, dtype=np.float64, input_name="Z")
        if codes.shape[1] != self._affine.rank:
            raise ValueError(
                f"Z has {codes.shape[1]} columns, but codes of {type(self).__name__} have "
                f"{self._affine.rank}. Pass codes as transform returns them."
            )
        low = self._design.levels.sigmas[-1]
        w = self._carried(codes, to_noise=False)
        with _torch.isolated():
            x = self._model.from_flow(_torch.to_tensor(w, self._model.precision.device), low)
        return self._finite(self._affine.inverse_transform(_torch.to_numpy(x)))

    @property
    def _n_features_out(self) -> int:
        return self._affine.rank


# After scikit-learn has wrapped them for `set_output`: its wrappers would be there in any case.
for _name in ("transform", "fit_transform"):
    setattr(
        FlowMixin,
        _name,
        available_if(has_many_levels)(getattr(FlowMixin, _name)),
    )
