"""What a user sees of a training: progress, callbacks, warm starts, refusals."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from variants import VARIANTS

from skscore import DenoisingScoreEstimator, ScoreMatchingEstimator, SlicedScoreEstimator
from skscore.datasets import GaussianMixture

X = GaussianMixture.four().sample(300, random_state=0)
SMALL = {"max_iter": 6, "hidden_layer_sizes": (16, 16), "random_state": 0}


class Recorder:
    """A callback that notes each task that ends, and stops at one of them."""

    def __init__(self, stop_at=None):
        self.ended = []
        self.begun = []
        self.closed = []
        self.stop_at = stop_at

    def setup(self, estimator, context):
        self.max_subtasks = context.max_subtasks

    def teardown(self, estimator, context):
        self.closed.append(context.task_name)

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context):
        self.ended.append((context.task_name, context.task_id))
        return context.task_name == "epoch" and context.task_id == self.stop_at


@pytest.fixture
def callback():
    return pytest.importorskip("sklearn.callback")


@pytest.mark.usefixtures("callback")
@pytest.mark.parametrize(
    "cls", [SlicedScoreEstimator, ScoreMatchingEstimator, DenoisingScoreEstimator]
)
def test_each_epoch_is_a_task(cls):
    recorder = Recorder()
    fitted = cls(**SMALL).set_callbacks(recorder).fit(X)
    epochs = [("epoch", i) for i in range(6)]
    assert recorder.ended == [*epochs, ("fit", 0)]
    assert recorder.begun == [("fit", 0), *epochs]
    assert recorder.max_subtasks == fitted.n_iter_ == 6
    assert recorder.closed == ["fit"]
    unwatched = cls(**SMALL).fit(X)
    np.testing.assert_array_equal(fitted.score_samples(X), unwatched.score_samples(X))


@pytest.mark.usefixtures("callback")
def test_a_callback_stops_training():
    recorder = Recorder(stop_at=2)
    fitted = SlicedScoreEstimator(**SMALL | {"max_iter": 50}).set_callbacks(recorder).fit(X)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 3
    assert recorder.ended == [*(("epoch", i) for i in range(3)), ("fit", 0)]


@pytest.mark.usefixtures("callback")
def test_what_was_learnt_before_a_stop_is_kept():
    """The held-out rows are looked at every tenth epoch here, and once more at the end."""
    params = SMALL | {"max_iter": 600, "learning_rate_init": 0.02}
    stopped = SlicedScoreEstimator(**params).set_callbacks(Recorder(stop_at=28)).fit(X)
    assert stopped.n_iter_ == 29
    assert len(stopped.validation_scores_) == 1 + 2 + 1


@pytest.mark.usefixtures("callback")
def test_a_callback_is_closed_when_the_fit_fails():
    recorder = Recorder()
    with pytest.raises(ValueError, match="network"):
        SlicedScoreEstimator(network=lambda *_, **__: 3).set_callbacks(recorder).fit(X)
    fitted = SlicedScoreEstimator(**SMALL, network=None).set_callbacks(recorder)
    with pytest.raises(FloatingPointError):
        fitted.set_params(learning_rate_init=1e20).fit(X)
    assert recorder.ended[-1] == ("fit", 0)
    assert recorder.closed == ["fit"]


def test_a_progress_bar_reaches_its_end(callback, capsys, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")
    bar = callback.ProgressBar()
    SlicedScoreEstimator(**SMALL).set_callbacks(bar).fit(X)
    shown = capsys.readouterr().out
    assert shown.count("SlicedScoreEstimator - fit") == shown.count("100%") == 1


@pytest.mark.slow
def test_a_progress_bar_over_a_search(callback, capsys, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "200")
    search = GridSearchCV(
        SlicedScoreEstimator(**SMALL), {"n_projections": [1, 2]}, cv=2, n_jobs=2
    ).set_callbacks(callback.ProgressBar())
    search.fit(X)
    shown = capsys.readouterr().out
    # Two candidates times two folds and the refit, under the search, under its fit.
    assert shown.count("SlicedScoreEstimator - fit") == 5
    assert shown.count("100%") == 7
    quiet = clone(search).fit(X)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], quiet.cv_results_["mean_test_score"]
    )


@pytest.mark.parametrize(
    ("verbose", "n_epochs", "n_lines"),
    [(0, 20, 0), (1, 20, 10), (1, 3, 3), (1, 25, 10), (2, 25, 20), (99, 20, 20)],
)
def test_verbose_prints_lines(verbose, n_epochs, n_lines, capsys):
    fitted = SlicedScoreEstimator(**SMALL | {"max_iter": n_epochs, "verbose": verbose}).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == n_lines
    if lines:
        last = f"Epoch {n_epochs}/{n_epochs}, loss {fitted.loss_curve_[-1]:.5f}"
        assert lines[-1].startswith(last)
        assert lines[-1].endswith(f"held-out score {fitted.validation_scores_[-1]:.5f}")


def test_a_warm_start_goes_on():
    params = SMALL | {"warm_start": True, "early_stopping": False, "max_iter": 30}
    warm = SlicedScoreEstimator(**params).fit(X)
    first = warm.loss_curve_
    assert warm.n_iter_ == len(first) == 30
    still = clone(warm).fit(X).set_params(learning_rate_init=1e-12, max_iter=1)
    before = still.score_samples(X)
    still.fit(X)
    assert still.n_iter_ == len(still.loss_curve_) == 1
    np.testing.assert_allclose(still.score_samples(X), before, rtol=1e-5, atol=1e-6)
    warm.fit(X)
    assert np.mean(warm.loss_curve_[:5]) < np.mean(first[:5]) - 0.03
    cold = clone(warm).set_params(warm_start=False).fit(X).fit(X)
    assert cold.loss_curve_ == first


def test_a_warm_start_refuses_another_model():
    warm = SlicedScoreEstimator(**SMALL, warm_start=True).fit(X)
    field = warm.score_samples(X)
    with pytest.raises(ValueError, match="features"):
        warm.fit(np.hstack([X, X]))
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        warm.set_params(hidden_layer_sizes=(16, 8)).fit(X)
    with pytest.raises(ValueError, match="warm_start"):
        warm.set_params(hidden_layer_sizes=(16, 16), parametrization="energy").fit(X)
    warm.set_params(parametrization="score")
    assert warm.n_features_in_ == 2
    np.testing.assert_array_equal(warm.score_samples(X), field)


def test_a_warm_start_does_not_take_a_score_for_an_energy():
    """In one dimension both networks have one output, so the shapes say nothing."""
    warm = SlicedScoreEstimator(**SMALL, warm_start=True).fit(X[:, :1])
    with pytest.raises(ValueError, match="warm_start"):
        warm.set_params(parametrization="energy").fit(X[:, :1])


OTHER_LEVELS = {
    "a ladder": ({"sigma": [3.0, 1.0, 0.2]}, {"sigma": [3.0, 1.0, 0.1]}),
    "a shorter one": ({"sigma": [3.0, 1.0, 0.2]}, {"sigma": [3.0, 0.2]}),
    "one level": ({"sigma": [3.0, 1.0, 0.2]}, {"sigma": 0.2}),
    "many levels": ({"sigma": 0.2}, {"sigma": None}),
    "another level": ({"sigma": 0.2}, {"sigma": 0.3}),
    "a range": ({"sigma_min": 0.1}, {"sigma_min": 0.2}),
    "more levels": ({"n_noise_levels": 3}, {"n_noise_levels": 4}),
}


@pytest.mark.parametrize("case", OTHER_LEVELS)
def test_a_warm_start_refuses_other_noise_levels(case):
    before, after = OTHER_LEVELS[case]
    warm = DenoisingScoreEstimator(**SMALL, warm_start=True, **before).fit(X)
    field, levels = warm.score_samples(X), warm.sigmas_
    with pytest.raises(ValueError, match=r"warm_start=True needs .*sigma.*or warm_start=False"):
        warm.set_params(**after).fit(X)
    np.testing.assert_array_equal(warm.score_samples(X), field)
    np.testing.assert_array_equal(warm.sigmas_, levels)
    fresh = warm.set_params(warm_start=False).fit(X)
    assert not np.array_equal(fresh.sigmas_, levels)


@pytest.mark.parametrize("params", [{}, {"n_noise_levels": 3}], ids=["range", "ladder"])
def test_a_warm_start_keeps_the_automatic_levels(params):
    """Of other rows too: the levels of a range are no reason to refuse them."""
    warm = DenoisingScoreEstimator(**SMALL | {"early_stopping": False}, warm_start=True, **params)
    levels = warm.fit(X).sigmas_
    other = warm.set_params(learning_rate_init=1e-12, max_iter=1)
    field = other.score_samples(X)
    other.fit(2 * X[::-1] + 1)
    np.testing.assert_array_equal(warm.sigmas_, levels)
    np.testing.assert_allclose(warm.score_samples(X), field, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["kde", "sliced-warm", "exact", "denoising-ladder"])
def test_a_refused_fit_keeps_the_names(variant):
    frame = pd.DataFrame(X, columns=["a", "b"])
    fitted = clone(VARIANTS[variant]).fit(frame)
    field = fitted.score_samples(frame)
    for refused in (np.zeros((10, 5)), pd.DataFrame(0.0, range(10), ["a", "b"]), X[:1]):
        with pytest.raises(ValueError, match=r"zero variance|features|minimum of 2"):
            fitted.fit(refused)
        assert fitted.n_features_in_ == 2
        assert fitted.feature_names_in_.tolist() == ["a", "b"]
        np.testing.assert_array_equal(fitted.score_samples(frame), field)
    fresh = clone(fitted)
    with pytest.raises(ValueError, match="zero variance"):
        fresh.fit(np.zeros((10, 5)))
    assert not hasattr(fresh, "n_features_in_")


def test_held_out_rows_choose_the_weights():
    fitted = SlicedScoreEstimator(**SMALL | {"max_iter": 40}).fit(X)
    assert fitted.validation_scores_[0] == pytest.approx(1.0, abs=0.2)  # the Gaussian's, d / 2
    assert max(fitted.validation_scores_) > fitted.validation_scores_[0]
    assert SlicedScoreEstimator(**SMALL, early_stopping=False).fit(X).validation_scores_ is None
