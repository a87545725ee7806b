"""Objectives: ``objective(score, x, *, generator, **hyper) -> (n,)``, lower is better.

One file each. An objective never knows whether the field comes from a network or an energy.
"""

from skscore.objectives._curl import curl
from skscore.objectives._denoising import SHARED, denoising, noise_conditional
from skscore.objectives._exact import exact
from skscore.objectives._projections import PROJECTIONS
from skscore.objectives._sliced import SMALL, sliced

OBJECTIVES = {
    "denoising": denoising,
    "exact": exact,
    "noise_conditional": noise_conditional,
    "sliced": sliced,
}

__all__ = ["OBJECTIVES", "PROJECTIONS", "SHARED", "SMALL", "curl", *OBJECTIVES]
