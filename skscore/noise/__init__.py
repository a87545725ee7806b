"""Noise levels: which are trained at, and the grids that samplers and flows walk down."""

from skscore.noise._grids import geometric_grid, rho_grid
from skscore.noise._levels import Ladder, Levels, LogNormal, LogUniform, OneLevel

__all__ = ["Ladder", "Levels", "LogNormal", "LogUniform", "OneLevel", "geometric_grid", "rho_grid"]
