"""Samplers: ``sampler(score, x, *, generator, callback=None, **hyper) -> (n, d)``.

One file each. A sampler never sees a network, and each row's path is its own. Those in
AT_ONE_LEVEL take a field ``score(x)``; those in FROM_NOISE one at each noise level,
``score(x, sigma)``, and walk from noise to data. `conditional` does so with a part of each row
given; `guided` makes a field of two. A walk by a network keeps the graph of all its steps, to be
differentiated: call it under ``torch.no_grad()`` where that is not wanted.
"""

from collections.abc import Callable

from torch import Tensor

from skscore.samplers._annealed_langevin import annealed_langevin
from skscore.samplers._conditional import conditional
from skscore.samplers._dpm_solver import dpm_solver
from skscore.samplers._guided import guided
from skscore.samplers._heun import churned_heun, probability_flow
from skscore.samplers._langevin import langevin
from skscore.samplers._mala import mala
from skscore.samplers._predictor_corrector import predictor_corrector
from skscore.samplers._reverse_sde import reverse_sde

AT_ONE_LEVEL: dict[str, Callable[..., Tensor]] = {"langevin": langevin, "mala": mala}
FROM_NOISE: dict[str, Callable[..., Tensor]] = {
    "annealed_langevin": annealed_langevin,
    "churned_heun": churned_heun,
    "dpm_solver": dpm_solver,
    "predictor_corrector": predictor_corrector,
    "probability_flow": probability_flow,
    "reverse_sde": reverse_sde,
}
SAMPLERS = {**AT_ONE_LEVEL, **FROM_NOISE}

__all__ = ["AT_ONE_LEVEL", "FROM_NOISE", "SAMPLERS", "conditional", "guided", *SAMPLERS]
