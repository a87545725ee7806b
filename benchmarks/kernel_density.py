"""Time and memory of the kernel score: 100,000 training rows, 10,000 queries, d = 10.

The peer is the same sum in numpy, in blocks of 500 queries.
"""

import resource
import time

import numpy as np

from skscore import KDEScoreBaseline


def numpy_score(X, Y, h):
    """Return the field at Y by blocks."""
    out = []
    norms = (X * X).sum(axis=1)
    for block in np.array_split(Y, len(Y) // 500):
        logits = (block @ X.T - 0.5 * norms) / h**2
        w = np.exp(logits - logits.max(axis=1, keepdims=True))
        out.append((w @ X / w.sum(axis=1, keepdims=True) - block) / h**2)
    return np.concatenate(out)


def peak():
    """Return the peak memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    """Print times and memory."""
    rng = np.random.default_rng(100)
    X, Y = rng.standard_normal((100_000, 10)), rng.standard_normal((10_000, 10))
    estimator = KDEScoreBaseline(bandwidth=0.5).fit(X)
    for call in ("score_samples", "score"):
        start = time.perf_counter()
        found = getattr(estimator, call)(Y)
        print(f"{call:16}{time.perf_counter() - start:7.2f} s, peak {peak():.2f} GiB", flush=True)
        if call == "score_samples":
            field = found
    start = time.perf_counter()
    theirs = numpy_score(X, Y, 0.5)
    print(f"{'numpy, blocks':16}{time.perf_counter() - start:7.2f} s, peak {peak():.2f} GiB")
    print(f"largest difference {np.abs(theirs - field).max():.1e}")


if __name__ == "__main__":
    main()
