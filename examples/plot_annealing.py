"""
==================================================
Far modes: why Langevin dynamics fails, and a cure
==================================================

Song and Ermon (2019, section 3.2.2 and Figure 3) take two far Gaussians with weights 0.8 and 0.2.
Between them there is nothing, and within each the score is the same whatever the weights: so chains
that start anywhere fall into the nearer mode and stay, and their shares are those of the start, not
of the data. No better score would help, since the true one fails as well. Their cure is to learn
the score of the data at every level of added noise (eq. 5 there), and to walk from much noise to
little: at the high levels the modes are one, and points are dealt out by the right weights while
they part.

Run it as a script, with ``--quick`` for a shorter training; pictures go to ``pictures/``.
"""

# %%
# One fit
# -------
# ``DenoisingScoreEstimator`` with its defaults learns the field at every noise level between
# ``sigma_min`` and ``sigma_max``; both are found from the data.
import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from skscore import DenoisingScoreEstimator, samplers
from skscore.datasets import GaussianMixture
from skscore.exceptions import DivergenceError

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip("= \n"))
parser.add_argument("--quick", action="store_true", help="a shorter training")
parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="where pictures go")
settings, _ = parser.parse_known_args()
settings.pictures.mkdir(parents=True, exist_ok=True)
started = time.perf_counter()


def progress(what):
    print(f"[{time.perf_counter() - started:3.0f} s] {what}", flush=True)


law = GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], covariances=1.0, weights=[0.8, 0.2])
X = law.sample(5_000, random_state=0)
max_iter = 20 if settings.quick else "auto"
# The network alone: a Gaussian mixture beside it would know these two modes at once.
estimator = DenoisingScoreEstimator(max_iter=max_iter, mixture=False, random_state=0).fit(X)
high, low = estimator.sigmas_[[0, -1]]
progress(f"fitted, noise levels from {high:.2f} to {low:.2f} deviations of the columns")

# %%
# Five ways of sampling
# ---------------------
# All but one start from noise as wide as the highest level. The control is plain Langevin dynamics
# at the lowest level, with the true score and with the learned field, which off the data may be so
# wrong that the chains run away; then there is no share to count, and the control has failed in
# another way. Started from training rows it has the right shares without doing anything for them.
# The step is in squared deviations of the columns; ``n_steps`` of annealed Langevin are steps at
# each of its levels.
N, LANGEVIN_STEPS, STEP = 4_000, 300, 0.02


def in_larger(rows):
    return rows.sum(axis=1) < 0  # the mode at (-5, -5)


scale = X.std(axis=0)
noise = X.mean(axis=0) + high * scale * np.random.default_rng(0).standard_normal((N, 2))
rows, shares_by_step = {}, {}


def draw(name, **params):
    counts = {}

    def watch(step, which, points):
        counts[step] = counts.get(step, 0) + in_larger(points).sum()

    rows[name] = estimator.sample(N, random_state=0, callback=watch, **params)
    shares_by_step[name] = [counts[step] / N for step in sorted(counts)]
    progress(name)


long = {"sampler": "langevin", "n_steps": LANGEVIN_STEPS}
try:
    draw("Langevin from noise", **long, init=noise)
except DivergenceError as lost:
    print(f"plain Langevin with the learned field, from noise: {lost}")

by_truth = []
rows["Langevin from noise, true score"] = samplers.langevin(
    lambda x: torch.from_numpy(law.score(x.numpy())),
    torch.from_numpy(noise),
    generator=torch.Generator().manual_seed(0),
    n_steps=LANGEVIN_STEPS,
    step_size=STEP * float(np.mean(scale**2)),  # in the units of X
    callback=lambda step, points: by_truth.append(in_larger(points.numpy()).mean()),
).numpy()
shares_by_step["Langevin from noise, true score"] = by_truth
progress("Langevin from noise, true score")

draw("annealed Langevin", sampler="annealed_langevin", init=noise)
draw("Langevin from training rows", **long)
draw("default", sampler="auto", init=noise)

# %%
# The shares
# ----------
# The standard error has two parts: N rows are drawn, from a model that knows the weights from the
# training rows alone. The target is the share in the training rows, and there the first part
# counts; against the law both do.
target = in_larger(X).mean()
training_error = np.sqrt(law.weights.prod() / len(X))
drawing_error = np.sqrt(target * (1 - target) / N)
print(f"\n{'':34}{'share':>7}{'+-':>7}{'off by':>9}   in standard errors")
print(f"{'the law':34}{law.weights[0]:7.3f}")
print(f"{f'{len(X)} training rows':34}{target:7.4f}{training_error:7.4f}")
off = {}
for name, found in rows.items():
    share = in_larger(found).mean()
    off[name] = (share - target) / drawing_error
    print(f"{name:34}{share:7.4f}{drawing_error:7.4f}{share - target:+9.4f}{off[name]:8.1f}")

# %%
# The control must fail: a method that passed from any start would prove nothing about annealing.
control = min(abs(off[name]) for name in off if name.startswith("Langevin from noise"))
assert control > 10, f"plain Langevin from noise is only {control:.1f} standard errors off"
print(f"\nplain Langevin from noise is at least {control:.0f} standard errors off\n")

# %%
# With the true score the cloud is split as at the start, by the nearer mode; with the learned field
# not even so, for in the void around the modes it is wrong (see the example on the score's error).
# The walks down the noise levels come close to the target. Annealed Langevin, the oldest, is the
# least exact of them: it has a few steps at each level, and where the modes part the points are
# still on their way. The default is nearer, with fewer evaluations.
#
# The picture
# -----------
# Above, where the rows end. Below, the share as the walk goes on, and the field at three levels: at
# the highest there is one mode, and the two modes with their weights come out of it.
figure, axes = plt.subplots(2, 4, figsize=(14, 7.4), layout="constrained")
shown = {f"{len(X)} training rows": X} | {
    name: rows[name] for name in ("Langevin from noise, true score", "annealed Langevin", "default")
}
for ax, (name, found) in zip(axes[0], shown.items(), strict=True):
    ax.plot(*found.T, ".", ms=1.5, alpha=0.5, color="C3" if "noise" in name else "C0")
    ax.set(xlim=(-11, 11), ylim=(-11, 11), aspect="equal")
    share = in_larger(found).mean()
    ax.set_title(f"{name}:\n{share:.3f} and {1 - share:.3f}")

ax = axes[1, 0]
for name, found in shares_by_step.items():
    if name != "Langevin from training rows":
        ax.plot(np.linspace(0, 1, len(found)), found, label=name)
ax.axhline(target, color="0.6", ls="--", lw=1, zorder=0)
ax.set(ylim=(0.3, 0.9), xlabel="part of the walk done", title="share of the larger mode")
ax.legend(fontsize=8, loc="lower right")

axis = np.linspace(-11, 11, 17)
points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
fine = np.linspace(-11, 11, 120)
lattice = np.stack(np.meshgrid(fine, fine), axis=-1).reshape(-1, 2)
for ax, sigma in zip(axes[1, 1:], (high / 2, high / 6, low), strict=True):
    blurred = law.blurred(sigma * scale)
    density = blurred.log_density(lattice).reshape(len(fine), -1)
    heights = density.max() - np.array([6.0, 4.0, 2.0, 1.0, 0.3])
    ax.contour(fine, fine, density, heights, colors="0.7", linewidths=0.8, linestyles="-")
    field = estimator.score_samples(points, sigma=sigma)
    field /= 0.5 * np.median(np.linalg.norm(field, axis=1)) + np.linalg.norm(
        field, axis=1, keepdims=True
    )
    ax.quiver(*points.T, *field.T, color="C0", scale=20, width=0.005)
    ax.set(xlim=(-11, 11), ylim=(-11, 11), aspect="equal")
    ax.set_title(f"learned field, sigma = {sigma:.2f}")
figure.savefig(settings.pictures / "annealing.png", dpi=120)
progress(f"picture in {settings.pictures.resolve()}")
