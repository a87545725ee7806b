"""Samples from noise, densities and modes of `DenoisingScoreEstimator`, and other packages.

::

    pip install -e ".[bench]"
    pip install azula torchebm sbi                   # the peers, optional
    python benchmarks/sampling.py --jobs 2 --output sampling.jsonl --estimators ours
    python benchmarks/sampling.py --output sampling.jsonl --parts tasks --estimators peers
    python benchmarks/sampling.py --output sampling.jsonl --report

Four parts. *tasks*: 2,000 default samples against as many fresh rows by the classifier two-sample
test, with gradient boosting and with a neural network, beside fresh rows against the same fresh
rows (`fresh`; the excess is the difference of the means over the same seeds); K, the path
divergence in nats, where it can be had; the median distance to the nearest training row over that
of fresh rows, in standardised columns (less than 1 is memory); CPU seconds of the fit and of the
samples. *samplers*: each sampler on one fit (that of the first seed), samples of all seeds.
*modes*: two far modes of weights .8 and .2, 20,000 samples, the weight less that of the training
rows. *density*: mean absolute error of the log density on 1,000 fresh rows, against the law and
against the law blurred at the lowest noise level, whose density it is; its integral over a box;
the largest error of coding there and back, in deviations of the columns.

Defaults are tuned with seeds 0 to 9, which are never reported. Each finished cell is appended to
the output at once, one JSON object a line, and cells that are there are not computed again: use a
new file for a new version of the package. Fits run on one thread.
"""

import argparse
import json
import os
import sys
import time
import warnings
from functools import partial

import _accuracy_tasks as tasks
import _sampling_peers as compared
import numpy as np
import torch
from joblib import Parallel, delayed, parallel_config
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from skscore.datasets import Gaussian, GaussianMixture, TwistedGaussian
from skscore.metrics import c2st, path_divergence
from skscore.samplers import FROM_NOISE

SEEDS = [100, 101, 102, 103, 104]
PARTS = ("tasks", "samplers", "modes", "density")
TASKS = ["eight", "moons", "mix10", "twist20"]
KEY = ("part", "task", "n", "seed", "name", "quick")
N_ROWS = [10_000, 1_000]
N_MODES = 20_000

MODES = GaussianMixture([[5.0, 5.0], [-5.0, -5.0]], 1.0, weights=[0.8, 0.2])
DENSITIES = {
    "1-d": GaussianMixture([[-2.0], [1.0]], [0.25, 1.0], weights=[0.3, 0.7]),
    "gauss5": Gaussian.random(5, random_state=5),
    "four": GaussianMixture.four(),
    "banana": TwistedGaussian(),
}
POINTS = {1: 2_000, 2: 130}  # to an axis, for the integral over five deviations to each side


class Sizes:
    """How much is drawn."""

    def __init__(self, quick):
        self.samples = 300 if quick else 2_000
        self.modes = 2_000 if quick else N_MODES
        self.levels = 9 if quick else 33
        self.fresh = 200 if quick else 1_000
        self.points = {d: n // 4 if quick else n for d, n in POINTS.items()}


# What is measured


def timed(function, *args, **kwargs):
    """Return what a function returns, and its CPU seconds."""
    start = time.process_time()
    return function(*args, **kwargs), time.process_time() - start


def two_sample(drawn, fresh, seed):
    """Return the accuracy of gradient boosting and of a network."""
    network = MLPClassifier((64, 64), early_stopping=True, max_iter=100, random_state=seed)
    return {
        "gb": c2st(drawn, fresh, random_state=seed),
        "mlp": c2st(drawn, fresh, classifier=network, random_state=seed),
    }


def nearest(X, rows):
    """Return the median distance of rows to the nearest of X, in standardised columns."""
    scale = X.std(axis=0)
    found, _ = NearestNeighbors(n_neighbors=1).fit(X / scale).kneighbors(rows / scale)
    return float(np.median(found))


def divergence(estimator, task, seed, sizes):
    """Return K on fresh rows, over the range that the model was trained for."""
    if np.ndim(task.scales):
        return None
    law = getattr(task.law, "mixture", task.law)
    scale = np.sqrt(np.diag(estimator.covariance_))
    sigmas = np.geomspace(estimator.sigmas_[-1], estimator.sigmas_[0], sizes.levels)
    rng = np.random.RandomState(50_000 + seed)
    truth, field = [], []
    for sigma in sigmas:
        X = task.law.sample(sizes.samples, rng)
        Y = X + sigma * scale * rng.standard_normal(X.shape)
        truth.append(law.blurred(sigma * scale).score(Y))
        field.append(estimator.score_samples(Y, sigma=sigma))
    return path_divergence(np.stack(truth), np.stack(field), sigmas, scale=scale)


# The cells


def cell_tasks(task_name, n, seed, name, quick):
    sizes, task = Sizes(quick), tasks.TASKS[task_name]
    X = task.sample(n, seed)
    fresh = task.sample(sizes.samples, 10_000 + seed)
    record = {}
    if name == "fresh":
        drawn = task.sample(sizes.samples, 20_000 + seed)
    else:
        (draw, estimator), record["fit"] = timed(compared.ESTIMATORS[name], X, seed, quick)
        drawn, record["draw"] = timed(draw, sizes.samples, seed)
        if estimator is not None:
            record["K"] = divergence(estimator, task, seed, sizes)
    finite = np.isfinite(drawn).all(axis=1)
    record["not_finite"] = int((~finite).sum())
    record["nearest"] = nearest(X, drawn[finite]) / nearest(X, fresh)
    return record | two_sample(drawn[finite], fresh, seed)


def cell_samplers(task_name, n, seed, name, quick, sample_seeds):
    sizes, task = Sizes(quick), tasks.TASKS[task_name]
    X = task.sample(n, seed)
    _, estimator = compared.ours(X, seed, quick)
    record = {"samplers": {}, "seeds": sample_seeds}
    for sampler in ("fresh", *FROM_NOISE):
        lines = []
        for s in sample_seeds:
            fresh = task.sample(sizes.samples, 10_000 + s)
            if sampler == "fresh":
                drawn, seconds = task.sample(sizes.samples, 20_000 + s), 0.0
            else:
                draw = partial(estimator.sample, sizes.samples, random_state=s, sampler=sampler)
                drawn, seconds = timed(draw)
            line = {"draw": seconds, "nearest": nearest(X, drawn) / nearest(X, fresh)}
            lines.append(line | two_sample(drawn, fresh, s))
        record["samplers"][sampler] = {
            key: float(np.mean([line[key] for line in lines])) for key in lines[0]
        }
    return record


def cell_modes(task_name, n, seed, name, quick):
    sizes = Sizes(quick)
    X = MODES.sample(n, seed)
    (_, estimator), seconds = timed(compared.ours, X, seed, quick)
    trained = float((X[:, 0] > 0).mean())
    record = {"fit": seconds, "trained": trained, "samplers": {}}
    for sampler in FROM_NOISE:
        draw = partial(estimator.sample, sizes.modes, random_state=seed, sampler=sampler)
        drawn, seconds = timed(draw)
        off = float((drawn[:, 0] > 0).mean()) - trained
        record["samplers"][sampler] = {"off": off, "draw": seconds}
    return record


def cell_density(task_name, n, seed, name, quick):
    sizes, law = Sizes(quick), DENSITIES[task_name]
    X, fresh = law.sample(n, seed), law.sample(sizes.fresh, 10_000 + seed)
    (_, estimator), record = compared.ours(X, seed, quick), {}
    found, record["log_density"] = timed(estimator.log_density, fresh)
    blurred = law.blurred(estimator.sigmas_[-1] * np.sqrt(np.diag(estimator.covariance_)))
    record["error"] = float(np.abs(found - law.log_density(fresh)).mean())
    record["error_blurred"] = float(np.abs(found - blurred.log_density(fresh)).mean())
    record["bias"] = float((found - law.log_density(fresh)).mean())
    plug_in = Gaussian(X.mean(axis=0), np.atleast_2d(np.cov(X.T)))
    plug_in_errors = np.abs(plug_in.log_density(fresh) - law.log_density(fresh))
    record["plug_in"] = float(plug_in_errors.mean())
    codes = estimator.transform(fresh)
    away = np.abs(estimator.inverse_transform(codes) - fresh) / X.std(axis=0)
    record["round_trip"], record["code_std"] = float(away.max()), float(codes.std())
    if law.n_features in sizes.points:
        record["integral"] = integral(estimator, X, sizes.points[law.n_features])
    return record


def integral(estimator, X, n_points):
    """Return the midpoint rule over five deviations to each side."""
    mean, scale = X.mean(axis=0), X.std(axis=0)
    axis = (np.arange(n_points) + 0.5) / n_points * 10 - 5
    grid = np.stack(np.meshgrid(*[axis] * len(mean), indexing="ij"), axis=-1)
    points = mean + scale * grid.reshape(-1, len(mean))
    cell = np.prod(10 * scale / n_points)
    return float(np.exp(estimator.log_density(points)).sum() * cell)


CELLS = {
    "tasks": cell_tasks,
    "samplers": cell_samplers,
    "modes": cell_modes,
    "density": cell_density,
}


def run_cell(cell, extra):
    """Return the record of one cell."""
    record = dict(zip(KEY, cell, strict=True))
    part, *arguments = cell
    absent = compared.missing(record["name"])
    if absent is not None:
        return record | {"missing": absent}
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.set_num_threads(1)
        try:
            compared.warm_up(record["name"])
            record |= CELLS[part](*arguments, *extra)
        except Exception as failure:  # a long run goes on without this cell
            record["failed"] = f"{type(failure).__name__}: {failure}"
    kinds = {warning.category.__name__ for warning in caught}
    return record | {"warnings": sorted(kinds - {"ConvergenceWarning"})}  # of the classifier


# The file of records


def key(record):
    return tuple(record[name] for name in KEY)


def load(path):
    """Return the records of a file by their key, without those that failed or were missing."""
    if not path or not os.path.exists(path):
        return {}
    with open(path) as file:
        records = [json.loads(line) for line in file if line.endswith("}\n")]
    return {key(r): r for r in records if "failed" not in r and "missing" not in r}


def save(record, path):
    """Append a line; one that an interruption has cut is begun anew."""
    if path:
        with open(path, "a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(json.dumps(record).encode() + b"\n")


def jobs(args, records):
    """Return the cells that are missing, and what else their functions take."""
    wanted = []
    for part in args.parts:
        if part == "tasks":
            names = ["fresh", *args.estimators]
            grid = [
                (task, n, seed, name)
                for n in args.n
                for task in args.tasks
                for seed in args.seeds
                for name in names
            ]
        elif "ours" not in args.estimators:
            continue
        elif part == "samplers":
            grid = [(task, args.n[0], args.seeds[0], "ours") for task in args.tasks]
        else:
            found = ["modes"] if part == "modes" else [*DENSITIES]
            grid = [(task, args.n[0], seed, "ours") for task in found for seed in args.seeds]
        extra = (args.seeds,) if part == "samplers" else ()
        wanted += [((part, *cell, args.quick), extra) for cell in grid]
    return [(cell, extra) for cell, extra in wanted if cell not in records]


def run(args, records):
    todo = jobs(args, records)
    with parallel_config("loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=args.jobs, return_as="generator_unordered", batch_size=1)
        found = parallel(delayed(run_cell)(*job) for job in todo)
        for i, record in enumerate(found, 1):
            records[key(record)] = record
            save(record, args.output)
            print(f"{i}/{len(todo)} {describe(record)}", flush=True)


def describe(record):
    text = "{part} {task} n {n} seed {seed} {name}: ".format(**record)
    if "missing" in record:
        return f"{text}not installed: {record['missing']}"
    values = {k: v for k, v in record.items() if k not in KEY}
    return text + str({k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()})


# The report


def of(records, args, part, **wanted):
    """Return the finished records of a part, at the seeds of the report."""
    wanted |= {"part": part, "quick": args.quick}
    return [
        r
        for r in records.values()
        if r["seed"] in args.seeds and all(r[k] == v for k, v in wanted.items())
    ]


def number(value):
    if value is None or np.isnan(value):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{1 if abs(value) >= 100 else 4}f}"


def print_table(title, columns, lines):
    """Print lines of a label and numbers; what is missing is a dash."""
    width = max([24, *(len(label) + 2 for label, _ in lines)])
    widths = [max(10, len(column) + 2) for column in columns]
    head = "".join(f"{column:>{w}}" for column, w in zip(columns, widths, strict=True))
    print(f"\n{title}\n{'':{width}}{head}")
    for label, values in lines:
        if isinstance(values, str):
            print(f"{label:{width}}  {values}")
            continue
        cells = (f"{number(v):>{w}}" for v, w in zip(values, widths, strict=True))
        print(f"{label:{width}}{''.join(cells)}")


def mean(found, name):
    values = [r[name] for r in found if r.get(name) is not None]
    return float(np.mean(values)) if values else None


def report_tasks(records, args):
    columns = ["seeds", "gb", "excess", "mlp", "excess", "K", "nearest", "fit s", "2,000 s"]
    for n in args.n:
        lines = []
        for task in args.tasks:
            cells = partial(of, records, args, "tasks", task=task, n=n)
            for name in ("fresh", *args.estimators):
                found = [r for r in cells(name=name) if "gb" in r]
                seeds = [r["seed"] for r in found]
                if not found:
                    why = {r.get("missing", r.get("failed", "")) for r in cells(name=name)}
                    absent = compared.missing(name)
                    text = f"not installed: {absent}" if absent else "; ".join(why) or "not run"
                    lines.append((f"{task} {name}", text))
                    continue
                fresh = [r for r in cells(name="fresh") if r["seed"] in seeds and "gb" in r]
                values = [len(found)]
                for test in ("gb", "mlp"):
                    level = mean(fresh, test)
                    own = mean(found, test)
                    values += [own, None if level is None or name == "fresh" else own - level]
                values += [mean(found, what) for what in ("K", "nearest", "fit", "draw")]
                lines.append((f"{task} {name}", values))
        title = f"Samples against fresh rows, n = {n}: two-sample test, K (nats), CPU seconds"
        print_table(title, columns, lines)


def report_samplers(records, args):
    lines = []
    for r in of(records, args, "samplers"):
        if "samplers" not in r:
            lines.append((r["task"], r.get("failed", "")))
            continue
        fresh = r["samplers"]["fresh"]
        for sampler, line in r["samplers"].items():
            excess = [line[test] - fresh[test] for test in ("gb", "mlp")]
            values = [line["gb"], excess[0], line["mlp"], excess[1], line["nearest"], line["draw"]]
            lines.append((f"{r['task']} {sampler}", values))
    columns = ["gb", "excess", "mlp", "excess", "nearest", "2,000 s"]
    print_table(f"Samplers on one fit, n = {args.n[0]}", columns, lines)


def report_modes(records, args):
    found = [r for r in of(records, args, "modes") if "samplers" in r]
    lines = []
    for sampler in FROM_NOISE if found else ():
        off = np.array([r["samplers"][sampler]["off"] for r in found])
        seconds = np.mean([r["samplers"][sampler]["draw"] for r in found])
        lines.append((sampler, [len(off), off.mean(), np.abs(off).max(), seconds]))
    fit = number(mean(found, "fit"))
    title = f"Weight of the mode of .8, less its share of the training rows (fit: {fit} s)"
    print_table(title, ["seeds", "mean", "worst", "draw s"], lines)


def report_density(records, args):
    columns = ["error", "blurred", "bias", "plug-in", "integral", "round trip", "code std", "s"]
    names = ["error", "error_blurred", "bias", "plug_in", "integral", "round_trip", "code_std"]
    lines = []
    for task in DENSITIES:
        found = [r for r in of(records, args, "density", task=task) if "error" in r]
        if found:
            values = [mean(found, name) for name in [*names, "log_density"]]
            lines.append((f"{task} ({len(found)} seeds)", values))
    print_table(f"Log density (nats), n = {args.n[0]}", columns, lines)


REPORTS = {
    "tasks": report_tasks,
    "samplers": report_samplers,
    "modes": report_modes,
    "density": report_density,
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=PARTS)
    parser.add_argument("--tasks", nargs="+", default=TASKS, help="names of accuracy.py")
    parser.add_argument("--n", type=int, nargs="+", help="training rows; the first for all parts")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--estimators", nargs="+", default=["all"], help="ours, peers, names")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", help="file of the records, JSON lines; a run goes on from it")
    parser.add_argument("--report", action="store_true", help="print the tables, compute nothing")
    parser.add_argument("--peers", nargs="+", default=[], help="folders to import the peers from")
    parser.add_argument("--quick", action="store_true", help="a trial of the script, no figures")
    args = parser.parse_args()
    args.n = args.n or ([500] if args.quick else N_ROWS)
    args.seeds = args.seeds or ([0] if args.quick else SEEDS)
    args.tasks = tasks.select(args.tasks)
    groups = {"all": [*compared.ESTIMATORS], "peers": [*compared.PEERS]}
    names = [each for name in args.estimators for each in groups.get(name, [name])]
    unknown = [name for name in names if name not in compared.ESTIMATORS]
    if unknown:
        raise SystemExit(f"no estimator {unknown}; there are {[*groups, *compared.ESTIMATORS]}")
    args.estimators = list(dict.fromkeys(names))
    return args


def main():
    """Run what is missing and print the tables."""
    args = parse()
    sys.path.extend(args.peers)  # the workers have it too
    records = load(args.output)
    if not args.report:
        run(args, records)
    for part in args.parts:
        REPORTS[part](records, args)


if __name__ == "__main__":
    main()
