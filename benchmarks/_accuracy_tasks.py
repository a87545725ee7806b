"""The distributions of `accuracy.py`, by name: what is learned, and in what units errors are.

The *gaussian* and *other* tasks have been in view while defaults were chosen (with seeds 0 to 9).
The *fresh* ones are of the same kinds with other parameters, and no choice may look at them.
"""

from dataclasses import dataclass

import numpy as np

from skscore.datasets import (
    Checkerboard,
    Funnel,
    Gaussian,
    GaussianMixture,
    Ring,
    StudentT,
    TwistedGaussian,
    TwoMoons,
)
from skscore.metrics import mean_score_error

N_FRESH = 1_000
DIMENSIONS = (2, 10, 20, 40)


@dataclass(frozen=True)
class Task:
    """A law with an exact score; its columns are multiplied by `scales`.

    With columns of 1e-3 to 1e3 the error in the units of 1 / X is that of the smallest column
    alone. It is therefore measured in units where each column is divided by its scale: that of
    ``s_x * scales``, the score of the law before it was scaled.
    """

    law: object
    scales: object = 1.0

    @property
    def n_features(self):
        return self.law.n_features

    def sample(self, n_samples, seed):
        return self.law.sample(n_samples, seed) * self.scales

    def fresh(self, seed):
        """Return rows that no estimator was fitted to."""
        return self.sample(N_FRESH, 10_000 + seed)

    def error(self, X, scores):
        """Return the mean Euclidean distance of scores at X from the true ones."""
        return mean_score_error(self.law.score(X / self.scales), scores * self.scales)


GAUSSIAN = {f"gauss{d}-identity": Task(Gaussian(n_features=d)) for d in DIMENSIONS} | {
    f"gauss{d}-random": Task(Gaussian.random(d, random_state=d)) for d in DIMENSIONS
}

OTHER = {
    "twist20": Task(TwistedGaussian(n_features=20)),
    "scales5": Task(GaussianMixture.random(3, n_features=5), np.geomspace(1e-3, 1e3, 5)),
    "ring": Task(Ring(radius=1.0, std=0.1)),
    "four": Task(GaussianMixture.four()),
    "mix10": Task(GaussianMixture.random(5, n_features=10)),
    "student5": Task(StudentT(df=5.0, n_features=5)),
    "banana": Task(TwistedGaussian(n_features=2)),
    "funnel1.5": Task(Funnel(std=1.5)),
    "eight": Task(GaussianMixture.eight(radius=2.0, std=0.18)),
    "funnel3": Task(Funnel(std=3.0)),
    "moons": Task(TwoMoons(noise=0.1)),
    "checkerboard": Task(Checkerboard()),
}

FRESH = {
    "fresh-twist10": Task(TwistedGaussian(n_features=10, scale=1.2, bend=0.7)),
    "fresh-scales4": Task(TwistedGaussian(n_features=4), np.geomspace(1e2, 1e-2, 4)),
    "fresh-ring": Task(Ring(radius=2.0, std=0.2)),
    "fresh-four": Task(GaussianMixture.four(distance=1.5, std=0.6)),
    "fresh-mix3": Task(GaussianMixture.random(4, n_features=3, random_state=11)),
    "fresh-mix15": Task(GaussianMixture.random(6, n_features=15, random_state=12)),
    "fresh-student2": Task(StudentT(df=3.0, n_features=2)),
    "fresh-banana": Task(TwistedGaussian(n_features=2, scale=2.0, bend=-0.3)),
    "fresh-funnel5": Task(Funnel(n_features=5, std=1.0)),
    "fresh-eight": Task(GaussianMixture.eight(radius=3.0, std=0.35)),
    "fresh-moons": Task(TwoMoons(noise=0.2)),
    "fresh-checkerboard": Task(Checkerboard(n_squares=3, width=1.5, smoothing=0.2)),
}

TASKS = GAUSSIAN | OTHER | FRESH
GROUPS = {
    "all": [*GAUSSIAN, *OTHER],
    "gaussian": [*GAUSSIAN],
    "other": [*OTHER],
    "fresh": [*FRESH],
}


def select(names):
    """Return the names of tasks for names of tasks or groups, each once."""
    unknown = [name for name in names if name not in GROUPS and name not in TASKS]
    if unknown:
        raise SystemExit(f"no task {unknown}; there are {[*GROUPS, *TASKS]}")
    return list(dict.fromkeys(task for name in names for task in GROUPS.get(name, [name])))
