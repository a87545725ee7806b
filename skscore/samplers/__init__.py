"""Samplers: ``sampler(score, x, *, generator, callback=None, **hyper) -> (n, d)``.

One file each. A sampler never sees a network, and each row's path is its own.
"""

from skscore.samplers._langevin import langevin
from skscore.samplers._mala import mala

SAMPLERS = {"langevin": langevin, "mala": mala}

__all__ = ["SAMPLERS", *SAMPLERS]
