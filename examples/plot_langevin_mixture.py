"""
========================================
Langevin dynamics from a learned score
========================================

A score is all that Langevin dynamics needs: ``x <- x + eta s(x) + sqrt(2 eta) z``, again and again,
and the law of x tends to the one whose score it is (Welling and Teh 2011; Song and Ermon 2019,
eq. 4, with eta = epsilon / 2). Here the score is a network that was fitted to rows of a mixture of
three Gaussians by sliced score matching (Song, Garg, Shi and Ermon 2019), and a cloud that starts
anywhere becomes a sample of the mixture. The last panel leaves the noise ``z`` out: then the same
field leads every point to the top of a mode, and that is no sample.

Run it as a script, with ``--quick`` for a shorter training; pictures go to ``pictures/``.
"""

# %%
# The mixture and the field
# -------------------------
# Three modes of unequal weights, near enough for a chain to cross from one to another. The network
# sees the rows, never the law.
import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skscore import SlicedScoreEstimator
from skscore.datasets import GaussianMixture
from skscore.metrics import energy_distance, mean_score_error

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip("= \n"))
parser.add_argument("--quick", action="store_true", help="a shorter training")
parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="where pictures go")
settings, _ = parser.parse_known_args()
settings.pictures.mkdir(parents=True, exist_ok=True)
started = time.perf_counter()


def progress(what):
    print(f"[{time.perf_counter() - started:3.0f} s] {what}", flush=True)


law = GaussianMixture(
    means=[[-2.0, -1.0], [2.0, -1.0], [0.0, 2.0]],
    covariances=[
        [[0.8, 0.3], [0.3, 0.5]],
        [[0.6, -0.3], [-0.3, 0.8]],
        [[0.9, 0.0], [0.0, 0.5]],
    ],
    weights=[0.5, 0.3, 0.2],
)
X = law.sample(5_000, random_state=0)
fresh = law.sample(4_000, random_state=1)
max_iter = 40 if settings.quick else "auto"
# The network alone: a Gaussian mixture beside it would be the law itself.
estimator = SlicedScoreEstimator(n_members=1, max_iter=max_iter, mixture=False, random_state=0).fit(
    X
)
truth = law.score(fresh)
error = mean_score_error(truth, estimator.score_samples(fresh))
zero = mean_score_error(truth, np.zeros_like(truth))
progress(f"fitted; mean distance to the true score {error:.3f}, of predicting zero {zero:.3f}")

# %%
# Chains
# ------
# They start uniformly in a square that is larger than the data. The callback sees each block of
# chains after each step, in the units of X; ``which`` is the slice of rows that the block is. The
# step is in squared units of the whitened columns.
N_CHAINS, N_STEPS, STEP, HALF_SIDE = 2_000, 400, 0.02, 6.0
start = np.random.default_rng(0).uniform(-HALF_SIDE, HALF_SIDE, (N_CHAINS, 2))
paths = np.empty((N_STEPS + 1, N_CHAINS, 2))
paths[0] = start


def watch(step, which, points):
    paths[step, which] = points


samples = estimator.sample(
    N_CHAINS,
    random_state=0,
    sampler="langevin",
    init=start,
    n_steps=N_STEPS,
    step_size=STEP,
    callback=watch,
)
assert np.array_equal(samples, paths[-1])
progress(f"{N_CHAINS} chains of {N_STEPS} steps")

# %%
# Without the noise: the same steps along the field alone, in the units of X, where the step of the
# chains is that of the whitened columns times their covariance.
ascent = start[:500].copy()
for _ in range(N_STEPS):
    ascent += STEP * estimator.score_samples(ascent) @ estimator.covariance_
progress(f"{len(ascent)} points, the same number of steps without noise")


# %%
# How far from the law
# --------------------
# The energy distance to fresh rows is zero for the same law; two fresh samples of the same size
# show what zero looks like. The share of each mode is counted by the nearest mean.
def shares(rows):
    nearest = ((rows[:, None] - law.means) ** 2).sum(axis=2).argmin(axis=1)
    return np.bincount(nearest, minlength=len(law.means)) / len(rows)


SHOWN = (0, 10, 50, N_STEPS)
distances = {step: energy_distance(fresh, paths[step]) for step in (*SHOWN, 2, 5, 20, 100, 200)}
floor = energy_distance(fresh, law.sample(N_CHAINS, random_state=2))
without_noise = energy_distance(fresh, ascent)
print(f"\n{'':26}{'energy distance':>16}   share nearest to each mean")
rows_of = {f"Langevin, step {step}": paths[step] for step in SHOWN}
rows_of |= {"without noise": ascent, "fresh rows": law.sample(N_CHAINS, random_state=2)}
for name, rows in rows_of.items():
    found = "  ".join(f"{share:.3f}" for share in shares(rows))
    print(f"{name:26}{energy_distance(fresh, rows):16.4f}   {found}")
standard_error = np.sqrt(0.25 / N_CHAINS)
print(f"(a share has a standard error of at most {standard_error:.3f})\n")

# %%
# Step by step the cloud takes on the shape of the data and, since the modes touch, their weights
# too. When modes are far apart the shape comes and the weights do not: see the example on
# annealing.
#
# The picture
# -----------
axis = np.linspace(-HALF_SIDE, HALF_SIDE, 120)
grid = np.stack(np.meshgrid(axis, axis), axis=-1)
log_density = law.log_density(grid.reshape(-1, 2)).reshape(grid.shape[:2])
contours = log_density.max() + np.array([-9.0, -6.0, -4.0, -2.0, -0.5])

figure, axes = plt.subplots(2, 3, figsize=(12, 8.2), layout="constrained")
for ax in axes.flat:
    ax.contour(axis, axis, log_density, contours, colors="0.75", linewidths=0.8, linestyles="-")
    ax.set(xlim=(-HALF_SIDE, HALF_SIDE), ylim=(-HALF_SIDE, HALF_SIDE), aspect="equal")
arrows = np.stack(np.meshgrid(*2 * [np.linspace(-5.4, 5.4, 19)]), axis=-1).reshape(-1, 2)
field = estimator.score_samples(arrows)
lengths = np.linalg.norm(field, axis=1, keepdims=True)
axes[0, 0].quiver(*arrows.T, *(field / (1 + lengths)).T, color="C0", scale=22, width=0.004)
for chain, colour in zip(range(4), ("C1", "C2", "C3", "C4"), strict=True):
    path = paths[: SHOWN[2] + 1, chain]
    axes[0, 0].plot(*path.T, color=colour, lw=1)
    axes[0, 0].plot(*path[0], "o", color=colour, ms=5)
axes[0, 0].set_title(f"the learned field,\nand {SHOWN[2]} steps of four chains")
for ax, step in zip(axes.flat[1:5], SHOWN, strict=True):
    ax.plot(*paths[step].T, ".", color="C0", ms=2, alpha=0.6)
    ax.set_title(f"Langevin, step {step}:\nenergy distance {distances[step]:.4f}")
axes[1, 2].plot(*ascent.T, ".", color="C3", ms=4, alpha=0.6)
axes[1, 2].set_title(f"without noise, step {N_STEPS}:\nenergy distance {without_noise:.4f}")
figure.suptitle(f"Contours: the true density. Fresh rows have an energy distance of {floor:.4f}.")
figure.savefig(settings.pictures / "langevin_mixture.png", dpi=120)
progress(f"picture in {settings.pictures.resolve()}")
