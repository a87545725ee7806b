"""What `accuracy.py` compares: our estimators, baselines and other packages, by name.

Each is a function ``(X, problem) -> field`` with ``field(Y)`` the scores at Y; only the oracles
look at the truth in the problem.

The peers learn an energy, and are trained as their documentation does it: Adam at its rate of
1e-3, on standardised columns (``problem.limit`` seconds at most); with a wider network and more
steps than our own defaults have, and as many rows to a step.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from skscore import (
    DenoisingScoreEstimator,
    KDEScoreBaseline,
    KernelScoreEstimator,
    ScoreMatchingEstimator,
    SlicedScoreEstimator,
)

SIZES, STEPS, BATCH = (128, 128, 128), 3_000, 256  # of the peers: more than of our defaults
QUICK_STEPS, QUICK_EPOCHS = 30, 2
PROBE_STEPS = 20
BANDWIDTHS = np.geomspace(0.02, 4.0, 15)


@dataclass(frozen=True)
class Problem:
    """What a fit may need besides its rows."""

    task: object
    fresh: np.ndarray
    seed: int
    quick: bool = False
    limit: float | None = None  # CPU seconds


class LeftOut(Exception):
    """A fit that is not made, and why."""


# Baselines


def gaussian(X, problem):
    """Return the field of the fitted Gaussian."""
    mean = X.mean(axis=0)
    scale = X.std(axis=0)
    precision = np.linalg.inv(np.cov((X / scale).T, bias=True)) / np.outer(scale, scale)
    return lambda Y: (mean - Y) @ precision


def zero(X, problem):
    return np.zeros_like


def kde(rule, X, problem):
    return KDEScoreBaseline(rule).fit(X).score_samples


def kernel_coordinates(X):
    """Return matrices W such that a round kernel in X W' has another shape in X."""
    scale = X.std(axis=0)
    L = np.linalg.cholesky(np.cov((X / scale).T, bias=True))
    return {
        "full": np.linalg.inv(L) / scale,
        "diag": np.diag(1 / scale),
        "round": np.eye(X.shape[1]) / scale.mean(),
    }


def kde_oracle(shapes, X, problem):
    """Return the kernel field with the least true error on the fresh rows.

    It is searched for over the bandwidth, in units of the data's spread, and over the shapes.
    """
    coordinates, mean = kernel_coordinates(X), X.mean(axis=0)

    def field(shape, h):
        W = coordinates[shape]
        estimator = KDEScoreBaseline(float(h)).fit((X - mean) @ W.T)
        return lambda Y: estimator.score_samples((Y - mean) @ W.T) @ W

    def error(shape, log_h):
        return problem.task.error(problem.fresh, field(shape, np.exp(log_h))(problem.fresh))

    found = [(shape, best_bandwidth(partial(error, shape))) for shape in shapes]
    shape, best = min(found, key=lambda pair: pair[1].fun)
    return field(shape, np.exp(best.x))


def best_bandwidth(error):
    """Minimise over log h: the least of a grid, and then between its neighbours."""
    grid = np.log(BANDWIDTHS)
    i = int(np.argmin([error(log_h) for log_h in grid]))
    bounds = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
    return minimize_scalar(error, bounds=bounds, method="bounded", options={"xatol": 0.01})


# Ours


def ours(make, X, problem):
    estimator = make()
    params = estimator.get_params()
    if "random_state" in params:
        estimator.set_params(random_state=problem.seed)
    if problem.quick and "max_iter" in params:
        estimator.set_params(max_iter=QUICK_EPOCHS)
    return estimator.fit(X).score_samples


# Peers


def torchebm_loss(kind, energy):
    from torchebm.core import BaseModel
    from torchebm.losses import ScoreMatching, SlicedScoreMatching

    class Energy(BaseModel):
        def __init__(self):
            super().__init__()
            self.net = energy

        def forward(self, x):
            return self.net(x).squeeze(-1)

    return {"exact": ScoreMatching, "sliced": SlicedScoreMatching}[kind](model=Energy())


def ebmkit_loss(kind, energy):
    import ebm

    loss = {"exact": ebm.ExactScoreMatching, "sliced": ebm.SlicedScoreMatching}[kind]()
    return lambda x: loss(lambda y: energy(y).squeeze(-1), x).loss


def make_energy(n_features):
    """Return a network of the default size of ours, with the activation of both peers' examples."""
    sizes = [n_features, *SIZES]
    layers = []
    for n_in, n_out in pairwise(sizes):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.SiLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 1))


def train(loss, parameters, rows, steps, limit):
    """Take Adam steps, or raise where the first ones show that all would take too long."""
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    for step in range(steps):
        if step == 1:
            start = time.process_time()
        if limit is not None and step == 1 + PROBE_STEPS:
            seconds = (time.process_time() - start) / PROBE_STEPS * steps
            if seconds > limit:
                raise LeftOut(f"would take {seconds:.0f} s, more than {limit:.0f} s")
        optimizer.zero_grad()
        loss(rows[torch.randint(len(rows), (min(BATCH, len(rows)),))]).backward()
        optimizer.step()


def peer(make_loss, kind, X, problem):
    torch.manual_seed(problem.seed)
    mean, scale = X.mean(axis=0), X.std(axis=0)
    energy = make_energy(X.shape[1])
    rows = torch.as_tensor((X - mean) / scale, dtype=torch.float32)
    steps = QUICK_STEPS if problem.quick else STEPS
    train(make_loss(kind, energy), energy.parameters(), rows, steps, problem.limit)

    def field(Y):
        u = torch.as_tensor((Y - mean) / scale, dtype=torch.float32).requires_grad_()
        (gradient,) = torch.autograd.grad(energy(u).sum(), u)
        return -gradient.double().numpy() / scale

    return field


# All by name

PEERS = {"torchebm": ("torchebm", torchebm_loss), "ebmkit": ("ebm", ebmkit_loss)}
COSTLY = [f"{package}-exact" for package in PEERS]
BASELINES = {
    "zero": zero,
    "plug-in": gaussian,
    "kde-silverman": partial(kde, "silverman"),
    "kde-cv": partial(kde, "cv"),
    "kde-oracle": partial(kde_oracle, ["full"]),
    "kde-best": partial(kde_oracle, ["full", "diag", "round"]),
}


def our_estimators():
    """Return ours, with their defaults; and the larger ensemble, at three times the time."""
    found = {
        "sliced": SlicedScoreEstimator,
        "exact": ScoreMatchingEstimator,
        "sliced-6": partial(SlicedScoreEstimator, n_members=6),
        "denoising": DenoisingScoreEstimator,
        "kernel": KernelScoreEstimator,
    }
    return {name: partial(ours, make) for name, make in found.items()}


def peers(missing=print):
    """Return the peers that can be imported, and report the others."""
    found = {}
    for package, (module, make_loss) in PEERS.items():
        if find_spec(module) is None:
            missing(f"{package} is left out: it cannot be imported")
            continue
        for kind in ("exact", "sliced"):
            found[f"{package}-{kind}"] = partial(peer, make_loss, kind)
    return found


def select(names):
    """Return the estimators for names of estimators or groups, in one order."""
    groups = {"ours": our_estimators(), "baselines": BASELINES, "peers": peers()}
    known = {name: fit for group in groups.values() for name, fit in group.items()}
    wanted = {"all": [*known], **groups}
    unknown = [name for name in names if name not in wanted and name not in known]
    if unknown:
        raise SystemExit(f"no estimator {unknown}; there are {[*wanted, *known]}")
    kept = {each for name in names for each in wanted.get(name, [name])}
    return {name: fit for name, fit in known.items() if name in kept}


@cache
def warm_up():
    """Pay once for imports and first calls, so that no fit's time has them."""
    torch.set_num_threads(1)
    X = np.random.default_rng(0).standard_normal((64, 2))
    problem = Problem(None, X, seed=0, quick=True)
    for fit in (our_estimators() | peers(missing=lambda text: None)).values():
        with suppress(Exception):  # what fails is recorded when its turn comes
            fit(X, problem)(X)
