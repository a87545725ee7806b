"""The divergence of a field at many noise levels, added up along the path from noise to data.

s* true score of the data blurred by sigma, s the estimated one, c the scale of the columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid
from sklearn.utils import check_array

from skscore.metrics._checks import Array


def path_divergence(
    true_scores: ArrayLike, scores: ArrayLike, sigmas: ArrayLike, *, scale: ArrayLike = 1.0
) -> float:
    r"""Divergence of a field at many noise levels from the true one; lower is better.

    .. math:: K = \int \sigma^2\, E \sum_j c_j^2 (s_j - s^*_j)^2 \, d\log\sigma

    The Kullback-Leibler divergence, in nats, between the paths of the exact reverse diffusion
    driven by the true scores and of the one driven by the estimated scores. So it is an upper
    bound on KL(data || samples), both at the lowest level, apart from what the law at the highest
    level adds. It has no unit and is far less noisy than a test on samples.

    Parameters
    ----------
    true_scores : array-like of shape (n_levels, n_samples, n_features)
        True scores s* of the data blurred at each level, at points drawn from these blurred data:
        ``x + sigma * scale * z`` with rows x of the data and z standard normal.
    scores : array-like of shape (n_levels, n_samples, n_features)
        Estimated scores s at the same points.
    sigmas : array-like of shape (n_levels,)
        Noise levels, positive and all different, at least two. In any order: the integral runs
        from the lowest to the highest, by the trapezoidal rule in log sigma.
    scale : float or array-like of shape (n_features,), default=1.0
        Standard deviations c of the columns, where sigma is in units of these.

    Returns
    -------
    divergence : float
        K, in nats.

    Raises
    ------
    ValueError
        If the shapes disagree, an array is not finite, or levels or scales are not positive.

    See Also
    --------
    fisher_divergence : The same at one level.

    References
    ----------
    Song, Y., Durkan, C., Murray, I. and Ermon, S. (2021). Maximum likelihood training of
    score-based diffusion models. Advances in Neural Information Processing Systems 34, theorem 1.

    Examples
    --------
    The score of N(0, 1) blurred by sigma is -x / (1 + sigma^2). Predicting zero costs
    1/2 log((1 + sigma_max^2) / (1 + sigma_min^2)), here 2.31:

    >>> import numpy as np
    >>> from skscore.metrics import path_divergence
    >>> sigmas = np.geomspace(0.01, 10.0, 50)
    >>> rng = np.random.RandomState(0)
    >>> X, Z = rng.standard_normal((2, 5000, 1))
    >>> truth = np.stack([-(X + sigma * Z) / (1 + sigma**2) for sigma in sigmas])
    >>> round(path_divergence(truth, 0 * truth, sigmas), 1)
    2.3
    """
    a, b = _check_levels("true_scores", true_scores), _check_levels("scores", scores)
    if a.shape != b.shape:
        raise ValueError(
            f"true_scores has shape {a.shape} and scores has shape {b.shape}; "
            "pass two arrays of the same shape, one row for each point at each level"
        )
    n_levels, n_samples, n_features = a.shape
    log_sigma = np.log(_check_positive("sigmas", sigmas, (n_levels,)))
    if n_levels < 2 or len(np.unique(log_sigma)) < n_levels:
        raise ValueError(f"sigmas is {sigmas!r}; pass two or more noise levels, all different")
    c = _check_positive("scale", scale, (n_features,) if np.ndim(scale) else ())
    order = np.argsort(log_sigma)
    errors = np.array([np.square((a[i] - b[i]) * c).sum() / n_samples for i in order])
    return float(trapezoid(np.exp(2 * log_sigma[order]) * errors, log_sigma[order]))


def _check_levels(name: str, value: ArrayLike) -> Array:
    """Return a finite float64 array of three dimensions, or raise a ValueError that names it."""
    try:
        array: Array = check_array(value, dtype=np.float64, input_name=name, allow_nd=True)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if array.ndim != 3 or array.size == 0:
        raise ValueError(
            f"{name} has shape {array.shape}; pass an array of shape "
            "(n_levels, n_samples, n_features), none of these zero"
        )
    return array


def _check_positive(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return a positive finite float64 array of one shape, or raise a ValueError that names it."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {value!r}; pass numbers") from error
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; pass an array of shape {shape}")
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(f"{name} is {value!r}; pass finite numbers greater than 0")
    return array
