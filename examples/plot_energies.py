"""
===========================================================
Energies of two densities, and what is missing to normalise
===========================================================

With ``parametrization="energy"`` the network is a number to each row, the energy E, and the field
is minus its gradient. Score matching (Hyvarinen 2005, eq. 4) then fits ``exp(-E)`` to the density
*up to a factor*: no constant that is added to E changes the field, so the data say nothing about
it. A poster of the University of Melbourne ("An analysis of score based modelling", Figure 1) shows
two densities learned so, of the right shape and of impossible height. In the plane one can divide
by the sum over a grid; in ten dimensions one cannot. The probability flow of a model of every noise
level gives the factor in any dimension (Song et al. 2021, section 4.3): it starts at a Gaussian,
which is normalised, and keeps account of how volumes change on the way.

Run it as a script, with ``--quick`` for shorter trainings; pictures go to ``pictures/``.
"""

# %%
# Two densities, two models of each
# ---------------------------------
import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skscore import DenoisingScoreEstimator, ScoreMatchingEstimator
from skscore.datasets import Ring, TwoMoons

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip("= \n"))
parser.add_argument("--quick", action="store_true", help="shorter trainings")
parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="where pictures go")
settings, _ = parser.parse_known_args()
settings.pictures.mkdir(parents=True, exist_ok=True)
started = time.perf_counter()


def progress(what):
    print(f"[{time.perf_counter() - started:3.0f} s] {what}", flush=True)


LAWS = {"two moons": TwoMoons(noise=0.15), "ring": Ring(radius=1.0, std=0.15)}
N, N_AXIS, MARGIN = 3_000, 60, 0.5
energies, flows, rows = {}, {}, {}
for name, law in LAWS.items():
    X = rows[name] = law.sample(N, random_state=0)
    energies[name] = ScoreMatchingEstimator(
        parametrization="energy",
        hidden_layer_sizes=(64, 64),
        n_members=1,
        max_iter=20 if settings.quick else 120,
        random_state=0,
    ).fit(X)
    progress(f"{name}: energy")
    max_iter = 20 if settings.quick else 100
    flows[name] = DenoisingScoreEstimator(max_iter=max_iter, random_state=0).fit(X)
    progress(f"{name}: every noise level")

# %%
# Sums over a grid
# ----------------
# A density sums to one. The grid reaches beyond the rows by a margin on every side. Errors are mean
# absolute ones of the log density in nats, at fresh rows: of the energy once the grid has
# normalised it, and of the flow as it is. (The flow's density is that of the data with noise of
# its lowest level, a hundredth of a deviation.)
found = {}
print(f"\n{'':12}{'log sum exp(-E)':>17}{'sum of flow':>13}", end="")
print(f"{'error of -E - log sum':>24}{'error of flow':>15}")
for name, law in LAWS.items():
    low, high = rows[name].min(axis=0) - MARGIN, rows[name].max(axis=0) + MARGIN
    axes = [np.linspace(a, b, N_AXIS) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    cell = np.prod((high - low) / (N_AXIS - 1))
    fresh = law.sample(1_000, random_state=1)
    truth = law.log_density(fresh)
    energy, log_density = energies[name].energy(grid), flows[name].log_density(grid, n_steps=20)
    log_sum = np.logaddexp.reduce(-energy) + np.log(cell)
    total = np.exp(log_density).sum() * cell
    at_fresh = -energies[name].energy(fresh) - log_sum, flows[name].log_density(fresh)
    error, error_of_flow = (np.abs(values - truth).mean() for values in at_fresh)
    print(f"{name:12}{log_sum:17.1f}{total:13.4f}{error:24.3f}{error_of_flow:15.3f}", flush=True)
    found[name] = axes, energy, log_density, log_sum, total, truth, at_fresh
print()

# %%
# The sum of ``exp(-E)`` is an accident of the training, many orders of magnitude from one; the
# flow's is one, up to the error of the fit and of the grid. The shapes are right in both. Where
# modes are far apart an energy fitted without noise is at a loss for their heights too, since the
# field between them is not learned; here the parts of each density hang together.
#
# The picture
# -----------
figure, panels = plt.subplots(2, 4, figsize=(14, 6.6), layout="constrained")
for row, (name, law) in zip(panels, LAWS.items(), strict=True):
    axes, energy, log_density, log_sum, total, truth, at_fresh = found[name]
    mesh = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    exact = np.exp(law.log_density(mesh)).reshape(N_AXIS, N_AXIS)
    top = np.exp(truth.max())
    look = {"shading": "gouraud", "cmap": "viridis"}
    row[0].pcolormesh(*axes, exact, vmin=0, vmax=top, **look)
    row[0].plot(*rows[name][:300].T, ".", color="white", ms=1.5)
    row[0].set_title(f"{name}: true density,\nand 300 rows")
    height = (energy - energy.min()).reshape(N_AXIS, N_AXIS)
    shown = row[1].pcolormesh(*axes, height, vmin=0, vmax=15, shading="gouraud", cmap="magma_r")
    row[1].contour(*axes, height, np.arange(0.5, 15, 1.5), colors="white", linewidths=0.6)
    row[1].set_title(
        f"energy above its least, nats;\nexp(-E) sums to $10^{{{log_sum / np.log(10):.0f}}}$"
    )
    figure.colorbar(shown, ax=row[1], extend="max")
    density = np.exp(log_density).reshape(N_AXIS, N_AXIS)
    shown = row[2].pcolormesh(*axes, density, vmin=0, vmax=top, **look)
    row[2].set_title(f"density by the flow;\nsums to {total:.3f}")
    figure.colorbar(shown, ax=row[2])
    for ax in row[:3]:
        ax.set(aspect="equal")
    labels = "energy, divided by its sum", "flow, as it is"
    for values, label in zip(at_fresh, labels, strict=True):
        row[3].plot(truth, values, ".", ms=3, alpha=0.5, label=label)
    ends = np.array([truth.min(), truth.max()])
    row[3].plot(ends, ends, color="black", lw=1)
    row[3].set(title="log density of fresh rows", xlabel="true", ylabel="learned")
    row[3].set(ylim=ends + np.array([-2, 1]))
    row[3].legend(fontsize=8)
figure.savefig(settings.pictures / "energies.png", dpi=120)
progress(f"picture in {settings.pictures.resolve()}")
