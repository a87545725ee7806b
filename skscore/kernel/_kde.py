"""The score of a kernel density estimate: the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from skscore._affine import AffineMap, Moments
from skscore._base import Array, BaseScoreEstimator
from skscore._checks import Check, auto_or, real
from skscore._validation import describe, warn_of_collinear
from skscore.kernel._bandwidth import scott, search, silverman
from skscore.metrics import hyvarinen_rows

if TYPE_CHECKING:
    import torch

CV_QUERIES, CV_FOLDS = 2000, 5
PROPORTION = 1e30  # of the data's reach to the bandwidth, so that squares stay finite
RULES = ("scott", "silverman", "cv")


def _check_device(name: str, value: object) -> None:
    from skscore._torch import check_device

    check_device(name, value)


def _refuse_disproportion(bandwidth: float, radius: float, units: str = "X") -> None:
    if not 1 / PROPORTION < radius / bandwidth < PROPORTION:
        raise ValueError(
            f"bandwidth={bandwidth!r} is out of all proportion to X, which reaches {radius:.3g} "
            f"from its mean: it must be within a factor of {PROPORTION:g}. It is in "
            f"the units of {units}."
        )


class KDEScoreBaseline(BaseScoreEstimator):
    """Score of a Gaussian kernel density estimate.

    ``s(x) = sum_i w_i(x) x_i - x`` over ``h^2``, with ``w = softmax(-||x - x_i||^2 / (2 h^2))``:
    exact, also far from the data, and the one to beat.

    Parameters
    ----------
    bandwidth : float or {"scott", "silverman", "cv"}, default="scott"
        A number is h, in the units of X. The rules multiply the scale of the training covariance,
        so that the kernel has the data's shape and the units of the columns do not matter:
        Scott's, Silverman's, or the one that maximises `score` on at most 2,000 held-out rows, in
        five folds, between 0.05 and 4 times Scott's.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1" ...; "auto" is CUDA where there is a device, else the CPU.

    Attributes
    ----------
    bandwidth_ : float
        h, in the units of X for a number, else in standard deviations.
    location_ : ndarray of shape (n_features,)
        Mean of the training rows.
    covariance_ : ndarray of shape (n_features, n_features)
        Covariance of the training rows, the metric of `score`.
    n_features_in_ : int
        Columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Their names, if X had names.

    See Also
    --------
    SlicedScoreEstimator : A network, nearer to the truth at 1,000 rows and more.

    Notes
    -----
    `sample` draws exactly, a training row and noise of the kernel; it has no further keywords.
    A constant column is warned about, and columns that are collinear, where there are more rows
    than columns; the field in such a direction is ``-(x - mean)``.

    References
    ----------
    Silverman (1986), "Density estimation for statistics and data analysis", ch. 4.
    Scott (1992), "Multivariate density estimation".

    Examples
    --------
    >>> from skscore import KDEScoreBaseline
    >>> kde = KDEScoreBaseline(bandwidth=1.0).fit([[-1.0], [1.0]])
    >>> kde.score_samples([[-5.0], [0.0], [5.0]]).round(2)
    array([[ 4.],
           [ 0.],
           [-4.]])
    """

    def __init__(self, bandwidth="scott", *, device="auto"):
        self.bandwidth = bandwidth
        self.device = device

    @property
    def _constraints(self) -> dict[str, Check]:
        bandwidth = real(low=1e-140, high=1e140)  # its square and inverse square are finite
        for rule in RULES:
            bandwidth = auto_or(bandwidth, rule)
        return {"bandwidth": bandwidth, "device": _check_device}

    def _fit(self, X: Array) -> tuple[dict[str, object], None]:
        names = getattr(self, "feature_names_in_", None)
        moments = describe(X, names, density=False)
        affine = self._coordinates(moments)
        warn_of_collinear(affine, moments, names)
        rows = affine.transform(X)
        if not isinstance(self.bandwidth, str):
            _refuse_disproportion(self.bandwidth, np.abs(rows).max())
        return {
            "_affine": affine,
            "_rows": rows,
            "bandwidth_": self._choose(rows, affine.metric(moments.covariance)),
            "location_": moments.mean,
            "covariance_": moments.covariance,
        }, None

    def _coordinates(self, moments: Moments) -> AffineMap:
        if not isinstance(self.bandwidth, str):
            return AffineMap.centring(moments)
        return AffineMap.standardising(moments, "full")

    def _choose(self, rows: Array, metric: Array) -> float:
        if not isinstance(self.bandwidth, str):
            return float(self.bandwidth)
        n, d = rows.shape
        if self.bandwidth == "silverman":
            return silverman(n, d)
        if self.bandwidth == "scott":
            return scott(n, d)
        # The same folds whenever the data are the same: an estimate has no seed.
        order = np.random.default_rng(0).permutation(n)
        folds = np.array_split(order, min(CV_FOLDS, n))
        parts = [
            (rows[fold[: CV_QUERIES // CV_FOLDS]], np.delete(rows, fold, axis=0)) for fold in folds
        ]

        def held_out_score(h: float) -> float:
            fields = (self._field_u(queries, centres, h, metric) for queries, centres in parts)
            scores = [hyvarinen_rows(*field, covariance=metric) for field in fields]
            return float(np.concatenate(scores).mean())

        return search(held_out_score, scott(n, d))

    def _tensors(self, *arrays: Array) -> list[torch.Tensor]:
        from skscore import _torch

        device = _torch.resolve_device_or_cpu(self.device)
        return [_torch.to_tensor(a, device) for a in arrays]

    def _map(self, function, U: Array, *arrays: Array) -> tuple[Array, ...]:
        from skscore import _torch

        constants = self._tensors(*arrays)
        device = constants[0].device
        bytes_per_row = 64 * (U.shape[1] + 2)
        return _torch.map_rows(
            lambda u: function(u, *constants), U, device, bytes_per_row=bytes_per_row
        )

    def _field_u(self, U: Array, rows: Array, h: float, metric: Array) -> tuple[Array, Array]:
        from skscore.kernel import _gaussian

        return self._map(  # type: ignore[return-value]
            lambda u, c, A: _gaussian.score_and_divergence(u, c, h, A), U, rows, metric
        )

    def _score_samples(self, X: Array) -> Array:
        from skscore.kernel import _gaussian

        U = self._affine.transform(X)
        (score_u,) = self._map(
            lambda u, c: (_gaussian.score(u, c, self.bandwidth_),), U, self._rows
        )
        return self._affine.pull_score(X, score_u)

    def _field(self, X: Array, covariance: Array) -> tuple[Array, Array]:
        A = self._affine.metric(covariance)
        U = self._affine.transform(X)
        score_u, divergence = self._field_u(U, self._rows, self.bandwidth_, A)
        null = self._affine.null_divergence(covariance)
        return self._affine.pull_score(X, score_u), divergence + null

    def log_density(self, X: ArrayLike) -> Array:
        """Return the log density at each row, in nats and the units of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Where to evaluate it.

        Returns
        -------
        ndarray of shape (n_samples,)
            Normalised; a constant column counts as N(mean, 1).

        Raises
        ------
        ValueError
            When X is not as in `fit`: other columns, NaN or infinity, or rows too far away for
            float64.
        """
        from skscore.kernel import _gaussian

        X = self._query(X)
        U = self._affine.transform(X)
        (log_p,) = self._map(
            lambda u, c: (_gaussian.log_density(u, c, self.bandwidth_),), U, self._rows
        )
        return self._finite(self._affine.pull_log_density(X, log_p))

    @property
    def _samplers(self) -> tuple[str, ...]:
        return ("exact",)

    def _sample(self, n_samples: int, seed: int, sampler: str, params: dict) -> Array:
        from skscore import _torch
        from skscore.kernel import _gaussian

        (c,) = self._tensors(self._rows)
        size = _torch.BLOCK_ROWS
        with _torch.isolated():
            blocks = [
                _gaussian.draw(
                    c, self.bandwidth_, size, _torch.generator(seed, c.device, block=block)
                )
                for block in range(-(-n_samples // size))
            ]
        rows = np.concatenate([_torch.to_numpy(b) for b in blocks])[:n_samples]
        return self._affine.inverse_transform(rows)
