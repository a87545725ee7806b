"""
=================================================
An encoder whose law is bent, or in several parts
=================================================

A variational autoencoder learns ``q(z | x)``, the codes that may have made a row. The usual one is
a Gaussian. ``ImplicitVAE`` has a network of the row and of noise in its place, ``z = g(x, eps)``.
It has no density, so the gradient of its entropy comes from a score network that learns beside it
by sliced score matching. Here the decoder is known, and so is the true posterior, on a grid: it is
curved, and in two parts where the sign of a code is lost.

Run it as a script, with ``--quick`` for a short training; pictures go to ``pictures/``.
"""

# %%
# A decoder that folds
# --------------------
# ``x = (z_1^2, z_2 - z_1^2 / 2)`` and noise: each row has codes at either sign of ``z_1``, and
# noise makes them two bent strokes. A decoder is given as a factory of a torch module.
import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from skscore import GaussianVAE, ImplicitVAE
from skscore.metrics import energy_distance

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip("= \n"))
parser.add_argument("--quick", action="store_true", help="a third of the training")
parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="where pictures go")
settings, _ = parser.parse_known_args()
settings.pictures.mkdir(parents=True, exist_ok=True)
NOISE = 0.3


class Fold(torch.nn.Module):
    def forward(self, z):
        square = z[:, :1] ** 2
        return torch.cat([square, z[:, 1:] - 0.5 * square], dim=1)


def decoder(n_components, n_features, *, generator):
    return Fold()


def rows(n, seed):
    random = np.random.default_rng(seed)
    z = torch.tensor(random.normal(size=(n, 2)))
    return Fold()(z).numpy() + NOISE * random.normal(size=(n, 2))


def exact_draws(x, n, random):
    """Draw from the true posterior, on a grid."""
    axis = np.linspace(-4, 4, 801)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    gap = (x - Fold()(torch.tensor(grid)).numpy()) / NOISE
    log_p = -0.5 * (gap**2).sum(axis=1) - 0.5 * (grid**2).sum(axis=1)
    p = np.exp(log_p - log_p.max())
    return grid[random.choice(len(p), n, p=p / p.sum())]


# %%
# Two encoders
# ------------
# The same rows, the same decoder and the same number of steps. The likelihood of a known decoder
# comes in slowly, so that codes part while they are still close.
X = rows(4_000, seed=0)
queries = np.array([[0.05, 0.0], [0.8, 0.3], [2.5, -1.5], [4.0, -2.5]])
models = {}
for name, cls in (("Gaussian", GaussianVAE), ("implicit", ImplicitVAE)):
    options = {"max_iter": 40, "hidden_layer_sizes": (96, 96)} if settings.quick else {}
    start = time.perf_counter()
    models[name] = cls(decoder=decoder, noise_scale=NOISE, random_state=0, **options).fit(X)
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)

# %%
# How far each is from the truth
# ------------------------------
# The energy distance between 1,000 codes of the encoder and 1,000 of the true posterior; that
# between two sets of true codes is the floor.
random = np.random.default_rng(1)
exact = [exact_draws(x, 1_000, random) for x in queries]
again = [exact_draws(x, 1_000, random) for x in queries]
clouds = {name: vae.encode(queries, 1_000, random_state=0) for name, vae in models.items()}
clouds["exact"] = np.stack(again, axis=1)
print(f"\n{'energy distance':18}" + "".join(f"{f'x = {x.tolist()}':>20}" for x in queries))
for name, codes in clouds.items():
    found = [energy_distance(codes[:, i], exact[i]) for i in range(len(queries))]
    print(f"{name:18}" + "".join(f"{value:20.4f}" for value in found))

# %%
# What the loss curves say
# ------------------------
# The Gaussian's loss is minus a bound on the log likelihood. The implicit encoder's is a surrogate:
# its gradient is that of the bound and its value is not, so the curves that mean something are the
# reconstruction and ``-log p(z)``, which both have. The spread from epoch to epoch is measured over
# the last fifth, about a straight line.
CURVES = ("loss_curve_", "reconstruction_curve_", "prior_curve_")


def wobble(curve):
    tail = np.asarray(curve[-max(5, len(curve) // 5) :])
    steps = np.arange(len(tail))
    return np.std(tail - np.polyval(np.polyfit(steps, tail, 1), steps), ddof=2)


print(f"\n{'deviation, nats':18}" + "".join(f"{curve:>24}" for curve in CURVES))
for name, vae in models.items():
    print(f"{name:18}" + "".join(f"{wobble(getattr(vae, curve)):24.4f}" for curve in CURVES))

# %%
# The picture
# -----------
figure = plt.figure(figsize=(13, 10), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=(2.1, 1))
axes = above.subplots(3, len(queries), sharex=True, sharey=True)
for line, (name, codes) in zip(axes, clouds.items(), strict=True):
    for i, ax in enumerate(line):
        ax.plot(*codes[:, i].T, ".", ms=2, alpha=0.5, color="C3" if name == "exact" else "C0")
        ax.set(xlim=(-3.2, 3.2), ylim=(-3, 3), aspect="equal")
        if line is axes[0]:
            ax.set_title(f"x = ({queries[i, 0]:g}, {queries[i, 1]:g})")
    line[0].set_ylabel(name)
for ax, curve in zip(below.subplots(1, 3), CURVES, strict=True):
    for name, vae in models.items():
        ax.plot(getattr(vae, curve), label=name, lw=1)
    ax.set(xlabel="epoch", title=curve)
    ax.legend()
figure.savefig(settings.pictures / "implicit_vae.png", dpi=110)
print(f"picture in {settings.pictures.resolve()}")
