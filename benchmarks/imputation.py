"""Missing values: `sample(given=)` of the denoising estimator against scikit-learn's imputers.

::

    python benchmarks/imputation.py --output imputation.jsonl

30 % of the values of held-out rows are missing at random: of the 10-d mixture (10,000 training
rows, 1,000 held out) and of load_wine (70 % of its 178 rows for training). Mean imputation, the
default IterativeImputer, the same with ``sample_posterior=True``, ours; for the mixture also its
exact conditional law (`exact`), which nobody has.

RMSE over the missing values, in units of the columns' deviations, of one draw and of the mean of 20
draws. Log density (nats) of the completed rows, mean over rows of one draw: for the mixture its own
law; for wine a Gaussian with the Ledoit-Wolf covariance, fitted to the training and the complete
held-out rows (`gauss`), and the mixture of three such Gaussians, one for each class (`classes`).
The line `truth` has the rows before values went missing: draws should be *as* likely as these.
Conditional means are likelier than any real row, and a method that returns them has the least RMSE
and the wrong spread: `spread` is the deviation of completed values over that of the true ones.

Reported seeds are 100 to 104; seeds 0 to 9 are for tuning. Finished cells are appended to the
output, one JSON object a line, and not computed again.
"""

import argparse
import time
import warnings
from functools import partial

import numpy as np
import torch
from joblib import Parallel, delayed, parallel_config
from sampling import KEY, load, print_table, save
from scipy.special import softmax
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from skscore import DenoisingScoreEstimator
from skscore.datasets import Gaussian, GaussianMixture

SEEDS = [100, 101, 102, 103, 104]
SHARE, N_DRAWS = 0.3, 20


# The data


def mix10(seed, quick):
    """Return training rows, held-out rows and log densities by name, and the law."""
    law = GaussianMixture.random(5, n_features=10)
    n, n_held_out = (500, 60) if quick else (10_000, 1_000)
    held_out = law.sample(n_held_out, 10_000 + seed)
    return law.sample(n, seed), held_out, {"own law": law.log_density}, law


def wine(seed, quick):
    X, y = load_wine(return_X_y=True)
    train, held_out = train_test_split(X, test_size=0.3, random_state=seed, stratify=y)
    mean, scale = X.mean(axis=0), X.std(axis=0)
    U = (X - mean) / scale
    whole = Gaussian(*fitted(U))
    parts = [fitted(U[y == k]) for k in np.unique(y)]
    classes = GaussianMixture(*map(np.stack, zip(*parts, strict=True)), weights=np.bincount(y))
    judges = {"gauss": whole, "classes": classes}

    def log_density(judge, rows):
        return judge.log_density((rows - mean) / scale) - np.log(scale).sum()

    return train, held_out, {k: partial(log_density, judge) for k, judge in judges.items()}, None


def fitted(U):
    found = LedoitWolf().fit(U)
    return found.location_, found.covariance_


DATA = {"mix10": mix10, "wine": wine}


# The methods: ``(train, holed, seed, quick, law) -> draw(k)``, the completed rows


def by_imputer(make, train, holed, seed, quick, law):
    imputer = make(seed).fit(train)
    return lambda k: imputer.transform(holed)


def iterative(seed, **kwargs):
    return IterativeImputer(random_state=seed, **kwargs)


def ours(train, holed, seed, quick, law):
    estimator = DenoisingScoreEstimator(random_state=seed)
    if quick:
        estimator.set_params(max_iter=20)
    estimator.fit(train)
    return lambda k: estimator.sample(len(holed), random_state=1_000 * seed + k, given=holed)


def exact(train, holed, seed, quick, law):
    """Draw from the mixture's law given the known values."""
    rng = np.random.RandomState(seed)
    lost = np.isnan(holed)
    laws = [
        conditional(law, row, gaps) if gaps.any() else None
        for row, gaps in zip(holed, lost, strict=True)
    ]

    def draw(k):
        rows = holed.copy()
        for row, gaps, given in zip(rows, lost, laws, strict=True):
            if given is not None:
                row[gaps] = given.sample(1, rng)[0]
        return rows

    return draw


def conditional(law, row, lost):
    """Return the mixture that the missing values of a row have given the others."""
    seen = ~lost
    weights, means, covariances = [], [], []
    for w, m, S in zip(law.weights, law.means, law.covariances, strict=True):
        known = Gaussian(m[seen], S[np.ix_(seen, seen)])
        weights.append(np.log(w) + known.log_density(row[None, seen])[0])
        gain = np.linalg.solve(known.covariance, S[np.ix_(seen, lost)]).T
        means.append(m[lost] + gain @ (row[seen] - m[seen]))
        rest = S[np.ix_(lost, lost)] - gain @ S[np.ix_(seen, lost)]
        covariances.append((rest + rest.T) / 2)
    return GaussianMixture(means, np.stack(covariances), np.maximum(softmax(weights), 1e-300))


METHODS = {
    "mean": partial(by_imputer, lambda seed: SimpleImputer()),
    "iterative": partial(by_imputer, iterative),
    "iterative-posterior": partial(by_imputer, partial(iterative, sample_posterior=True)),
    "ours": ours,
    "exact": exact,
}
DRAWN = {"iterative-posterior", "ours", "exact"}  # the others have no randomness


# The cells


def run_cell(task, seed, name, quick):
    """Return the record of one method on one set."""
    train, rows, judges, law = DATA[task](seed, quick)
    record = dict(zip(KEY, ("imputation", task, len(train), seed, name, quick), strict=True))
    lost = np.random.RandomState(30_000 + seed).uniform(size=rows.shape) < SHARE
    lost[lost.all(axis=1), 0] = False
    scale = train.std(axis=0)
    if name == "truth":
        return record | {f"log {k}": float(f(rows).mean()) for k, f in judges.items()}
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.set_num_threads(1)
        try:
            start = time.process_time()
            draw = METHODS[name](train, np.where(lost, np.nan, rows), seed, quick, law)
            fit = time.process_time()
            draws = [draw(k) for k in range(N_DRAWS if name in DRAWN else 1)]
            seconds = (time.process_time() - fit) / len(draws)
            record |= judge(rows, lost, draws, scale, judges, name in DRAWN)
            record |= {"fit": fit - start, "draw": seconds}
        except Exception as failure:  # a long run goes on without this cell
            record["failed"] = f"{type(failure).__name__}: {failure}"
    return record | {"warnings": sorted({w.category.__name__ for w in caught})}


def judge(rows, lost, draws, scale, judges, drawn):
    def rmse(filled):
        gaps = ((filled - rows) / scale)[lost]
        return float(np.sqrt(np.mean(gaps**2)))

    first = draws[0]
    spread = ((first - rows.mean(axis=0)) / scale)[lost].std()
    spread /= ((rows - rows.mean(axis=0)) / scale)[lost].std()
    return {
        "one": rmse(first),
        "mean20": rmse(np.mean(draws, axis=0)) if drawn else None,
        "spread": float(spread),
        "kept": bool(all(np.array_equal(d[~lost], rows[~lost]) for d in draws)),
        **{f"log {k}": float(f(first).mean()) for k, f in judges.items()},
    }


def report(records, args):
    """Print one table, means over the seeds."""
    columns = ["seeds", "RMSE 1", "RMSE of 20", "spread", "log p", "log p 2", "fit s", "draw s"]
    lines = []
    for task in args.data:
        for name in ("truth", *METHODS):
            cells = [
                r
                for r in records.values()
                if (r["part"], r["task"], r["name"], r["quick"])
                == ("imputation", task, name, args.quick)
                and r["seed"] in args.seeds
            ]
            found = [r for r in cells if "failed" not in r]
            if not found:
                if cells:
                    lines.append((f"{task} {name}", cells[0]["failed"]))
                continue
            logs = [k for k in found[0] if k.startswith("log ")]
            values = [len(found)]
            for key in ["one", "mean20", "spread", *[*logs, None][:2], "fit", "draw"]:
                known = [r[key] for r in found if r.get(key) is not None]
                values.append(float(np.mean(known)) if known else None)
            label = f"{task} {name}" if found[0].get("kept", True) else f"{task} {name} (changed!)"
            lines.append((label, values))
    title = "30 % missing: RMSE (deviations), log density (mix10: its law; wine: gauss, classes)"
    print_table(title, columns, lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=[*DATA], choices=[*DATA])
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS])
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", help="file of the records, JSON lines; a run goes on from it")
    parser.add_argument("--quick", action="store_true", help="a trial of the script, no figures")
    args = parser.parse_args()
    args.seeds = args.seeds or ([0] if args.quick else SEEDS)
    return args


def main():
    """Run what is missing and print the table."""
    args = parse()
    records = load(args.output)
    done = {(r["task"], r["seed"], r["name"], r["quick"]) for r in records.values()}
    cells = [
        (task, seed, name, args.quick)
        for task in args.data
        for seed in args.seeds
        for name in ("truth", *args.methods)
        if not (name == "exact" and task != "mix10")
    ]
    todo = [cell for cell in cells if cell not in done]
    with parallel_config("loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=args.jobs, return_as="generator_unordered", batch_size=1)
        for i, record in enumerate(parallel(delayed(run_cell)(*cell) for cell in todo), 1):
            records[tuple(record[name] for name in KEY)] = record
            save(record, args.output)
            print(f"{i}/{len(todo)} {record}", flush=True)
    report(records, args)


if __name__ == "__main__":
    main()
