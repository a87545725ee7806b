"""Error against the true score of a standard Gaussian, and the time of a fit.

n = 10,000 rows, 1,000 fresh ones, defaults, one thread; three seeds that no tuning has seen.
"""

import time

import numpy as np
import torch

from skscore import ScoreMatchingEstimator, SlicedScoreEstimator
from skscore.datasets import Gaussian
from skscore.metrics import mean_score_error

SEEDS = [100, 101, 102]
GOALS = {2: 0.05, 10: 0.16, 20: 0.31, 40: 0.61}


def plug_in(X):
    """Return the field of the fitted Gaussian."""
    mean, precision = X.mean(axis=0), np.linalg.inv(np.cov(X.T, bias=True))
    return lambda Y: (mean - Y) @ precision


def main():
    """Print a row for each dimension and estimator."""
    torch.set_num_threads(1)
    print(f"{'':26}{'goal':>8}{'mean':>9}{'worst':>9}{'plug-in':>9}{'CPU s':>8}")
    for d, goal in GOALS.items():
        law = Gaussian(n_features=d)
        for estimator in (SlicedScoreEstimator(), ScoreMatchingEstimator()):
            errors, limits, seconds = [], [], []
            for seed in SEEDS:
                X, fresh = law.sample(10_000, seed), law.sample(1_000, 10_000 + seed)
                start = time.process_time()
                field = estimator.set_params(random_state=seed).fit(X).score_samples
                seconds.append(time.process_time() - start)
                errors.append(mean_score_error(law.score(fresh), field(fresh)))
                limits.append(mean_score_error(law.score(fresh), plug_in(X)(fresh)))
            print(
                f"d = {d:2} {type(estimator).__name__:19}{goal:8.2f}{np.mean(errors):9.4f}"
                f"{max(errors):9.4f}{np.mean(limits):9.4f}{max(seconds):8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
