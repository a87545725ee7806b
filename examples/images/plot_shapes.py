"""
================================================
Shapes in equal and unequal shares, from noise
================================================

A noise-conditional score network (Song and Ermon 2019) learns images of five shapes whose pixels
are noise inside and black outside: nothing but the outline tells them apart. The question is what
becomes of shapes that are rare in training: triangles and concentric circles are said to need more
images than discs and squares. ``benchmarks/images.py`` has the answer in numbers, with whole
trainings; here are the data, the fit, the pictures, and how samples are judged.

Run it as a script, with ``--full`` for three whole trainings; pictures go to ``pictures/``.
"""

# %%
# The data
# --------
# Every image is one of finitely many masks, which are all known: how much of a sample lies outside
# the nearest one is a measure that nothing can flatter.
import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skscore import DenoisingScoreEstimator
from skscore.datasets import SHAPES, make_shapes, shape_masks

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip("= \n"))
parser.add_argument("--full", action="store_true", help="whole trainings, half an hour each")
parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="where pictures go")
settings, _ = parser.parse_known_args()
settings.pictures.mkdir(parents=True, exist_ok=True)
started = time.perf_counter()

WEIGHTS = {"equal shares": None}
if settings.full:
    WEIGHTS["triangles and circles 13 %"] = [0.065, 0.29, 0.065, 0.29, 0.29]
    WEIGHTS["triangles and circles 87 %"] = [0.435, 0.13 / 3, 0.435, 0.13 / 3, 0.13 / 3]
masks, labels = shape_masks()
print(f"{len(masks)} masks: {dict(zip(SHAPES, np.bincount(labels).tolist(), strict=True))}")


def nearest_mask(rows):
    """Return which mask is nearest to each image: by least squares, with a grey of 1/2 inside."""
    M = masks.astype(np.float32)
    return np.argmin(0.25 * M.sum(axis=1) - rows.astype(np.float32) @ M.T, axis=1)


def show(ax, rows, title):
    """Show 4 x 8 images."""
    grid = rows[:32].reshape(4, 8, 28, 28).transpose(0, 2, 1, 3).reshape(112, 224)
    ax.imshow(grid, cmap="gray", vmin=0, vmax=1)
    ax.set_title(title, fontsize=9)
    ax.axis("off")


# %%
# One fit for each
# ----------------
figure, axes = plt.subplots(len(WEIGHTS), 2, figsize=(8, 2.4 * len(WEIGHTS)), squeeze=False)
for (name, weights), (left, right) in zip(WEIGHTS.items(), axes, strict=True):
    X, y, _ = make_shapes(10_000 if settings.full else 3_000, class_weights=weights, random_state=0)
    est = DenoisingScoreEstimator(
        network="unet",
        image_shape=(1, 28, 28),
        hidden_layer_sizes="auto" if settings.full else (24, 48),
        max_iter="auto" if settings.full else 2,
        random_state=0,
    ).fit(X)
    # After so few steps the early network, which samples are led away from, is no guide yet.
    led = {} if settings.full else {"guidance": 1.0}
    S = est.sample(1_000 if settings.full else 64, random_state=0, n_steps=40, **led)
    found = nearest_mask(S)
    outside = (np.abs(S) * ~masks[found]).sum(axis=1) / np.abs(S).sum(axis=1)
    print(name, f"{time.perf_counter() - started:.0f} s")
    for k, shape in enumerate(SHAPES):
        mine = labels[found] == k
        print(
            f"  {shape:18} {np.mean(y == k):6.1%} of the images, {mine.mean():6.1%} of the samples"
            + (f", {outside[mine].mean():6.1%} of their mass outside" if mine.any() else "")
        )
    show(left, X, f"training images: {name}")
    show(right, S, "samples")
figure.tight_layout()
figure.savefig(settings.pictures / "shapes.png", dpi=100)
print(f"{time.perf_counter() - started:.0f} s in all")
