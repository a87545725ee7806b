"""Parameter checks and covariance algebra that the distributions share."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

Array: TypeAlias = NDArray[np.float64]

LOG_2PI = float(np.log(2 * np.pi))


def check_count(name: str, value: Any, minimum: int = 1) -> int:
    """Return an integer of at least `minimum`, or raise a ValueError that names it."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} is {value!r}; pass an integer of at least {minimum}")
    return int(value)


def check_real(name: str, value: Any, above: float = -np.inf) -> float:
    """Return a finite float greater than `above`, or raise a ValueError that names it."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not np.isfinite(value) or value <= above:
        wanted = "a finite number" if np.isinf(above) else f"a finite number greater than {above:g}"
        raise ValueError(f"{name} is {value!r}; pass {wanted}")
    return float(value)


def check_scale(value: Any, n_features: int) -> Array:
    """Return the deviation of the noise in each column, shape (d,), from a number or d of them."""
    scale = check_floats("scale", value, ndim=np.ndim(value))
    if scale.shape not in ((), (n_features,)) or scale.min() < 0:
        raise ValueError(
            f"scale is {value!r}; pass a number of at least 0, or {n_features} of them, one for "
            "each column"
        )
    return np.broadcast_to(scale, (n_features,))


def check_floats(name: str, value: Any, ndim: int) -> Array:
    """Return a finite float64 array of `ndim` dimensions, not empty."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {value!r}; pass an array of numbers") from error
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; pass an array of {ndim} dimension(s)")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinity; pass finite numbers")
    return array


def check_covariance(name: str, value: Any, n_features: int) -> Array:
    """Return a symmetric positive definite (d, d) matrix, or raise a ValueError that names it."""
    matrix = check_floats(name, value, ndim=2)
    if matrix.shape != (n_features, n_features):
        wanted = (n_features, n_features)
        raise ValueError(f"{name} has shape {matrix.shape}; pass a matrix of shape {wanted}")
    if not np.allclose(matrix, matrix.T, rtol=1e-8, atol=1e-12 * np.abs(matrix).max()):
        gap = np.abs(matrix - matrix.T).max()
        raise ValueError(
            f"{name} is not symmetric, it differs from its transpose by {gap:.3g}; "
            f"pass ({name} + {name}.T) / 2 if that is meant"
        )
    try:
        cholesky(matrix, lower=True)
    except np.linalg.LinAlgError as error:
        smallest = np.linalg.eigvalsh(matrix)[0]
        raise ValueError(
            f"{name} is not positive definite, its smallest eigenvalue is {smallest:.3g}; "
            "add a multiple of the identity"
        ) from error
    return (matrix + matrix.T) / 2


def check_location(mean: Any, matrix: Any, n_features: Any, name: str) -> tuple[Array, Array]:
    """Return a mean (d,) and a matrix (d, d): zero and the identity where None is passed.

    d comes from the mean, else from the matrix called `name`, else from `n_features`.
    """
    if mean is not None:
        mean = check_floats("mean", mean, ndim=1)
        d = mean.size
    elif matrix is not None:
        d = len(check_floats(name, matrix, ndim=2))
    else:
        d = check_count("n_features", n_features)
    location = np.zeros(d) if mean is None else mean
    return location, np.eye(d) if matrix is None else check_covariance(name, matrix, d)


def whitener(covariance: Array) -> Array:
    """Return the lower triangular W with W' W = covariance^-1."""
    L = cholesky(covariance, lower=True)
    return solve_triangular(L, np.eye(len(L)), lower=True)


def random_covariance(
    n_features: int, condition_number: float, rng: np.random.RandomState
) -> Array:
    """Draw a covariance of determinant one in a uniformly random orientation."""
    d = check_count("n_features", n_features)
    condition_number = check_real("condition_number", condition_number)
    if condition_number < 1:
        raise ValueError(f"condition_number is {condition_number!r}; pass a number of at least 1")
    spread = condition_number**0.5
    eigenvalues = np.geomspace(1 / spread, spread, d) if d > 1 else np.ones(1)
    # The signs make the orthogonal factor Haar distributed; plain QR is not.
    Q, R = np.linalg.qr(rng.standard_normal((d, d)))
    Q = Q * np.sign(np.diag(R))
    covariance = (Q * eigenvalues) @ Q.T
    return (covariance + covariance.T) / 2
