"""The estimators among scikit-learn's tools: pipelines, searches, frames, joblib, warm starts."""

import copy

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from quick import EACH
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from variants import VARIANTS, small_network

from skscore import (
    DenoisingScoreEstimator,
    KDEScoreBaseline,
    KernelScoreEstimator,
    ScoreMatchingEstimator,
    SlicedScoreEstimator,
)
from skscore.datasets import GaussianMixture
from skscore.metrics import hyvarinen_rows

X = GaussianMixture.four().sample(300, random_state=0) * [1.0, 20.0] + [0.0, 100.0]
SMALL = {"max_iter": 4, "hidden_layer_sizes": (16, 16), "random_state": 0}


def sliced(**params):
    return SlicedScoreEstimator(**SMALL | params)


def denoising(**params):
    return DenoisingScoreEstimator(**SMALL | {"early_stopping": False} | params)


def score_samples_of(estimator, rows):
    return estimator.score_samples(rows)


def test_a_pipeline_gives_the_same_score_as_the_estimator_alone():
    alone, pipeline = sliced().fit(X), make_pipeline(StandardScaler(), sliced()).fit(X)
    assert pipeline.score(X) == pytest.approx(alone.score(X), rel=1e-4)
    # The pipeline's field is that of the scaled rows.
    scale = pipeline[0].scale_
    field = pipeline.score_samples(X)
    np.testing.assert_allclose(field / scale, alone.score_samples(X), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_grid_search_repeats_itself(n_jobs):
    def search(n_jobs):
        grid = {"n_projections": [1, 2]}
        estimator = sliced(max_iter=20, early_stopping=False)
        return GridSearchCV(estimator, grid, cv=2, n_jobs=n_jobs).fit(X)

    first, second = search(None), search(n_jobs)
    scores = first.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(scores, second.cv_results_["mean_test_score"])
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 1
    assert first.best_params_ == second.best_params_
    assert first.best_score_ == scores.max()
    fields = [search.best_estimator_.score_samples(X) for search in (first, second)]
    np.testing.assert_array_equal(*fields)


def test_a_search_does_not_care_about_units():
    """The score has no unit: a search over scalers cannot be won by shrinking the data."""
    pipeline = make_pipeline(StandardScaler(), KDEScoreBaseline())
    grid = {"standardscaler": [StandardScaler(), StandardScaler(with_std=False), "passthrough"]}
    scores = GridSearchCV(pipeline, grid, cv=3).fit(X).cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, scores[0], rtol=1e-9)


def test_cross_val_score_is_that_of_each_fold():
    scores = cross_val_score(sliced(), X, cv=3)
    halves = np.array_split(np.arange(len(X)), 3)
    by_hand = [
        sliced().fit(np.delete(X, held_out, axis=0)).score(X[held_out]) for held_out in halves
    ]
    np.testing.assert_array_equal(scores, by_hand)


@pytest.mark.parametrize("variant", EACH)
def test_parameters_go_in_and_out(variant):
    estimator = VARIANTS[variant]
    params = estimator.get_params()
    assert clone(estimator).get_params() == params
    assert type(estimator)(**params).get_params() == params
    assert type(estimator)().set_params(**params).get_params() == params
    with pytest.raises(ValueError, match="n_projectionz"):
        estimator.set_params(n_projectionz=2)


@pytest.mark.parametrize("variant", ["kde", "sliced-four", "exact-energy", "denoising-ladder"])
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_are_rows_with_names(variant, frame):
    estimator = clone(VARIANTS[variant])
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    plain, table = clone(estimator).fit(X), frame({"a": X[:, 0], "b": X[:, 1]})
    named = estimator.fit(table)
    assert named.feature_names_in_.tolist() == ["a", "b"]
    assert not hasattr(plain, "feature_names_in_")
    np.testing.assert_allclose(named.score_samples(table), plain.score_samples(X), rtol=1e-6)
    assert named.score(table) == pytest.approx(plain.score(X), rel=1e-6)
    for wrong in (table[["b", "a"]], frame({"a": X[:, 0], "z": X[:, 1]})):
        for method in (named.score_samples, named.score, named.score_details):
            with pytest.raises(ValueError, match="feature names"):
                method(wrong)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        named.score_samples(X)


def test_a_refit_forgets_the_names():
    estimator = sliced().fit(pd.DataFrame(X, columns=["a", "b"])).fit(X[:, :1])
    assert estimator.n_features_in_ == 1
    assert not hasattr(estimator, "feature_names_in_")


@pytest.mark.parametrize(
    "cls",
    [
        DenoisingScoreEstimator,
        KDEScoreBaseline,
        KernelScoreEstimator,
        ScoreMatchingEstimator,
        SlicedScoreEstimator,
    ],
)
def test_the_html_links_to_the_documentation(cls):
    link = f"https://skscore.readthedocs.io/en/latest/api/skscore.{cls.__name__}.html"
    for html in (cls()._repr_html_(), estimator_html_repr(make_pipeline(StandardScaler(), cls()))):
        assert f'href="{link}"' in html


@pytest.mark.parametrize("variant", EACH)
def test_joblib_keeps_the_field(variant, tmp_path):
    fitted = clone(VARIANTS[variant]).fit(X)
    joblib.dump(fitted, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))
    assert loaded.score(X) == fitted.score(X)
    few = {} if variant.startswith("kde") else {"n_steps": 3}
    few |= {"sampler": "langevin"} if variant.startswith("denoising") else {}
    drawn = [e.sample(5, random_state=0, **few) for e in (fitted, loaded)]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.slow
def test_worker_processes_compute_the_same():
    fitted = [clone(VARIANTS[name]).fit(X) for name in ("kde", "sliced")]
    jobs = [
        joblib.delayed(score_samples_of)(f, part) for f in fitted for part in (X[:150], X[150:])
    ]
    parts = joblib.Parallel(n_jobs=2, backend="loky")(jobs)
    for i, one in enumerate(fitted):
        together = np.concatenate(parts[2 * i : 2 * i + 2])
        np.testing.assert_allclose(together, one.score_samples(X), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "params",
    [
        {"activation": "tanh"},
        {"hidden_layer_sizes": (7,)},
        {"network": small_network},
        {"parametrization": "energy"},
        {"standardize": None},
        {"device": "cuda"},
    ],
    ids=lambda params: next(iter(params)),
)
def test_a_copy_does_not_care_what_is_set_after_fit(params):
    """As in `search.best_estimator_.set_params(...)` before the next fit."""
    fitted = sliced(early_stopping=False).fit(X)
    field = fitted.score_samples(X)
    fitted.set_params(**params)
    np.testing.assert_array_equal(fitted.score_samples(X), field)
    np.testing.assert_array_equal(copy.deepcopy(fitted).score_samples(X), field)


@pytest.mark.parametrize(
    "cls", [SlicedScoreEstimator, ScoreMatchingEstimator, DenoisingScoreEstimator]
)
def test_energy_is_there_where_the_model_has_one(cls):
    assert not hasattr(cls(), "energy")
    assert not hasattr(KDEScoreBaseline(), "energy")
    fitted = cls(**SMALL, parametrization="energy").fit(X)
    h = 1e-5 * X.std(axis=0)
    for j in range(2):
        step = np.eye(2)[j] * h
        slope = (fitted.energy(X + step) - fitted.energy(X - step)) / (2 * h[j])
        np.testing.assert_allclose(-slope, fitted.score_samples(X)[:, j], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "variant", ["kde", "kernel-numbers", "sliced", "exact-energy", "denoising", "denoising-energy"]
)
def test_score_details(variant):
    fitted = clone(VARIANTS[variant]).fit(X)
    details = fitted.score_details(X)
    names = ["value", "standard_error", "skill", "skill_error", "trimmed", "trimmed_error"]
    assert list(vars(details)) == names
    assert all(type(value) is float for value in vars(details).values())
    assert details.value == fitted.score(X)
    # By hand: the Gaussian with the training moments, at the training rows, has exactly d / 2.
    S, m = np.cov(X.T, bias=True), X.mean(axis=0)
    gaussian = hyvarinen_rows((m - X) @ np.linalg.inv(S), np.full(len(X), -2.0), covariance=S)
    assert gaussian.mean() == pytest.approx(1.0)
    assert details.skill == pytest.approx(details.value - 1.0, abs=1e-9)
    own = hyvarinen_rows(*fitted._field(X, S), covariance=S)
    root_n = np.sqrt(len(X))
    assert details.standard_error == pytest.approx(own.std(ddof=1) / root_n, rel=1e-6)
    assert details.skill_error == pytest.approx((own - gaussian).std(ddof=1) / root_n, rel=1e-6)
    assert fitted.score_details(X, covariance=S).value == pytest.approx(details.value, rel=1e-9)
    one = fitted.score_details(X[:1])
    assert np.isfinite([one.value, one.skill, one.trimmed]).all()
    assert np.isnan([one.standard_error, one.skill_error, one.trimmed_error]).all()
    assert np.isnan(fitted.score_details(X[:7], trim=0.49).trimmed_error)  # one row is left
    with pytest.raises(ValueError, match="covariance"):
        fitted.score_details(X, covariance=np.eye(3))


# A step of a pipeline ----------------------------------------------------------------------------


def test_a_step_codes_rows_and_decodes_them():
    pipeline = make_pipeline(StandardScaler(), denoising())
    codes = pipeline.fit_transform(X)
    np.testing.assert_array_equal(codes, pipeline.transform(X))
    assert codes.shape == X.shape
    assert np.abs(codes.mean(axis=0)).max() < 0.5  # a standard normal, about
    assert 0.5 < codes.std() < 1.5
    np.testing.assert_allclose(pipeline.inverse_transform(codes), X, atol=1e-3)
    # Those of the estimator alone: it standardises, too.
    np.testing.assert_allclose(codes, denoising().fit_transform(X), atol=1e-3)
    later = make_pipeline(denoising(), KDEScoreBaseline(0.5)).fit(X)
    field = KDEScoreBaseline(0.5).fit(denoising().fit_transform(X))
    assert later.score(X) == field.score(denoising().fit(X).transform(X))


def test_a_pipeline_of_frames():
    frame = pd.DataFrame(X, columns=["a", "b"], index=np.arange(len(X)) + 7)
    pipeline = make_pipeline(StandardScaler(), denoising()).set_output(transform="pandas")
    codes = pipeline.fit_transform(frame)
    names = ["denoisingscoreestimator0", "denoisingscoreestimator1"]
    assert isinstance(codes, pd.DataFrame)
    assert codes.columns.tolist() == names
    assert codes.index.tolist() == frame.index.tolist()
    assert pipeline.get_feature_names_out().tolist() == names
    assert pipeline[-1].feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(codes, pipeline.transform(frame))
    plain = make_pipeline(StandardScaler(), denoising()).fit_transform(X)
    np.testing.assert_allclose(codes, plain, rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        pipeline.transform(frame[["b", "a"]])
    polars = denoising().set_output(transform="polars").fit(X).transform(X)
    assert isinstance(polars, pl.DataFrame)
    assert polars.columns == names
    np.testing.assert_array_equal(polars.to_numpy(), denoising().fit(X).transform(X))


def test_the_names_of_codes_are_as_many_as_the_codes():
    wide = np.column_stack([X, X.sum(axis=1)])
    fitted = denoising().fit(wide)
    assert fitted.transform(wide).shape == (300, 2)
    assert len(fitted.get_feature_names_out()) == 2
    frame = denoising().set_output(transform="pandas").fit(wide).transform(wide)
    assert frame.shape == (300, 2)


@pytest.mark.parametrize(
    "grid",
    [{"n_noise_levels": [None, 4]}, {"sigma": [None, [3.0, 0.5], 0.3]}],
    ids=["levels", "sigma"],
)
def test_a_grid_search_over_noise_levels(grid):
    (name,) = grid
    pipeline = make_pipeline(StandardScaler(), denoising(learning_rate_init=0.02))
    step = {f"denoisingscoreestimator__{name}": grid[name]}
    search = GridSearchCV(pipeline, step, cv=2).fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == len(scores)
    assert search.best_score_ == scores.max()
    best = search.best_estimator_[-1]
    assert hasattr(search, "transform") == (np.ndim(best.sigma) > 0 or best.sigma is None)
    by_hand = GridSearchCV(denoising(learning_rate_init=0.02), grid, cv=2).fit(X)
    np.testing.assert_allclose(by_hand.cv_results_["mean_test_score"], scores, rtol=1e-3)


def test_cross_val_score_of_denoising():
    scores = cross_val_score(denoising(), X, cv=2)
    halves = np.array_split(np.arange(len(X)), 2)
    by_hand = [denoising().fit(X[other]).score(X[one]) for one, other in (halves, halves[::-1])]
    np.testing.assert_array_equal(scores, by_hand)


MANY_LEVELS = ["transform", "fit_transform", "inverse_transform", "log_density"]


def test_one_level_has_no_codes_and_no_density():
    def has(estimator):
        return [hasattr(estimator, name) for name in MANY_LEVELS]

    for one in (0.3, np.float32(0.3), 1):
        for parametrization in ("score", "energy"):
            estimator = denoising(sigma=one, parametrization=parametrization)
            assert has(estimator) == [False] * 4
            assert has(estimator.fit(X)) == [False] * 4
            assert has(clone(estimator)) == [False] * 4
        with pytest.raises(AttributeError, match=r"has no attribute 'log_density'") as error:
            _ = estimator.log_density
        assert "fit sigma=None" in str(error.value.__cause__)
    with pytest.raises(AttributeError, match=r"has no attribute 'energy'") as error:
        _ = denoising(sigma=0.3, parametrization="score").energy
    assert "fit parametrization='energy'" in str(error.value.__cause__)
    for many in (None, [3.0, 1.0], np.array([3.0, 1.0])):
        estimator = denoising(sigma=many)
        assert has(estimator) == [True] * 4
        assert has(estimator.fit(X)) == [True] * 4
    # A fitted model is what it was fitted as, whatever is set afterwards.
    assert has(estimator.set_params(sigma=0.3)) == [True] * 4
    assert np.isfinite(estimator.transform(X)).all()
    assert has(denoising(sigma=0.3).fit(X).set_params(sigma=None)) == [False] * 4
    with pytest.raises(TypeError, match="transform"):
        make_pipeline(denoising(sigma=0.3), KDEScoreBaseline()).fit(X)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [v for v in EACH if v.values[0].startswith("denoising")])
def test_joblib_keeps_codes_densities_and_samples(variant, tmp_path):
    fitted = clone(VARIANTS[variant]).fit(X)
    joblib.dump(fitted, tmp_path / "model.joblib")
    loaded = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(loaded.sigmas_, fitted.sigmas_)
    assert hasattr(loaded, "transform") == hasattr(fitted, "transform")
    if not hasattr(fitted, "transform"):
        return
    codes = fitted.transform(X[:20])
    for e in (loaded, copy.deepcopy(fitted)):
        np.testing.assert_array_equal(e.transform(X[:20]), codes)
        np.testing.assert_array_equal(e.inverse_transform(codes), fitted.inverse_transform(codes))
        np.testing.assert_array_equal(e.log_density(X[:20]), fitted.log_density(X[:20]))
        level = float(fitted.sigmas_[0])
        np.testing.assert_array_equal(
            e.score_samples(X, sigma=level), fitted.score_samples(X, sigma=level)
        )
        few = {"sampler": "annealed_langevin", "n_steps": 1, "random_state": 0}
        drawn = [one.sample(3, **few) for one in (fitted, e)]
        np.testing.assert_array_equal(*drawn)
