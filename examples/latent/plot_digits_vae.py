"""
========================================================
Codes of digits by a Gaussian and by an implicit encoder
========================================================

Two variational autoencoders explain scikit-learn's digits by two numbers each. They have the
same decoder, the same trunk and the same training, and differ in the law of a code given its digit:
a Gaussian, or whatever a network makes of noise. A poster of Brown and Wei (University of
Melbourne) promises that the freer law is worth its noisier loss; here both are measured.

Run it as a script, with ``--quick`` for a short training; pictures go to ``pictures/``.
"""

# %%
# Two models of one kind
# ----------------------
# Greys in [0, 1] are taken as probabilities of ink: the Bernoulli likelihood.
import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from skscore import GaussianVAE, ImplicitVAE

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip("= \n"))
parser.add_argument("--quick", action="store_true", help="a fifth of the training")
parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="where pictures go")
settings, _ = parser.parse_known_args()
settings.pictures.mkdir(parents=True, exist_ok=True)

X, y = load_digits(return_X_y=True)
X, held_out, y, held_out_y = train_test_split(
    X / 16, y, test_size=397, stratify=y, random_state=100
)
options = {"max_iter": 55} if settings.quick else {}
models = {}
for name, cls in (("Gaussian", GaussianVAE), ("implicit", ImplicitVAE)):
    start = time.perf_counter()
    models[name] = cls(2, likelihood="bernoulli", random_state=0, **options).fit(X)
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)

# %%
# What they are worth
# -------------------
# The log likelihood of held-out digits, by the same importance sampling for both, and what a
# nearest-neighbour classifier makes of the codes: a fitted model is a step of a pipeline.
looked = held_out[: 100 if settings.quick else None]
nats = {name: vae.log_density(looked) for name, vae in models.items()}
print(f"\n{'':10}{'nats per digit':>20}{'accuracy of neighbours':>26}")


def mean(values):
    return f"{values.mean():+.2f} +- {values.std(ddof=1) / np.sqrt(len(values)):.2f}"


for name, vae in models.items():
    pipeline = make_pipeline(vae, KNeighborsClassifier(5))
    pipeline.steps[-1][1].fit(vae.transform(X), y)  # the codes are learnt already
    accuracy = pipeline.score(held_out, held_out_y)
    print(f"{name:10}{mean(nats[name]):>20}{accuracy:26.3f}")
print(f"implicit less Gaussian: {mean(nats['implicit'] - nats['Gaussian'])} nats")

# %%
# The picture
# -----------
# Mean codes of held-out digits, each with its class; draws of the code of four of them; what the
# decoder makes of codes on a grid; and new digits.
figure, axes = plt.subplots(2, 4, figsize=(16, 8), layout="constrained")
side = 12
grid = np.stack(np.meshgrid(np.linspace(-2, 2, side), np.linspace(2, -2, side)), axis=-1)


def sheet(rows, across):
    """Return images side by side, with a line between them."""
    images = np.pad(rows.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    return images.reshape(-1, across, 10, 10).swapaxes(1, 2).reshape(-1, 10 * across)


chosen = [np.flatnonzero(held_out_y == digit)[0] for digit in (0, 1, 4, 7)]
for line, (name, vae) in zip(axes, models.items(), strict=True):
    codes = vae.transform(held_out)
    line[0].scatter(*codes.T, c=held_out_y, cmap="tab10", s=8)
    line[0].set(title="mean codes of held-out digits", ylabel=name)
    clouds = vae.encode(held_out[chosen], 400, random_state=0).swapaxes(0, 1)
    for cloud, digit in zip(clouds, held_out_y[chosen], strict=True):
        line[1].plot(*cloud.T, ".", ms=2, label=f"a {digit}")
    line[1].set(title="400 codes of each of four digits")
    line[1].legend(markerscale=5)
    for ax in line[:2]:
        ax.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
    decoded = vae.inverse_transform(grid.reshape(-1, 2))
    new = vae.sample(side**2, random_state=0, mean=True)
    for ax, rows, title in zip(line[2:], (decoded, new), ("codes on a grid", "new"), strict=True):
        ax.imshow(sheet(rows, side), cmap="gray_r", vmin=0, vmax=1)
        ax.set(title=title, xticks=[], yticks=[])
figure.savefig(settings.pictures / "digits_vae.png", dpi=90)
print(f"picture in {settings.pictures.resolve()}")
