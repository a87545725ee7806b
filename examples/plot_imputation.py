"""
=========================================
Filling gaps, and coding rows into noise
=========================================

``sample(given=...)`` draws the unknown values of a row from their law given the known ones: NaN
marks what is to be drawn, and the known values come back as they are. No model is fitted for it;
the field at every noise level is enough, since the known values can be held at each level on the
way down (Song et al. 2021, appendix I.2). On two moons the exact conditional law stands beside the
draws. On the wines of scikit-learn values are removed and drawn back. Last, ``transform`` codes
rows into normal latents along the probability flow (Song et al. 2021, section 4.3), and
``inverse_transform`` brings them back.

Run it as a script, with ``--quick`` for shorter trainings; pictures go to ``pictures/``.
"""

# %%
# Given one coordinate
# --------------------
# The two moons are a mixture of round Gaussians, so that the law of the second coordinate given the
# first is a mixture too, and exact. The distance of draws from it is that of Kolmogorov and
# Smirnov, the largest difference of the distribution functions; exact draws stay below the bound in
# 95 of 100 cases.
import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import ndtr, softmax
from scipy.stats import kstest, kstwo, norm
from sklearn.datasets import load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import train_test_split

from skscore import DenoisingScoreEstimator
from skscore.datasets import TwoMoons

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip("= \n"))
parser.add_argument("--quick", action="store_true", help="shorter trainings")
parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="where pictures go")
settings, _ = parser.parse_known_args()
settings.pictures.mkdir(parents=True, exist_ok=True)
started = time.perf_counter()


def progress(what):
    print(f"[{time.perf_counter() - started:3.0f} s] {what}", flush=True)


law = TwoMoons(noise=0.1)
X = law.sample(5_000, random_state=0)
max_iter = 20 if settings.quick else 120
moons = DenoisingScoreEstimator(max_iter=max_iter, random_state=0).fit(X)
progress("moons fitted")

GIVEN, N = (-0.6, 0.5, 1.3), 1_000


def conditional(first):
    """Return weights and means of the law of the second coordinate given the first."""
    means = law.mixture.means
    return softmax(norm.logpdf(first, means[:, 0], law.noise)), means[:, 1]


draws = {}
bound = kstwo.ppf(0.95, N)
print(f"\n{'given x1 =':>12}{'KS distance':>14}{'bound':>9}{'mean':>9}{'true':>9}")
for first in GIVEN:
    weights, means = conditional(first)

    def true_law(y, weights=weights, means=means):
        return ndtr((y[:, None] - means) / law.noise) @ weights

    filled = moons.sample(N, random_state=0, given=[first, np.nan])
    assert (filled[:, 0] == first).all()
    draws[first] = filled[:, 1]
    distance = kstest(filled[:, 1], true_law).statistic
    print(f"{first:12.1f}{distance:14.3f}{bound:9.3f}", end="")
    print(f"{filled[:, 1].mean():9.3f}{weights @ means:9.3f}", flush=True)
print()

figure, axes = plt.subplots(1, 4, figsize=(14, 3.7), layout="constrained")
axes[0].plot(*X[:1500].T, ".", color="0.6", ms=2)
axis = np.linspace(-1.1, 1.6, 300)
for k, (ax, first) in enumerate(zip(axes[1:], GIVEN, strict=True)):
    axes[0].axvline(first, color=f"C{k}", lw=2)
    weights, means = conditional(first)
    ax.hist(
        draws[first], 50, range=(-1.1, 1.6), density=True, color=f"C{k}", alpha=0.5, label="draws"
    )
    density = norm.pdf(axis[:, None], means, law.noise) @ weights
    ax.plot(axis, density, color="black", lw=1.2, label="true law")
    ax.set(title=f"x2 given x1 = {first}", xlabel="x2", yticks=[])
    ax.legend(fontsize=8)
axes[0].set(title="two moons, and what is given", xlabel="x1", ylabel="x2", aspect="equal")
figure.savefig(settings.pictures / "given.png", dpi=120)

# %%
# Where both moons are crossed there are two answers, and draws have both. A regression would give
# the mean, which may lie where no row can be. The draws are not exact: some are left between the
# moons or on the one that the given value has passed by, and the distance shows it. They choose
# their moon at the higher noise levels, where the given value is held only up to the noise; more
# ``n_corrections`` at each level, and a longer training, make fewer of them.
#
# Missing values of wines
# -----------------------
# 178 wines in 13 columns, a quarter held out; of these rows 30 % of the values are removed. Against
# the truth, in deviations of the columns: one draw, and the mean of many, which is the guess with
# the least squared error. A draw must be worse than a mean by that measure, since it has the
# spread of the law and not only its centre; it is right where a filled table must look like data.
# The last column is the share of the true values that fall between the 10 % and the 90 % quantile
# of the draws, and ought to be near 80 %.
wine = load_wine()
train, held_out = train_test_split(wine.data, test_size=0.25, random_state=0)
scale = train.std(axis=0)
missing = np.random.default_rng(0).uniform(size=held_out.shape) < 0.3
gaps = np.where(missing, np.nan, held_out)
wines = DenoisingScoreEstimator(
    hidden_layer_sizes=(64, 64, 64), max_iter=200 if settings.quick else 600, random_state=0
).fit(train)
progress("wines fitted")

N_DRAWS = 20
many = np.repeat(gaps, N_DRAWS, axis=0)
many = wines.sample(len(many), random_state=0, given=many).reshape(-1, N_DRAWS, gaps.shape[1])
assert (many[:, 0][~missing] == held_out[~missing]).all()
progress(f"{N_DRAWS} draws of {missing.sum()} values in {len(gaps)} rows")
rng = np.random.RandomState(0)
gaussian = IterativeImputer(sample_posterior=True, max_iter=20, random_state=rng).fit(train)
many_gaussian = np.stack([gaussian.transform(gaps) for _ in range(N_DRAWS)], axis=1)


def rmse(filled):
    return np.sqrt((((filled - held_out) / scale)[missing] ** 2).mean())


def coverage(draws):
    low, high = np.quantile(draws, [0.1, 0.9], axis=1)
    return ((held_out >= low) & (held_out <= high))[missing].mean()


def filled_by(imputer):
    return imputer.fit(train).transform(gaps)


errors = {
    "mean of the column": (rmse(filled_by(SimpleImputer())), None),
    "nearest neighbours": (rmse(filled_by(KNNImputer())), None),
    "IterativeImputer": (rmse(filled_by(IterativeImputer(max_iter=20, random_state=0))), None),
    "IterativeImputer, mean of draws": (rmse(many_gaussian.mean(axis=1)), coverage(many_gaussian)),
    "IterativeImputer, one draw": (rmse(many_gaussian[:, 0]), None),
    "given, mean of draws": (rmse(many.mean(axis=1)), coverage(many)),
    "given, one draw": (rmse(many[:, 0]), None),
}
print(f"\n{'':34}{'RMSE':>7}{'within 10-90 %':>17}")
for name, (error, inside) in errors.items():
    print(f"{name:34}{error:7.3f}" + ("" if inside is None else f"{inside:17.1%}"))
print(f"({missing.sum()} values; the share has a standard error of about ", end="")
print(f"{np.sqrt(0.16 / missing.sum()):.1%})\n")

# %%
# With so few rows the linear regressions of ``IterativeImputer`` are hard to beat: the draws come
# out a little behind them, and are somewhat too narrow. Where columns depend on each other in
# curves, as in the moons, a linear regression has no chance.
#
# Codes
# -----
# The flow carries rows to a normal law and back. Colours show where rows of each part of a moon
# go: the plane is stretched, and neighbours stay neighbours. New codes, drawn from the normal law,
# decode into new rows.
shown = law.sample(3_000, random_state=1)
codes = moons.transform(shown)
back = moons.inverse_transform(codes)
round_trip = np.abs((back - shown) / X.std(axis=0)).max()
print(f"there and back: at most {round_trip:.1e} deviations of the columns off")
print(f"means of the codes {codes.mean(axis=0).round(3)}, deviations {codes.std(axis=0).round(3)}")
distances = [kstest(column, norm.cdf).statistic for column in codes.T]
print(f"KS distance to the normal law {np.round(distances, 3)}", end="")
print(f", bound {kstwo.ppf(0.95, len(codes)):.3f}\n")
decoded = moons.inverse_transform(np.random.default_rng(0).standard_normal((3_000, 2)))

distance_to = ((shown[:, None] - law.mixture.means) ** 2).sum(axis=2)
colour = distance_to.argmin(axis=1)
figure, axes = plt.subplots(
    1, 3, figsize=(13, 4.2), layout="constrained", width_ratios=[1.5, 1, 1.5]
)
look = {"s": 4, "cmap": "turbo", "alpha": 0.8}
axes[0].scatter(*shown.T, c=colour, **look)
axes[0].set(title="fresh rows", aspect="equal")
axes[1].scatter(*codes.T, c=colour, **look)
axes[1].set(title="their codes, in the same colours", aspect="equal", xlim=(-4, 4), ylim=(-4, 4))
axes[2].plot(*decoded.T, ".", ms=2.5, alpha=0.6)
axes[2].set(title="normal codes, decoded", aspect="equal")
axes[2].set(xlim=axes[0].get_xlim(), ylim=axes[0].get_ylim())
figure.savefig(settings.pictures / "codes.png", dpi=120)

# %%
# The wines once more: each removed value against the mean of its draws, bars from the 10 % to the
# 90 % quantile.
figure, ax = plt.subplots(figsize=(5.6, 5), layout="constrained")
rows_, columns = np.nonzero(missing)
centre = wines.location_
guesses = (many[rows_, :, columns] - centre[columns, None]) / scale[columns, None]
true = ((held_out - centre) / scale)[missing]
low, high = np.quantile(guesses, [0.1, 0.9], axis=1)
ax.vlines(true, low, high, color="C0", lw=1, alpha=0.35)
ax.plot(true, guesses.mean(axis=1), "o", ms=4)
ends = np.array([true.min(), true.max()])
ax.plot(ends, ends, color="black", lw=1)
ax.set(xlabel="removed value, deviations of its column", ylabel="mean of draws, and their 10-90 %")
ax.set(title="wines, 30 % of the values removed", aspect="equal")
figure.savefig(settings.pictures / "wine_gaps.png", dpi=120)
progress(f"pictures in {settings.pictures.resolve()}")
