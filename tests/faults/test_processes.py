"""Forks and worker processes."""

import os

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.model_selection import GridSearchCV

FORK = """
    import os, signal, sys, time
    import numpy as np, torch
    from skscore import KDEScoreBaseline, ScoreMatchingEstimator, SlicedScoreEstimator

    torch.set_num_threads(2)
    net = dict(hidden_layer_sizes=(32, 32), max_iter=2, early_stopping=False, random_state=0)
    X = np.random.RandomState(0).normal(size=(500, 3))
    Q = np.random.RandomState(1).normal(size=(20_000, 3))
    models = [
        KDEScoreBaseline(),
        SlicedScoreEstimator(**net),
        ScoreMatchingEstimator(**net),
        ScoreMatchingEstimator(parametrization="energy", **net),
    ]
    for model in models:
        kernel = isinstance(model, KDEScoreBaseline)
        rows, steps = (X, {}) if kernel else (Q, {"n_steps": 5})
        field = model.fit(X).score_samples(rows)
        model.sample(300, random_state=0, **steps)
        model.score(X)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                same = np.allclose(model.score_samples(rows), field, rtol=1e-5, atol=1e-6)
                again = type(model)(**model.get_params()).fit(X)
                same &= np.allclose(again.score_samples(rows), field, rtol=1e-2, atol=1e-3)
                same &= np.isfinite(again.sample(300, random_state=0, **steps)).all()
                same &= np.isfinite(again.score(X))
                code = 0 if same else 2
            finally:
                os._exit(code)
        end = time.monotonic() + 40
        done = 0
        while not done and time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)
        if not done:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            sys.exit(f"the forked child of {model} hangs")
        assert status == 0, (model, status)
        assert torch.get_num_threads() == 2
    print("ok")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_predicts_fits_and_samples(run_python):
    assert run_python(FORK, timeout=180).endswith("ok\n")


def refit(estimator, X):
    estimator.fit(X)
    return estimator, estimator.score_samples(X), estimator.sample(5, random_state=0)


@pytest.mark.slow
def test_worker_processes(make_kind, X):
    kinds = ["kde", "kde-cv", "sliced", "exact", "energy"]
    # loky first: the two tests of workers share one pool, which is slow to start.
    results = Parallel(n_jobs=2, backend="loky")(
        delayed(refit)(make_kind(kind), X) for kind in kinds
    )
    for kind, (estimator, field, drawn) in zip(kinds, results, strict=True):
        wanted = make_kind(kind).fit(X)
        for value in (field, estimator.score_samples(X)):  # as sent back, fitted or not
            np.testing.assert_allclose(value, wanted.score_samples(X), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(drawn, wanted.sample(5, random_state=0), rtol=1e-4, atol=1e-5)

    rates = {"learning_rate_init": [1e-4, 0.02]}
    for kind, grid in {
        "kde": {"bandwidth": [0.3, "scott"]},
        "sliced": rates,
        "exact": rates,
    }.items():
        searches = [GridSearchCV(make_kind(kind), grid, cv=2, n_jobs=n).fit(X) for n in (1, 2)]
        scores = [search.cv_results_["mean_test_score"] for search in searches]
        assert np.isfinite(scores).all()
        assert len(set(scores[0])) == 2, "the grid makes no difference"
        np.testing.assert_allclose(*scores, rtol=1e-5)
        assert searches[0].best_params_ == searches[1].best_params_
        field = searches[1].best_estimator_.score_samples(X)
        np.testing.assert_allclose(field, searches[0].best_estimator_.score_samples(X), rtol=1e-5)
