"""Images of five shapes, 28 x 28, with noise for intensities.

A shape is one of a few stamps, all of its sizes, put anywhere that it fits. So there are finitely
many masks, and `shape_masks` lists them: whether an image is one of these shapes can be decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from skscore.datasets._checks import Array, check_count

SIDE = 28
SHAPES = ("triangle", "bar", "concentric circles", "disc", "square")

Mask = NDArray[np.bool_]


def _radii(radius: int) -> Array:
    """Return the distance of each pixel of a square from its centre."""
    line = np.arange(-radius, radius + 1)
    return np.hypot(*np.meshgrid(line, line))


@cache
def _stamps() -> tuple[tuple[Mask, ...], ...]:
    """Return all sizes of each shape, as small masks."""
    triangles = []
    for height in range(8, 22):
        row, column = np.mgrid[:height, : 2 * (height // 2) + 1]
        triangles.append(np.abs(column - height // 2) <= row / 2)
    bars = [np.ones((w, n), dtype=bool) for w in (3, 4, 5) for n in range(14, 25)]
    rings = []
    for radius in range(6, 13):
        r = _radii(radius)
        rings.append((np.abs(r - radius + 0.5) <= 1) | (np.abs(r - radius / 2 + 0.5) <= 1))
    discs = [_radii(radius) <= radius + 0.3 for radius in range(4, 13)]
    squares = [np.ones((side, side), dtype=bool) for side in range(8, 21)]
    return (
        tuple(triangles),
        (*bars, *(bar.T for bar in bars)),
        tuple(rings),
        tuple(discs),
        tuple(squares),
    )


def _put(stamp: Mask, top: int, left: int) -> Mask:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    height, width = stamp.shape
    mask[top : top + height, left : left + width] = stamp
    return mask.ravel()


def _places(stamp: Mask) -> tuple[int, int]:
    """Return how many rows, and how many columns, a stamp may begin at."""
    return SIDE - stamp.shape[0] + 1, SIDE - stamp.shape[1] + 1


def shape_masks() -> tuple[Mask, NDArray[np.int64]]:
    """Return every mask that `make_shapes` draws from, and its shape.

    Returns
    -------
    masks : ndarray of shape (n_masks, 784)
        Which pixels are inside.
    labels : ndarray of shape (n_masks,)
        Which of SHAPES each is.

    Examples
    --------
    >>> from skscore.datasets import shape_masks
    >>> masks, labels = shape_masks()
    >>> masks.shape[1], sorted(set(labels.tolist()))
    (784, [0, 1, 2, 3, 4])
    """

    def every() -> Iterator[tuple[Mask, int]]:
        for label, stamps in enumerate(_stamps()):
            for stamp in stamps:
                rows, columns = _places(stamp)
                for top, left in np.ndindex(rows, columns):
                    yield _put(stamp, top, left), label

    masks, labels = zip(*every(), strict=True)
    return np.array(masks), np.array(labels)


def _shares(class_weights: Sequence[float] | None) -> Array:
    if class_weights is None:
        return np.full(len(SHAPES), 1 / len(SHAPES))
    try:
        weights = np.asarray(class_weights)
        weights = weights.astype(np.float64) if weights.dtype.kind in "fiub" else np.empty(0)
    except (TypeError, ValueError):
        weights = np.empty(0)
    valid = weights.shape == (len(SHAPES),) and np.isfinite(weights).all() and (weights >= 0).all()
    if not valid or not weights.any():
        raise ValueError(
            f"class_weights={class_weights!r} is not valid: it must be {len(SHAPES)} finite "
            f"numbers >= 0, one each for {', '.join(SHAPES)}, not all zero."
        )
    weights /= weights.max()  # the sum of large ones may leave the float range
    return weights / weights.sum()


def make_shapes(
    n_samples: int = 100, *, class_weights: Sequence[float] | None = None, random_state=None
) -> tuple[Array, NDArray[np.int64], Mask]:
    """Draw images of a triangle, a bar, two concentric circles, a disc or a square.

    Each has a random size and place; pixels inside have intensities that are independent and
    uniform in (0, 1), and those outside are 0.

    Parameters
    ----------
    n_samples : int, default=100
        How many.
    class_weights : sequence of 5 floats, default=None
        Weight of each shape, in the order of ``skscore.datasets.SHAPES``; None is equal weights.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    X : ndarray of shape (n_samples, 784)
        Images of 28 x 28 pixels, flattened.
    y : ndarray of shape (n_samples,)
        Which of SHAPES each is, 0 to 4.
    masks : ndarray of bool of shape (n_samples, 784)
        The pixels inside.

    Raises
    ------
    ValueError
        If a parameter is not valid.

    Examples
    --------
    >>> from skscore.datasets import make_shapes
    >>> X, y, masks = make_shapes(3, random_state=0)
    >>> X.shape, bool((X[~masks] == 0).all())
    ((3, 784), True)
    """
    n = check_count("n_samples", n_samples)
    shares = _shares(class_weights)
    rng = check_random_state(random_state)
    y = rng.choice(len(SHAPES), size=n, p=shares)
    masks = np.empty((n, SIDE * SIDE), dtype=bool)
    for mask, label in zip(masks, y, strict=True):
        stamps = _stamps()[label]
        stamp = stamps[rng.randint(len(stamps))]
        rows, columns = _places(stamp)
        mask[:] = _put(stamp, rng.randint(rows), rng.randint(columns))
    return masks * rng.uniform(size=masks.shape), y, masks
