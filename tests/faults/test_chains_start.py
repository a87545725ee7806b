"""Chains with nothing set: where the field is of blurred rows, stiff, or without kept rows."""

import warnings

import numpy as np
import pandas as pd
import pytest

from skscore import DenoisingScoreEstimator, KDEScoreBaseline, SlicedScoreEstimator
from skscore.exceptions import DataWarning

# Next to no training: the field is that of the Gaussian, which is known.
STILL = {
    "max_iter": 1,
    "n_members": 1,
    "hidden_layer_sizes": (4,),
    "learning_rate_init": 1e-12,
    "random_state": 0,
    "mixture": False,
}
SLICED = {name: value for name, value in STILL.items() if name != "mixture"}


def normal(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0, 3.0])
def test_the_automatic_step_is_that_of_the_blurred_law(sigma):
    """Langevin's chain is about 5 % too wide in variance at a tenth of the inverse curvature."""
    X = normal(500, 10)
    est = SlicedScoreEstimator(sigma=sigma, **SLICED).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        S = est.sample(2000, random_state=0)
    spread = S.std() / X.std()
    assert spread == pytest.approx((1 + sigma**2) ** 0.5, rel=0.05)


@pytest.mark.parametrize("n_columns", [3, 30])
@pytest.mark.parametrize("thin", [1e-2, 5e-2])
def test_the_automatic_step_is_stable_along_a_thin_direction(n_columns, thin):
    X = normal(500, n_columns)
    X[:, 1] = X[:, 0] + thin * X[:, 1]
    est = SlicedScoreEstimator(standardize="diag", **SLICED).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        S = est.sample(500, random_state=0)
    thick = (S[:, 1] - S[:, 0]).std() / (X[:, 1] - X[:, 0]).std()
    assert thick == pytest.approx(1.0, abs=0.2)


def test_discrete_columns_are_sampled_at_a_noise_level():
    """The remedy that is named for such data, with what is set by default."""
    X = np.random.default_rng(1).integers(0, 3, (300, 2)).astype(float)
    est = SlicedScoreEstimator(sigma=0.1, max_iter=60, random_state=0).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        S = est.sample(400, random_state=0)
    off = S - S.round()
    assert np.sqrt(np.mean(off**2)) < 0.2  # .08 is right; uniform in between is .29
    shares = np.unique(S.round(), axis=0, return_counts=True)[1] / len(S)
    assert len(shares) == 9
    assert np.abs(shares - 1 / 9).max() < 0.08


@pytest.mark.parametrize("standardize", ["diag", None, "full"])
@pytest.mark.parametrize("thin", [1e-3, 1e-4, 1e-5])
def test_chains_without_rows_start_in_the_gaussian(standardize, thin):
    X = normal(200, 3)
    X[:, 1] = X[:, 0] + thin * X[:, 1]
    est = SlicedScoreEstimator(standardize=standardize, keep_rows=False, **SLICED).fit(X)
    S = est.sample(2000, random_state=0)
    np.testing.assert_allclose(S.std(axis=0) / X.std(axis=0), 1.0, atol=0.08)


@pytest.mark.parametrize("thin", [1e-2, 1e-3, 1e-4, 1e-5])
def test_a_bandwidth_is_found_for_nearly_collinear_columns(thin):
    for seed in range(4):
        X = normal(120, 2, seed)
        X[:, 1] = X[:, 0] + thin * X[:, 1]
        kde = KDEScoreBaseline("cv").fit(X)
        assert 0.1 < kde.bandwidth_ < 2


def test_a_warm_start_refuses_a_column_that_was_constant():
    X = normal(100, 2)
    held = X * [1, 0] + [0, 5]
    est = SlicedScoreEstimator(warm_start=True, **SLICED)
    with pytest.warns(DataWarning, match="Constant"):
        est.fit(held)
    before = est.score_samples(X)
    with pytest.raises(ValueError, match=r"warm_start=True needs .* \[1\] were constant"):
        est.fit(X)
    np.testing.assert_array_equal(est.score_samples(X), before)
    est.set_params(warm_start=False).fit(X)


def test_labels_of_a_start_and_of_given_values_are_heeded():
    X = pd.DataFrame(normal(60, 3) * [1, 10, 100] + [0, 30, 500], columns=list("abc"))
    est = DenoisingScoreEstimator(**STILL).fit(X)
    still = {"random_state": 0, "sampler": "langevin", "n_steps": 1, "step_size": 1e-12}
    there = est.sample(2, init=X[:2], **still)
    np.testing.assert_allclose(there, X[:2], rtol=1e-3)
    for wrong in (X[:2][["c", "b", "a"]], X[:2].rename(columns={"a": "z"})):
        with pytest.raises(ValueError, match="feature names"):
            est.sample(2, init=wrong, **still)
    row = X.iloc[0][["b", "a", "c"]].copy()
    row["c"] = np.nan
    few = {"random_state": 0, "n_steps": 3}
    drawn = est.sample(1, given=row, **few)
    np.testing.assert_array_equal(drawn[0, :2], X.iloc[0, :2])
    np.testing.assert_array_equal(est.sample(1, given=row.convert_dtypes(), **few), drawn)
    np.testing.assert_array_equal(est.sample(1, given=row[["a", "b"]], **few), drawn)
    with pytest.raises(ValueError, match="given names 'z'"):
        est.sample(1, given=row.rename({"a": "z"}), **few)
