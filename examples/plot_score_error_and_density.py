"""
==============================================
The score is wrong where there are no data
==============================================

Score matching weighs errors by the density of the data. Where there are no rows it says nothing,
and a network may do there what it likes: Song and Ermon (2019, section 3.2.1 and Figure 2) name
this as the first obstacle on the way from a score to samples, since a chain starts just there.
Here the truth is known, a mixture of four Gaussians, so that the error can be set against the
density. Then the remedy: the field learned at many levels of added noise. The rows of each level
reach as far as its noise does, and where the rows of a level are, its field is right. It is the
field of *blurred* data, and the exact score of those is what it is compared with.

Run it as a script, with ``--quick`` for shorter trainings; pictures go to ``pictures/``.
"""

# %%
# Three fits of the same rows
# ---------------------------
# Without noise (sliced score matching); by denoising at one small level; and at every level.
# Noise levels are in deviations of the columns: ``sigma * scale`` in the units of X.
import argparse
import time
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

from skscore import DenoisingScoreEstimator, SlicedScoreEstimator
from skscore.datasets import GaussianMixture

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip("= \n"))
parser.add_argument("--quick", action="store_true", help="shorter trainings")
parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="where pictures go")
settings, _ = parser.parse_known_args()
settings.pictures.mkdir(parents=True, exist_ok=True)
started = time.perf_counter()


def progress(what):
    print(f"[{time.perf_counter() - started:3.0f} s] {what}", flush=True)


law = GaussianMixture.four()
X = law.sample(4_000, random_state=0)
scale = X.std(axis=0)
SMALL = 0.05
# Networks alone: a Gaussian mixture beside them would be the law itself.
alone = {"mixture": False, "random_state": 0}
short = {"n_members": 1, "max_iter": 20 if settings.quick else 60} | alone
no_noise = SlicedScoreEstimator(**short).fit(X)
progress("fitted without noise")
one_level = DenoisingScoreEstimator(sigma=SMALL, **short).fit(X)
progress("fitted at one level")
max_iter = 20 if settings.quick else 160
every_level = DenoisingScoreEstimator(max_iter=max_iter, **alone).fit(X)
high, low = every_level.sigmas_[[0, -1]]
progress(f"fitted at every level from {high:.2f} to {low:.2f}")

# %%
# Error against density
# ---------------------
# On a grid far wider than the data: the distance of each field to the true score, averaged over
# the points of like density. That is Figure 3 of a report of Kondracki and Le Bihan (2024), whose
# three-layer network had errors that surge at low densities. The share of the data that lives below
# a density says how little the objective could see of it.
HALF_SIDE, N_AXIS = 7.0, 81
axis = np.linspace(-HALF_SIDE, HALF_SIDE, N_AXIS)
grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
log_density = law.log_density(grid)
held_out = law.log_density(law.sample(100_000, random_state=1))
edges = np.array([-np.inf, -60.0, -40.0, -25.0, -15.0, -10.0, -7.0, -5.0, -3.5, np.inf])
bins = np.digitize(log_density, edges[1:-1])


def by_density(values):
    return np.array([values[bins == k].mean() for k in range(len(edges) - 1)])


def distance(a, b):
    return np.linalg.norm(a - b, axis=1)


size = np.linalg.norm(law.score(grid), axis=1)
blurred_score = law.blurred(SMALL * scale).score(grid)
errors = {
    "without noise": distance(no_noise.score_samples(grid), law.score(grid)),
    f"one level, {SMALL}": distance(one_level.score_samples(grid), blurred_score),
    f"every level, at {low:.2f}": distance(
        every_level.score_samples(grid), law.blurred(low * scale).score(grid)
    ),
}
print(f"\n{'log density':>18}{'share of data':>15}{'|true score|':>14}", end="")
print("".join(f"{name:>24}" for name in errors))
columns = [by_density(size), *map(by_density, errors.values())]
for k, (a, b) in enumerate(pairwise(edges)):
    share = ((held_out >= a) & (held_out < b)).mean()
    print(f"{f'{a:.1f} to {b:.1f}':>18}{share:15.5f}{columns[0][k]:14.2f}", end="")
    print("".join(f"{column[k]:24.2f}" for column in columns[1:]))

valley = (np.abs(grid).min(axis=1) < 0.6) & (np.abs(grid).max(axis=1) < 4)
print(f"{'in the valleys':>18}{'':15}{size[valley].mean():14.2f}", end="")
print("".join(f"{error[valley].mean():24.2f}" for error in errors.values()))

# %%
# Each is a field of its own law, the second and the third compared with the data blurred at their
# level. Where the rows are the error is a small part of the score; where they are not it is many
# times larger. In the valleys between the modes, the last line, it is about half of the score, and
# these are what a chain has to cross. One small level of noise changes little: it does not reach
# across.
#
# Level by level
# --------------
# The same for the model of every level, each against the exact score of the data blurred at that
# level (Figure 4 of the report, which had ten levels). A score at level sigma is of the order of
# 1 / sigma, so that errors of two levels compare only in units of that: sigma times the error, here
# with the columns' deviations, is the error of the noise that the model sees in a row. (Below the
# width of a mode scores stop growing, and this unit makes light of their errors.)
levels = np.geomspace(high, max(low, 0.03), 8)
relative, densities = {}, {}
for sigma in levels:
    truth = law.blurred(sigma * scale)
    error = (every_level.score_samples(grid, sigma=sigma) - truth.score(grid)) * scale
    relative[sigma] = sigma * np.linalg.norm(error, axis=1)
    densities[sigma] = truth.log_density(grid).reshape(N_AXIS, N_AXIS)

print("\nsigma times the error, by the log density of the data without noise")
print(f"{'':>18}" + "".join(f"{f'sigma {sigma:.2f}':>12}" for sigma in levels))
table = np.array([by_density(relative[sigma]) for sigma in levels])
for k, (a, b) in enumerate(pairwise(edges)):
    print(f"{f'{a:.1f} to {b:.1f}':>18}" + "".join(f"{value:12.3f}" for value in table[:, k]))

# %%
# The rows of the table are the places, from the emptiest to the densest; at the empty ones only the
# high levels are right. And where each level's own rows are, it is right: the mean over 2,000 rows
# drawn from the data blurred at that level, beside the same for rows of the highest level.
print(f"\n{'':>18}" + "".join(f"{f'sigma {sigma:.2f}':>12}" for sigma in levels))
for name, own in (("own rows", True), ("rows at the top", False)):
    print(f"{name:>18}", end="")
    for sigma in levels:
        truth = law.blurred(sigma * scale)
        rows = law.blurred((sigma if own else high) * scale).sample(2_000, random_state=2)
        error = (every_level.score_samples(rows, sigma=sigma) - truth.score(rows)) * scale
        print(f"{sigma * np.linalg.norm(error, axis=1).mean():12.3f}", end="")
    print()
print()

# %%
# So an annealed walk asks each level only where its field is right: it starts where the highest
# level has its rows, and every level hands over points that look like rows of the next.
#
# The pictures
# ------------
# First the density, the map of the error, and the error against the density.
extent = (-HALF_SIDE, HALF_SIDE, -HALF_SIDE, HALF_SIDE)
middles = by_density(log_density)
figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
picture = axes[0].imshow(
    log_density.reshape(N_AXIS, N_AXIS), extent=extent, origin="lower", vmin=-60
)
axes[0].plot(*X[:500].T, ".", color="white", ms=1.5)
axes[0].set_title("log density, and 500 rows")
figure.colorbar(picture, ax=axes[0], extend="min")
first = errors["without noise"].reshape(N_AXIS, N_AXIS)
picture = axes[1].imshow(
    first, extent=extent, origin="lower", cmap="magma", norm=LogNorm(0.1, 30, clip=True)
)
axes[1].set_title("error of the score learned without noise")
figure.colorbar(picture, ax=axes[1], extend="both")
for ax in axes[:2]:
    ax.set(xlim=extent[:2], ylim=extent[2:])
for name, error in errors.items():
    axes[2].plot(middles, by_density(error), "o-", ms=4, label=name)
axes[2].plot(middles, columns[0], "k:", label="length of the true score")
axes[2].set(yscale="log", xlabel="log density", title="error of the score, by density")
axes[2].legend(fontsize=8)
figure.savefig(settings.pictures / "score_error_and_density.png", dpi=120)

# %%
# Then the levels: the map of sigma times the error, on one scale, with the line that holds 99 % of
# the rows of that level, and the same against the density of the data without noise.
figure, axes = plt.subplot_mosaic(
    [["0", "2", "curves"], ["4", "6", "curves"]],
    figsize=(13, 6.6),
    layout="constrained",
    width_ratios=[1, 1, 1.7],
)
maps = [axes[name] for name in "0246"]
for ax, sigma in zip(maps, levels[::2], strict=True):
    picture = ax.imshow(
        relative[sigma].reshape(N_AXIS, N_AXIS),
        extent=extent,
        origin="lower",
        cmap="magma",
        norm=LogNorm(0.01, 3, clip=True),
    )
    truth = law.blurred(sigma * scale)
    inside = np.quantile(truth.log_density(truth.sample(20_000, random_state=3)), 0.01)
    if densities[sigma].min() < inside:
        ax.contour(axis, axis, densities[sigma], [inside], colors="white", linestyles="-")
    ax.set(title=f"sigma = {sigma:.2f}", xticks=[-5, 0, 5], yticks=[-5, 0, 5])
figure.colorbar(picture, ax=maps, extend="both", shrink=0.7, label="sigma x error")
colours = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(levels)))
for sigma, values, colour in zip(levels, table, colours, strict=True):
    axes["curves"].plot(middles, values, "o-", ms=3, color=colour, label=f"{sigma:.2f}")
axes["curves"].set(
    yscale="log", xlabel="log density of the data", title="sigma x error, by density"
)
axes["curves"].legend(fontsize=8, title="sigma")
figure.savefig(settings.pictures / "score_error_by_level.png", dpi=120)
progress(f"pictures in {settings.pictures.resolve()}")
