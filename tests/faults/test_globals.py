"""Process-wide state, seeds, refits, warm starts and copies."""

import copy
import pickle
import random
import signal
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skscore.exceptions import DataWarning
from skscore.testing import global_state


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


# Global state ------------------------------------------------------------------------------------


def test_nothing_global_is_changed(make_any, X, two_threads, everything, global_seeds):
    everything(make_any().fit(X), X)  # what an import changes is not the estimator's
    global_seeds(123)  # streams that the estimator's own seed would not lead to
    before = global_state()
    fitted = make_any().fit(X)
    everything(fitted, X)
    pickle.loads(pickle.dumps(fitted))
    after = global_state()
    assert [name for name in before if before[name] != after[name]] == []


def test_nothing_global_is_changed_by_a_refusal(make_any, X, two_threads, global_seeds):
    fitted = make_any().fit(X)
    global_seeds(123)
    before = global_state()
    for bad in (X * np.nan, X[:1], X[[0] * 20]):
        with pytest.raises(ValueError, match=r"X|sample"):
            fitted.fit(bad)
    with pytest.raises(ValueError, match="n_samples"):
        fitted.sample(0)
    if make_any.kind in ("sliced", "exact", "energy"):
        with pytest.raises(FloatingPointError):
            fitted.sample(3, random_state=0, step_size=1e6)
        with pytest.raises(FloatingPointError):
            make_any(learning_rate_init=1e10, max_iter=9).fit(X)
        with pytest.raises(ZeroDivisionError):
            make_any(network=lambda *a, **k: 1 / 0).fit(X)
    after = global_state()
    assert [name for name in before if before[name] != after[name]] == []


CHANGES = {
    "numpy random stream": lambda patch: np.random.rand(),  # noqa: NPY002
    "python random stream": lambda patch: random.random(),
    "torch random stream": lambda patch: torch.rand(1),
    "environment": lambda patch: patch.setenv("SKSCORE_TEST", "1"),
    "working directory": lambda patch: patch.chdir("/"),
    "warning filters": lambda patch: patch.setattr(warnings, "filters", []),
    "interrupt handler": lambda patch: patch.setattr(signal, "getsignal", lambda _: None),
    "torch threads": lambda patch: torch.set_num_threads(1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_global_state_is_seen(name, monkeypatch, two_threads, global_seeds):
    before = global_state()
    CHANGES[name](monkeypatch)
    after = global_state()
    assert [entry for entry in before if before[entry] != after[entry]] == [name]


# Seeds and refits --------------------------------------------------------------------------------


def test_the_same_seed_twice_whatever_the_global_seeds(make_any, X, everything, global_seeds):
    first = everything(make_any().fit(X), X)
    global_seeds(99)
    assert_same(everything(make_any().fit(X), X), first)


def test_another_seed_is_another_network(make_net, X):
    fields = [make_net(random_state=seed).fit(X).score_samples(X) for seed in (0, 1)]
    assert np.abs(fields[0] - fields[1]).max() > 1e-3


def test_refitting_equals_a_fresh_fit(make_any, X, everything):
    estimator = make_any().fit(np.hstack([5 * X - 7, X]))
    estimator.fit(X)
    fresh = make_any().fit(X)
    assert_same(everything(estimator, X), everything(fresh, X))
    assert sorted(vars(estimator)) == sorted(vars(fresh))
    assert estimator.n_features_in_ == 3


def test_refitting_forgets_names_and_held_out_scores(make, X):
    pd = pytest.importorskip("pandas")
    estimator = make().fit(pd.DataFrame(X, columns=["a", "b", "c"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.fit(X).score_samples(X)
    assert not hasattr(estimator, "feature_names_in_")


BAD_FITS = {
    "NaN": lambda X: X * np.nan,
    "one row": lambda X: X[:1],
    "equal rows of another width": lambda X: np.ones((20, 5)),
    "too large": lambda X: np.hstack([X, X]) * 1e300,
    "too small": lambda X: X[:, :2] * 1e-300,
    "strings": lambda X: [["a", "b"]] * 9,
}


@pytest.mark.parametrize("case", BAD_FITS)
def test_a_refused_refit_leaves_the_old_model(make_any, X, case, everything):
    pd = pytest.importorskip("pandas")
    for rows in (X, pd.DataFrame(X, columns=["a", "b", "c"])):
        fitted = make_any().fit(rows)
        wanted, state = everything(fitted, rows), sorted(vars(fitted))
        with pytest.raises(ValueError, match=r"X|sample|string"):
            fitted.fit(BAD_FITS[case](X))
        assert_same(everything(fitted, rows), wanted)
        assert sorted(vars(fitted)) == state


def test_a_refused_first_fit_leaves_nothing(make_any, X):
    estimator = make_any()
    state = sorted(vars(estimator))
    for bad in BAD_FITS.values():
        with pytest.raises(ValueError, match=r"X|sample|string"):
            estimator.fit(bad(X))
        assert sorted(vars(estimator)) == state


def test_a_refit_that_fails_inside_leaves_the_old_model(make_net, X, everything):
    fitted = make_net().fit(X)
    wanted = everything(fitted, X)
    fitted.set_params(network=lambda n_features, n_outputs, *, generator: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fitted.fit(np.hstack([X, X[:, :1] ** 2]))
    assert_same(everything(fitted, X), wanted)


# Warm starts -------------------------------------------------------------------------------------


def test_a_warm_start_goes_on_and_needs_the_same_width(make_net, X, everything):
    fitted = make_net(warm_start=True).fit(X)
    wanted = everything(fitted, X)
    with pytest.raises(ValueError, match=r"X has 4 features, but .* expecting 3"):
        fitted.fit(np.hstack([X, X[:, :1] ** 2]))
    assert_same(everything(fitted, X), wanted)
    fitted.set_params(hidden_layer_sizes=(16, 8))
    with pytest.raises(ValueError, match=r"warm_start.*hidden_layer_sizes"):
        fitted.fit(X)
    assert_same(everything(fitted, X), wanted)
    fitted.set_params(hidden_layer_sizes=(16, 16), max_iter=1, learning_rate_init=1e-12).fit(X)
    np.testing.assert_allclose(fitted.score_samples(X), wanted[0], rtol=1e-5, atol=1e-5)


def test_a_warm_start_takes_columns_that_became_constant(make_net, X):
    fitted = make_net(warm_start=True).fit(X)
    with pytest.warns(DataWarning, match=r"Constant columns \[1\]"):
        fitted.fit(X * [1, 0, 1] + [0, 1, 0])
    assert np.isfinite(fitted.score_samples(X)).all()
    assert np.isfinite(fitted.score(X))


# Copies ------------------------------------------------------------------------------------------


def test_copies_are_equal_and_a_clone_is_unfitted(make_any, X, everything):
    fitted = make_any().fit(X)
    wanted = everything(fitted, X)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert_same(everything(pickle.loads(pickle.dumps(fitted, protocol)), X), wanted)
    twice = copy.deepcopy(pickle.loads(pickle.dumps(copy.deepcopy(fitted))))
    assert_same(everything(twice, X), wanted)
    twice.fit(2 * X + 1)  # a copy's fit is no concern of the original
    assert_same(everything(fitted, X), wanted)
    with pytest.raises(NotFittedError):
        check_is_fitted(clone(fitted))
    assert clone(fitted).get_params() == fitted.get_params()
    assert_same(everything(clone(fitted).fit(X), X), wanted)
    assert_same(everything(pickle.loads(pickle.dumps(make_any())).fit(X), X), wanted)


AFTERWARDS = {
    "kde": {"bandwidth": 0.1},
    "kde-cv": {"bandwidth": "scott"},
    "kde-number": {"bandwidth": "cv"},
    "exact": {"parametrization": "energy", "hidden_layer_sizes": (3,), "standardize": None},
    "energy": {"parametrization": "score", "activation": "tanh", "keep_rows": False},
}


@pytest.mark.parametrize("kind", AFTERWARDS)
def test_parameters_set_after_a_fit_do_not_change_the_model(make_kind, X, everything, kind):
    fitted = make_kind(kind).fit(X)
    wanted = everything(fitted, X)
    fitted.set_params(**AFTERWARDS[kind])
    assert_same(everything(fitted, X), wanted)
    assert_same(everything(pickle.loads(pickle.dumps(fitted)), X), wanted)
    assert_same(everything(copy.deepcopy(fitted), X), wanted)
