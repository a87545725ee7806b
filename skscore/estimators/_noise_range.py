"""The highest and the lowest noise level of rows, where the caller names none."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist

from skscore._affine import Array

LEAST, COARSEST = 0.01, 0.1  # the lowest is between, in deviations of the columns
LOOK_AT = 2_000  # rows at most, for the largest distance


def range_of(U: Array, *, pooled: bool = False) -> tuple[float, float]:
    """Return the automatic highest and lowest noise level for rows in coordinates u.

    The highest is the largest distance of two rows (Song and Ermon 2020, technique 1): there the
    blurred data are near their Gaussian. The lowest is a hundredth of a deviation, or more where
    columns are discrete: half their steps, at most a tenth. Columns of one kind are `pooled`.
    """
    looked = U[:: -(-len(U) // LOOK_AT)]  # from all over: rows may come in order of their groups
    columns = looked.reshape(-1, 1) if pooled else looked
    unit = float(np.sqrt(columns.var(axis=0).mean())) or 1.0
    steps = [gap for gap in map(_step_of, columns.T) if gap]
    low = np.clip(0.5 * float(np.median(steps)) / unit if steps else 0.0, LEAST, COARSEST) * unit
    return max(float(pdist(looked).max()), unit), float(low)


def _step_of(column: Array) -> float:
    """Return the distance of neighbouring values of a discrete column, 0.0 for another one."""
    values = np.unique(column)
    if len(values) > len(column) / 2 or len(values) < 2:
        return 0.0
    return float(np.median(np.diff(values)))
