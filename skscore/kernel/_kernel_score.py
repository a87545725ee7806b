"""The score of a kernel exponential family on a Gaussian base."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from skscore._affine import MIXED_SCALES, STANDARDIZE, AffineMap
from skscore._base import CHAIN_PARAMS, KEPT_ROWS, Array, BaseScoreEstimator, Spread
from skscore._checks import Check, auto_or, integer, option, random_state, real, share
from skscore._validation import describe, warn_of_collinear
from skscore.kernel._exponential_family import Basis
from skscore.kernel._kde import _refuse_disproportion
from skscore.kernel._selection import (
    BANDWIDTHS,
    PENALTIES,
    Choice,
    cross_validate,
    fit_penalised,
    median_distance,
)

if TYPE_CHECKING:
    from torch import Tensor

COMPONENTS = 300


class KernelScoreEstimator(BaseScoreEstimator):
    """Score of a kernel exponential family, fitted in closed form; for few rows.

    The log density is that of the fitted Gaussian plus ``sum_j c_j k(x, z_j)`` over some training
    rows ``z_j``, with the inverse multiquadric ``k = (1 + ||x - z||^2 / (2 h^2))^(-3/2)``. The
    coefficients minimise the Hyvarinen objective plus ``alpha / 2 c' K c``: linear equations. Where
    held-out rows do not show that the kernels help, the fit is the Gaussian itself.

    Parameters
    ----------
    bandwidth : float or "cv", default="cv"
        h, in units of the standardised coordinates; "cv" chooses it among ten between 0.1 and 3
        times the median distance of the components, by the held-out objective in five folds.
    alpha : float or "cv", default="cv"
        Penalty of the coefficients, without a unit; "cv" chooses it between 1e-8 and 1, on the same
        folds: the largest that is within a standard error of the best. With a number for both
        `bandwidth` and `alpha` nothing is held out, and the kernels are kept in any case.
    n_components : int or "auto", default="auto"
        Training rows that carry a kernel, drawn at random; "auto" is 300 or five times the root of
        the number of rows, whichever is more. The time of a fit grows with its square.
    standardize : {"full", "diag", None}, default="full"
        Coordinates u of the model: whitened by the covariance, scaled column by column, or only
        centred.
    shrinkage : float in [0, 1] or "auto", default="auto"
        Weight of the identity in the correlation matrix of the fitted Gaussian; 0 is that of the
        rows. "auto" leaves each row out in turn (in closed form), and is 0 where that shows no
        clear gain.
    random_state : int, RandomState instance or None, default=None
        Draws the components and the folds.

    Attributes
    ----------
    bandwidth_ : float
        h, in units of the standardised coordinates.
    alpha_ : float
        Penalty; infinite where the Gaussian was kept.
    dual_coef_ : ndarray of shape (n_components,)
        Coefficients c; zero where the Gaussian was kept.
    components_ : ndarray of shape (n_components, n_features)
        The training rows that carry a kernel.
    location_ : ndarray of shape (n_features,)
        Mean of the training rows.
    covariance_ : ndarray of shape (n_features, n_features)
        Covariance of the training rows, the metric of `score`.
    shrinkage_ : float
        The weight in use.
    n_features_in_ : int
        Columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had names.

    See Also
    --------
    KDEScoreBaseline : The exact score of a density, without training.
    SlicedScoreEstimator : A network, better with many rows or many columns.

    Notes
    -----
    The model keeps its components and at most 10,000 training rows, from which `sample` starts its
    chains: "mala" by default, or "langevin", with the keywords `n_steps`, `step_size`, `init` and
    `callback` of :class:`SlicedScoreEstimator`.

    The kernels vanish far from the components, and the score is that of the Gaussian there.
    A constant column is warned about, and columns that are collinear, where there are more rows
    than columns; the field in such a direction is ``-(x - mean)``.

    References
    ----------
    Sriperumbudur, Fukumizu, Gretton, Hyvarinen and Kumar (2017), "Density estimation in infinite
    dimensional exponential families", JMLR 18.
    Sutherland, Strathmann, Arbel and Gretton (2018), "Efficient and principled score estimation
    with Nystrom kernel exponential families", AISTATS.

    Examples
    --------
    >>> from skscore import KernelScoreEstimator, datasets
    >>> X = datasets.GaussianMixture([[-2.0], [2.0]], 1.0).sample(400, random_state=0)
    >>> est = KernelScoreEstimator(random_state=0).fit(X)
    >>> est.score_samples([[-4.0], [-1.0], [1.0], [4.0]]).round()
    array([[ 2.],
           [-1.],
           [ 1.],
           [-2.]])
    """

    def __init__(
        self,
        bandwidth="cv",
        alpha="cv",
        *,
        n_components="auto",
        standardize="full",
        shrinkage="auto",
        random_state=None,
    ):
        self.bandwidth = bandwidth
        self.alpha = alpha
        self.n_components = n_components
        self.standardize = standardize
        self.shrinkage = shrinkage
        self.random_state = random_state

    @property
    def _constraints(self) -> dict[str, Check]:
        return {
            "bandwidth": auto_or(real(low=1e-140, high=1e140), "cv"),
            "alpha": auto_or(real(low=1e-30, high=1e300), "cv"),
            "n_components": auto_or(integer(1)),
            "standardize": option(*STANDARDIZE),
            "shrinkage": auto_or(share),
            "random_state": random_state,
        }

    def _fit(self, X: Array) -> tuple[dict[str, object], None]:
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        names = getattr(self, "feature_names_in_", None)
        moments = describe(X, names, shrinkage=self.shrinkage)
        affine = AffineMap.standardising(moments, self.standardize)
        warn_of_collinear(affine, moments, names)
        U = affine.transform(X)
        radius = float(np.linalg.norm(U, axis=1).max())
        if not isinstance(self.bandwidth, str):
            _refuse_disproportion(self.bandwidth, radius, "the standardised columns")
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(U))
        which = np.sort(order[: self._size(len(U))])
        precision = affine.gaussian_precision(moments)
        metric = affine.metric(moments.covariance)
        try:
            chosen = self._choose(U, metric, U[which], precision, rng)
        except (ValueError, np.linalg.LinAlgError) as error:
            if self.standardize is not None:
                raise
            raise ValueError(MIXED_SCALES) from error
        basis, c = chosen.basis, chosen.coefficients
        rows = U[order[:KEPT_ROWS]]
        return {
            "_affine": affine,
            "_basis": basis,
            "_rows": rows,
            "_spread": Spread.of(basis.score(rows, c), radius),
            "bandwidth_": float(basis.bandwidth),
            "alpha_": float(chosen.penalty),
            "dual_coef_": c,
            "components_": X[which],
            "location_": moments.mean,
            "covariance_": moments.covariance,
            "shrinkage_": moments.shrinkage,
        }, None

    def _size(self, n: int) -> int:
        if isinstance(self.n_components, str):
            return max(COMPONENTS, round(5 * n**0.5))
        return int(self.n_components)

    def _choose(
        self, U: Array, metric: Array, points: Array, precision: Array, rng: np.random.Generator
    ) -> Choice:
        if isinstance(self.bandwidth, str):
            bandwidths = BANDWIDTHS * median_distance(points)
        else:
            bandwidths = np.array([float(self.bandwidth)])
        bases = [Basis(points, float(h), precision) for h in bandwidths]
        if isinstance(self.alpha, str):
            return cross_validate(U, metric, bases, PENALTIES, rng)
        if isinstance(self.bandwidth, str):
            return cross_validate(U, metric, bases, np.array([float(self.alpha)]), rng)
        return fit_penalised(U, metric, bases[0], float(self.alpha))

    def _score_samples(self, X: Array) -> Array:
        score_u = self._basis.score(self._affine.transform(X), self.dual_coef_)
        return self._affine.pull_score(X, score_u)

    def _field(self, X: Array, covariance: Array) -> tuple[Array, Array]:
        score_u, divergence = self._basis.score_and_divergence(
            self._affine.transform(X), self.dual_coef_, self._affine.metric(covariance)
        )
        null = self._affine.null_divergence(covariance)
        return self._affine.pull_score(X, score_u), divergence + null

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
        X = self._query(X)
        energy_u = -self._basis.log_density(self._affine.transform(X), self.dual_coef_)
        return self._finite(self._affine.pull_energy(X, energy_u))

    _sampler_params = CHAIN_PARAMS

    @property
    def _samplers(self) -> tuple[str, ...]:
        return ("langevin", "mala")

    def _sample(self, n_samples: int, seed: int, sampler: str, params: dict) -> Array:
        import torch

        from skscore import _torch
        from skscore._chains import draw_rows, run_chains

        device = torch.device("cpu")
        with _torch.one_thread:
            return run_chains(
                _Field(self._basis, self.dual_coef_),
                self._affine,
                partial(draw_rows, _torch.to_tensor(self._rows, device)),
                self._spread,
                self._samplers[-1] if sampler == "auto" else sampler,
                n_samples,
                seed,
                device,
                **params,
            )


class _Field:
    """The field as the samplers see it: tensors in, tensors out."""

    def __init__(self, basis: Basis, coefficients: Array):
        self._basis = basis
        self._coefficients = coefficients

    def __call__(self, x: Tensor) -> Tensor:
        from skscore import _torch

        return _torch.to_tensor(self._basis.score(_torch.to_numpy(x), self._coefficients), x.device)

    def energy(self, x: Tensor) -> Tensor:
        from skscore import _torch

        f = self._basis.log_density(_torch.to_numpy(x), self._coefficients)
        return _torch.to_tensor(-f, x.device)
