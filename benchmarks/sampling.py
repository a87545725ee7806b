"""Samples of the four-Gaussian mixture by the default `sample(4000)`.

The two-sample test's accuracy of samples against fresh rows, beside that of fresh rows against the
same fresh rows, and the weights of the modes; five seeds.
"""

import time

import numpy as np

from skscore import KDEScoreBaseline, ScoreMatchingEstimator, SlicedScoreEstimator
from skscore.datasets import GaussianMixture
from skscore.metrics import c2st

SEEDS = [100, 101, 102, 103, 104]
N = 4000


def main():
    """Print a row for each estimator."""
    law = GaussianMixture.four()
    X = law.sample(10_000, random_state=100)
    print(f"{'':58}{'samples':>9}{'fresh':>8}{'excess':>8}{'weights':>9}{'s':>7}")
    for estimator in (
        SlicedScoreEstimator(random_state=100),
        ScoreMatchingEstimator(random_state=100),
        ScoreMatchingEstimator(parametrization="energy", random_state=100),
        KDEScoreBaseline("cv"),
    ):
        estimator.fit(X)
        drawn_acc, fresh_acc, off, seconds = [], [], [], []
        for seed in SEEDS:
            start = time.perf_counter()
            drawn = estimator.sample(N, random_state=seed)
            seconds.append(time.perf_counter() - start)
            fresh, other = law.sample(N, 1_000 + seed), law.sample(N, 2_000 + seed)
            drawn_acc.append(c2st(drawn, fresh, random_state=seed))
            fresh_acc.append(c2st(other, fresh, random_state=seed))
            modes = 2 * (drawn[:, 0] > 0) + (drawn[:, 1] > 0)
            off.append(np.abs(np.bincount(modes, minlength=4) / N - 0.25).max())
        excess = np.mean(drawn_acc) - np.mean(fresh_acc)
        print(
            f"{estimator!r:58}{np.mean(drawn_acc):9.4f}{np.mean(fresh_acc):8.4f}{excess:8.4f}"
            f"{max(off):9.4f}{np.median(seconds):7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
