"""
===================================
Digits from noise, and half a digit
===================================

The digits of scikit-learn are rows of 64 pixels. With ``network="unet"`` and their
``image_shape`` a ``DenoisingScoreEstimator`` takes them for images: a U-Net sees neighbours as
neighbours. All else stays as it is for tables: samples walk from noise to data (Song and Ermon
2019), known pixels are given and the others drawn from their law given these, and the probability
flow gives a log density.

Run it as a script, with ``--full`` for the training of ``benchmarks/images.py``; pictures go to
``pictures/``.
"""

# %%
# One fit
# -------
import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skscore import DenoisingScoreEstimator

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip("= \n"))
parser.add_argument("--full", action="store_true", help="the whole training")
parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="where pictures go")
settings, _ = parser.parse_known_args()
settings.pictures.mkdir(parents=True, exist_ok=True)
started = time.perf_counter()

X, y = load_digits(return_X_y=True)
X, held_out, y, _ = train_test_split(X / 16, y, test_size=200, random_state=0)
est = DenoisingScoreEstimator(
    network="unet",
    image_shape=(1, 8, 8),
    max_iter="auto" if settings.full else 5,
    hidden_layer_sizes="auto" if settings.full else (24, 48),
    random_state=0,
).fit(X)
print(f"fit of {len(X)} images: {time.perf_counter() - started:.0f} s")


def show(ax, rows, title):
    """Show 4 x 10 images."""
    images = np.pad(rows[:40].reshape(4, 10, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    grid = images.transpose(0, 2, 1, 3).reshape(40, 100)
    ax.imshow(grid, cmap="gray_r", vmin=0, vmax=1)
    ax.set_title(title, fontsize=9)
    ax.axis("off")


# %%
# Samples
# -------
# Each walk begins in noise of the highest level and ends at the lowest, 1/32 of the range:
# half the step between two of the digits' 17 grey values.
figure, axes = plt.subplots(2, 1, figsize=(6, 5.2))
show(axes[0], X, "training images")
show(axes[1], est.sample(40, random_state=0, n_steps=40), "samples")
figure.tight_layout()
figure.savefig(settings.pictures / "digits_samples.png", dpi=100)

# %%
# Half a digit
# ------------
# The upper half of held-out digits is given, the rest drawn three times. What is given comes back
# as it is; where it leaves a choice, the draws differ.
known = held_out[:10].copy()
known[:, 32:] = np.nan
draws = [
    est.sample(10, given=known, random_state=seed, n_steps=20, n_corrections=5) for seed in range(3)
]
assert all((draw[:, :32] == known[:, :32]).all() for draw in draws)
figure, ax = plt.subplots(figsize=(6, 3))
show(ax, np.vstack([held_out[:10], *draws]), "held-out digits, and their lower half drawn thrice")
figure.tight_layout()
figure.savefig(settings.pictures / "digits_inpainting.png", dpi=100)

# %%
# What is no digit
# ----------------
# Turned upside down, a 3 or a 7 is none any more; the log density says so. It is estimated along
# random directions, and has a standard error.
how = {"n_probes": 2, "n_steps": 8, "random_state": 0}
upright, error = est.log_density(held_out[:30], return_std=True, **how)
turned = est.log_density(held_out[:30, ::-1], **how)
print(
    f"log density in nats: {upright.mean():.0f} upright, {turned.mean():.0f} upside down; "
    f"standard error of one row about {error.mean():.1f}; upright is likelier for "
    f"{np.mean(upright > turned):.0%}"
)
print(f"{time.perf_counter() - started:.0f} s in all")
