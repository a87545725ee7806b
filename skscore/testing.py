"""The contract of a score estimator that scikit-learn's checks cannot see.

scikit-learn's own checks never call ``sample``, and pass a ``score_samples`` that loses its weights
on pickling or depends on the other rows. Run both: ``check_estimator(est)`` and
``check_score_estimator(est)``.
"""

from __future__ import annotations

import copy
import os
import pickle
import random
import signal
import sys
import warnings
from collections.abc import Callable

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

__all__ = ["check_score_estimator", "score_estimator_checks"]

RTOL, ATOL = 1e-7, 1e-9  # of rows that were computed in other company


def _data(n_samples: int = 120, seed: int = 0) -> np.ndarray:
    """Draw Gaussian rows; the columns differ in scale, so that a mix-up of units is seen."""
    z = np.random.RandomState(seed).normal(size=(n_samples, 3))
    return z @ [[5.0, 1.0, 0.0], [0.0, 3.0, 0.5], [0.0, 0.0, 2.0]] + [1.0, -2.0, 30.0]


def _seeded(estimator):
    estimator = clone(estimator)
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    return estimator


def _fitted(estimator):
    return _seeded(estimator).fit(_data())


def check_field_is_a_finite_vector_per_row(estimator):
    """score_samples returns a finite float64 array of the shape of X."""
    X = _data(20, seed=1)
    field = _fitted(estimator).score_samples(X)
    assert isinstance(field, np.ndarray), f"score_samples returned {type(field)}"
    assert field.shape == X.shape, f"score_samples has shape {field.shape}, X {X.shape}"
    assert field.dtype == np.float64, f"score_samples has dtype {field.dtype}"
    assert np.isfinite(field).all(), "score_samples is not finite"


def check_field_points_to_the_data(estimator):
    """Stein's identity, E[s_j (x_j - m_j)] = -1, within a factor of three: sign, size, units."""
    X = _data(500)
    field = _seeded(estimator).fit(X).score_samples(X)
    inner = np.mean(field * (X - X.mean(axis=0)), axis=0)
    right = (inner > -3) & (inner < -1 / 3)
    assert right.all(), f"E[s_j (x_j - m_j)] is {inner}, and should be about -1 in each column"


def check_rows_are_independent(estimator):
    """score_samples gives a row the same field whatever rows are beside it, in any order."""
    X = _data(40, seed=1)
    fitted = _fitted(estimator)
    together = fitted.score_samples(X)
    alone = np.vstack([fitted.score_samples(row[None]) for row in X])
    np.testing.assert_allclose(alone, together, RTOL, ATOL)
    np.testing.assert_allclose(fitted.score_samples(X[::-1])[::-1], together, RTOL, ATOL)


def check_score_is_a_held_out_yardstick(estimator):
    """Score is a float, repeats itself, and is what differences of the field give."""
    fitted, X = _fitted(estimator), _data(200, seed=1)
    value = fitted.score(X)
    assert isinstance(value, float), f"score returned {type(value)}"
    assert value == fitted.score(X, None), "score differs between two calls"
    expected = _yardstick(fitted.score_samples, X, np.cov(_data().T, bias=True))
    assert abs(value - expected) < 1e-3 * (1 + abs(expected)), (
        f"score is {value:.6g}, and -mean[tr(S ds/dx) + s'Ss / 2] is {expected:.6g}"
    )
    shifted = X + 3 * X.std(axis=0)
    assert value > fitted.score(shifted), "score prefers rows shifted by three deviations"


def _yardstick(field: Callable, X: np.ndarray, S: np.ndarray) -> float:
    """Return ``-mean[tr(S J) + 1/2 s' S s]`` with J by central differences."""
    s = field(X)
    steps = np.diag(1e-5 * np.sqrt(np.diag(S)))
    columns = [(field(X + e) - field(X - e)) @ S[:, j] / (2 * e[j]) for j, e in enumerate(steps)]
    return -float(np.mean(np.sum(columns, axis=0) + 0.5 * np.sum(s @ S * s, axis=1)))


def check_sample_shape(estimator):
    """sample() returns one row; sample(n) n finite rows that lie where the data lie."""
    fitted = _fitted(estimator)
    assert fitted.sample().shape == (1, 3)
    drawn = fitted.sample(300, random_state=0)
    assert drawn.shape == (300, 3)
    X = _data()
    off = np.abs(np.median(drawn, axis=0) - np.median(X, axis=0)) / X.std(axis=0)
    assert (off < 1).all(), f"the samples' medians are {off} deviations from the data's"
    ratio = drawn.std(axis=0) / X.std(axis=0)
    assert ((ratio > 1 / 3) & (ratio < 3)).all(), (
        f"the samples' deviations are {ratio} of the data's"
    )


def check_sample_honours_random_state(estimator):
    """Sample repeats with an int and differs without; the constructor's seed has no part in it."""
    fitted = _fitted(estimator)
    first = fitted.sample(5, random_state=0)
    np.testing.assert_array_equal(first, fitted.sample(5, random_state=0))
    assert not np.array_equal(first, fitted.sample(5, random_state=1)), "sample ignores the seed"
    stream, again = (np.random.RandomState(1) for _ in range(2))
    drawn = fitted.sample(5, random_state=stream)
    same = fitted.sample(5, random_state=again)
    np.testing.assert_array_equal(drawn, same, "equal streams give other rows")
    assert not np.array_equal(drawn, fitted.sample(5, random_state=stream)), "a stream stands still"
    drawn = [fitted.sample(5) for _ in range(2)]
    assert not np.array_equal(*drawn), "two calls without random_state gave the same rows"


def check_sample_rows_are_independent(estimator):
    """Row i of a sample does not depend on how many are drawn."""
    fitted = _fitted(estimator)
    few, many = (fitted.sample(n, random_state=0) for n in (7, 300))
    np.testing.assert_allclose(few, many[:7], rtol=1e-4, atol=1e-6)
    assert len(np.unique(many, axis=0)) == len(many), "sample repeats rows"


def check_sample_refuses_bad_sizes(estimator):
    """n_samples of 0, -1, 2.5, "3" and None is a ValueError that names it."""
    fitted = _fitted(estimator)
    for bad in (0, -1, 2.5, "3", None):
        try:
            fitted.sample(bad)
        except ValueError as error:
            assert "n_samples" in str(error), f"n_samples={bad!r}: the message names no parameter"
        else:
            raise AssertionError(f"sample({bad!r}) was not refused")


def check_copies_keep_the_field(estimator):
    """Pickling and deepcopy keep field and samples to the bit; a clone is unfitted."""
    fitted, X = _fitted(estimator), _data(20, seed=1)
    field, drawn = fitted.score_samples(X), fitted.sample(5, random_state=0)
    for copied in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(copied.score_samples(X), field)
        np.testing.assert_array_equal(copied.sample(5, random_state=0), drawn)
    try:
        check_is_fitted(clone(fitted))
    except NotFittedError:
        return
    raise AssertionError("a clone is fitted")


def check_refit_forgets(estimator):
    """Fitting a second time equals a fresh fit to the bit."""
    if estimator.get_params().get("warm_start"):
        return
    X, other = _data(), 5 * _data(60, seed=3) - 4
    refitted = _seeded(estimator).fit(other).fit(X)
    np.testing.assert_array_equal(refitted.score_samples(X), _fitted(estimator).score_samples(X))


def check_refused_fit_leaves_no_half(estimator):
    """After a refused second fit the old model is intact, or there is none."""
    fitted, X = _fitted(estimator), _data(20, seed=1)
    before = fitted.score_samples(X)
    bad = np.full((30, 5), np.nan)
    try:
        fitted.fit(bad)
    except ValueError:
        pass
    else:
        raise AssertionError("NaN was not refused")
    try:
        check_is_fitted(fitted)
    except NotFittedError:
        return
    np.testing.assert_array_equal(fitted.score_samples(X), before)


def check_fit_keeps_parameters_and_data(estimator):
    """Fitting changes neither a constructor parameter nor X, which may be read-only."""
    X = _data()
    X.setflags(write=False)
    copied, estimator = X.copy(), _seeded(estimator)
    before = {name: repr(value) for name, value in estimator.get_params().items()}
    estimator.fit(X)
    after = {name: repr(value) for name, value in estimator.get_params().items()}
    assert before == after, "fit changed a constructor parameter"
    assert X.tobytes() == copied.tobytes(), "fit changed X"


def check_queries_do_not_change_state(estimator):
    """score_samples, score and sample leave estimator and query as they were, byte by byte."""
    fitted, X = _fitted(estimator), _data(20, seed=1)
    before, query = pickle.dumps(fitted), X.tobytes()
    fitted.score_samples(X)
    fitted.score(X)
    fitted.sample(3, random_state=0)
    assert pickle.dumps(fitted) == before, "a query changed the estimator"
    assert X.tobytes() == query, "a query changed its rows"


def check_bad_queries_are_refused(estimator):
    """Before a fit NotFittedError; then ValueError for NaN, infinity, 1-D rows or another width."""
    X = _data(20, seed=1)
    unfitted, fitted = clone(estimator), _fitted(estimator)
    for method, arguments in (("score_samples", (X,)), ("score", (X,)), ("sample", ())):
        _assert_raises(NotFittedError, getattr(unfitted, method), *arguments)
    with_nan, with_inf = X.copy(), X.copy()
    with_nan[3, 1], with_inf[3, 1] = np.nan, np.inf
    for bad in (with_nan, with_inf, X[0], X[:, :2], X[:0]):
        for method in ("score_samples", "score"):
            _assert_raises(ValueError, getattr(fitted, method), bad)


def _assert_raises(kind, call, *arguments):
    try:
        call(*arguments)
    except kind:
        return
    raise AssertionError(f"{call.__name__} was not refused with {kind.__name__}")


def check_column_names(estimator):
    """Columns of a DataFrame in another order or with other names are refused."""
    try:
        import pandas as pd
    except ImportError:
        return
    frame = pd.DataFrame(_data(), columns=["a", "b", "c"])
    fitted = _seeded(estimator).fit(frame)
    assert list(fitted.feature_names_in_) == ["a", "b", "c"]
    for wrong in (frame[["b", "a", "c"]], frame.rename(columns={"a": "z"})):
        try:
            fitted.score_samples(wrong)
        except ValueError as error:
            assert "feature names" in str(error)
        else:
            raise AssertionError("columns of another order or name were not refused")


def global_state() -> dict[str, object]:
    """Return what a library must leave as it was, as comparable values."""
    state: dict[str, object] = {
        "numpy random stream": pickle.dumps(np.random.get_state()),
        "python random stream": random.getstate(),
        "numpy error handling": np.geterr(),
        "warning filters": list(warnings.filters),
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "interrupt handler": signal.getsignal(signal.SIGINT),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        state |= {
            "torch random stream": torch.get_rng_state().numpy().tobytes(),
            "torch default dtype": torch.get_default_dtype(),
            "torch default device": str(torch.empty(0).device),
            "torch threads": torch.get_num_threads(),
            "torch grad mode": torch.is_grad_enabled(),
            "torch inference mode": torch.is_inference_mode_enabled(),
            "torch deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
            "torch matmul precision": torch.get_float32_matmul_precision(),
            "cudnn benchmark": torch.backends.cudnn.benchmark,
            "cudnn deterministic": torch.backends.cudnn.deterministic,
        }
    return state


def check_globals_are_left_alone(estimator):
    """With an int random_state, fitting, querying and sampling change nothing global."""
    X = _data()
    before = global_state()
    fitted = _fitted(estimator)
    fitted.score_samples(X)
    fitted.score(X)
    fitted.sample(3, random_state=0)
    after = global_state()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, f"changed: {', '.join(changed)}"


def score_estimator_checks() -> list[Callable]:
    """Return the checks, each a function of an unfitted estimator, to parametrise a test with."""
    return [
        check_globals_are_left_alone,  # first: a later fit may find them changed already
        check_field_is_a_finite_vector_per_row,
        check_field_points_to_the_data,
        check_rows_are_independent,
        check_score_is_a_held_out_yardstick,
        check_sample_shape,
        check_sample_honours_random_state,
        check_sample_rows_are_independent,
        check_sample_refuses_bad_sizes,
        check_copies_keep_the_field,
        check_refit_forgets,
        check_refused_fit_leaves_no_half,
        check_fit_keeps_parameters_and_data,
        check_queries_do_not_change_state,
        check_bad_queries_are_refused,
        check_column_names,
    ]


def check_score_estimator(estimator) -> None:
    """Check that an estimator keeps the contract of a score estimator.

    Parameters
    ----------
    estimator : estimator instance
        With `fit`, `score_samples`, `score` and `sample`; it is cloned, never changed. Make it a
        fast one: it is fitted some twenty times to 120 rows of three columns.

    Raises
    ------
    AssertionError
        Naming the check that failed.

    Examples
    --------
    >>> from skscore import KDEScoreBaseline
    >>> from skscore.testing import check_score_estimator
    >>> check_score_estimator(KDEScoreBaseline())
    """
    for check in score_estimator_checks():
        try:
            check(estimator)
        except Exception as error:
            what = str(error) if isinstance(error, AssertionError) else repr(error)
            raise AssertionError(f"{check.__name__}: {what}") from error
