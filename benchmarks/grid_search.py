"""A search over the number of projections, and whether its winner depends on the scorer.

The scorer has none: the trace is exact. The search runs twice and the scores must be equal to the
bit; then another seed for the *fits* shows how far the candidates really are apart.
"""

import time

from sklearn.model_selection import GridSearchCV

from skscore import SlicedScoreEstimator
from skscore.datasets import TwistedGaussian


def main():
    """Print the table of scores of each search."""
    X = TwistedGaussian(n_features=5).sample(4_000, random_state=100)
    for seed in (0, 0, 1):
        start = time.perf_counter()
        search = GridSearchCV(
            SlicedScoreEstimator(random_state=seed),
            {"n_projections": [1, 2, 4, 8]},
            n_jobs=2,
            cv=3,
        ).fit(X)
        scores = [f"{score:.6f}" for score in search.cv_results_["mean_test_score"]]
        print(
            f"seed {seed}: {scores} best {search.best_params_} "
            f"({time.perf_counter() - start:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
