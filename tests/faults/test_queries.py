"""Queries: refused when broken, exact when far, and each row on its own."""

import contextlib
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import skscore._autodiff
import skscore._torch
import skscore.kernel._gaussian

Q = np.random.RandomState(4).normal(size=(9, 3))

CALLS = {
    "score_samples": lambda fitted, rows: fitted.score_samples(rows),
    "score": lambda fitted, rows: fitted.score(rows),
    "score_details": lambda fitted, rows: fitted.score_details(rows),
    "energy": lambda fitted, rows: fitted.energy(rows),
    "log_density": lambda fitted, rows: fitted.log_density(rows),
}


def calls_of(estimator):
    return {name: call for name, call in CALLS.items() if hasattr(estimator, name)}


def test_nothing_works_before_a_fit(make_any, X):
    for estimator in (make_any(), clone(make_any().fit(X))):
        for call in calls_of(estimator).values():
            with pytest.raises(NotFittedError, match="not fitted yet"):
                call(estimator, Q)
        with pytest.raises(NotFittedError, match="not fitted yet"):
            estimator.sample()


@pytest.mark.parametrize("n_columns", [1, 2, 4])
def test_another_number_of_features_is_refused(make_any, X, n_columns):
    fitted = make_any().fit(X)
    for call in calls_of(fitted).values():
        with pytest.raises(ValueError, match=f"X has {n_columns} features, but .* expecting 3"):
            call(fitted, np.ones((5, n_columns)))


REFUSED = {
    "NaN": (np.where(Q > 2, np.nan, Q) * [np.nan, 1, 1], ValueError, "NaN"),
    "infinity": (Q * [1, np.inf, 1], ValueError, "infinity"),
    "1-D": (Q[0], ValueError, "2D"),
    "3-D": (Q[None], ValueError, "dim"),
    "no rows": (Q[:0], ValueError, "0 sample"),
    "strings": ([["a", "b", "c"]], ValueError, "string"),
    "complex": (Q + 1j, ValueError, "[Cc]omplex"),
    "sparse": (sparse.csr_matrix(Q), TypeError, "[Ss]parse.*dense"),
    "None": (None, (ValueError, TypeError), "2D|None"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_queries_that_are_refused(make_any, X, case):
    rows, error, message = REFUSED[case]
    fitted = make_any().fit(X)
    for call in calls_of(fitted).values():
        with pytest.raises(error, match=message):
            call(fitted, rows)


def test_columns_of_another_order_or_name_are_refused(make_any, X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    fitted = make_any().fit(frame)
    for wrong in (frame[["b", "a", "c"]], frame.rename(columns={"a": "z"})):
        for call in calls_of(fitted).values():
            with pytest.raises(ValueError, match="feature names"):
                call(fitted, wrong)
    field = fitted.score_samples(frame)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        np.testing.assert_array_equal(fitted.score_samples(X), field)


# Far away ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("far", [1e3, 1e6, 1e12, 1e100, 1e150, 1e160, 1e300, 1.7e308])
def test_a_far_query_has_a_finite_field_or_is_refused(make_any, X, attempt, far):
    fitted = make_any().fit(X)
    for rows in (np.full((2, 3), far), [[far, -far, 0.0], [0.0, 1.0, -far]]):
        for name, call in calls_of(fitted).items():
            with np.errstate(all="ignore"):
                value, error = attempt(ValueError, call, fitted, rows)
            if error is not None:
                assert "large" in str(error), f"{name}: {error}"
            elif name == "score_samples":
                assert np.isfinite(value).all()
            elif name != "score_details":  # minus infinity is a log density's limit, NaN is not
                log_p = -value if name == "energy" else value
                assert np.all(log_p < np.inf), f"{name} is {value}"


def kernel_score(centres, x, h):
    """Return the score by the definition, in differences and with a shifted exponent."""
    difference = centres - x
    exponent = -(difference**2).sum(axis=1) / (2 * h**2)
    w = np.exp(exponent - exponent.max())
    return (w / w.sum()) @ difference / h**2


@pytest.mark.parametrize("h", [0.5, 1e-3, 1e-6])
@pytest.mark.parametrize("bandwidths", [0.1, 1, 10, 58, 580, 1e6, 1e12])
def test_a_kernel_estimate_points_to_the_nearest_row(make_kind, X, h, bandwidths):
    fitted = make_kind("kde-number", bandwidth=h).fit(X)
    for direction in ([1.0, 0.0, 0.0], [0.6, 0.0, -0.8]):
        x = X[5] + bandwidths * h * np.asarray(direction)
        wanted = kernel_score(X, x, h)
        error = np.abs(fitted.score_samples(x[None])[0] - wanted).max()
        assert error < 1e-3 * np.abs(wanted).max()


@pytest.mark.parametrize("rule", ["kde", "kde-silverman", "kde-cv"])
def test_a_kernel_estimate_a_million_deviations_away(make_kind, X, rule):
    x = X.mean(axis=0) + 1e6 * X.std(axis=0) * [1, -1, 1]
    fitted = make_kind(rule).fit(X)
    # The kernel has the covariance h^2 S; the nearest row in its metric takes all the weight.
    L = np.linalg.cholesky(np.linalg.inv(np.cov(X.T, bias=True)))
    wanted = kernel_score(X @ L, x @ L, fitted.bandwidth_) @ L.T
    np.testing.assert_allclose(fitted.score_samples(x[None])[0], wanted, rtol=1e-3)


@pytest.mark.parametrize("apart", [1e4, 1e6, 1e8, 1e10])
def test_a_kernel_estimate_of_two_groups_far_apart(make_kind, X, apart):
    rows = np.vstack([X, X + apart])
    fitted = make_kind("kde-number").fit(rows)
    queries = rows[[0, 30, 60, 90]] + 0.25
    wanted = np.array([kernel_score(rows, x, 0.5) for x in queries])
    np.testing.assert_allclose(fitted.score_samples(queries), wanted, rtol=1e-3, atol=1e-3)


# Each row on its own -----------------------------------------------------------------------------


def test_a_row_does_not_depend_on_the_others(make_any, X):
    fitted = make_any().fit(X)
    rows = np.vstack([Q, 1e3 * Q, X])
    for name, call in calls_of(fitted).items():
        if name.startswith("score_d") or name == "score":
            continue
        together = call(fitted, rows)
        alone = np.concatenate([call(fitted, rows[i : i + 1]) for i in range(len(rows))])
        np.testing.assert_allclose(alone, together, rtol=1e-7, atol=1e-9)
        halves = np.concatenate([call(fitted, rows[:31]), call(fitted, rows[31:])])
        np.testing.assert_allclose(halves, together, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("n_bytes", [1, 3000, 20000])
def test_chunks_do_not_change_the_result(make_any, X, draw, monkeypatch, n_bytes):
    fitted = make_any().fit(X)
    wanted = {name: call(fitted, X) for name, call in calls_of(fitted).items()}
    drawn = draw(fitted, 30)
    monkeypatch.setattr(skscore._torch, "CHUNK_BYTES", n_bytes)
    monkeypatch.setattr(skscore._autodiff, "TANGENT_BYTES", n_bytes)
    monkeypatch.setattr(skscore.kernel._gaussian, "LOGIT_BYTES", n_bytes)
    for name, call in calls_of(fitted).items():
        if name == "score_details":
            continue
        np.testing.assert_allclose(call(fitted, X), wanted[name], rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(draw(fitted, 30), drawn)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ">f8", int])
def test_queries_of_another_dtype_equal_their_float64(make_any, X, dtype):
    fitted, rows = make_any().fit(X), (4 * Q).astype(dtype)
    field = fitted.score_samples(rows)
    assert field.dtype == np.float64
    np.testing.assert_array_equal(field, fitted.score_samples(rows.astype(np.float64)))


# Whatever the caller has set ---------------------------------------------------------------------


@contextlib.contextmanager
def default(setter, value, before):
    setter(value)
    try:
        yield
    finally:
        setter(before)


@contextlib.contextmanager
def warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


SETTINGS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "enable_grad": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default dtype": lambda: default(torch.set_default_dtype, torch.float64, torch.float32),
    "half dtype": lambda: default(torch.set_default_dtype, torch.float16, torch.float32),
    "default device": lambda: default(torch.set_default_device, "meta", None),
    "device context": lambda: torch.device("meta"),
    "deterministic": lambda: default(torch.use_deterministic_algorithms, True, False),
    "numpy raises": lambda: np.errstate(all="raise"),
    "warnings are errors": warnings_as_errors,
}


@pytest.mark.parametrize("kind", ["kde", "sliced", "exact", "energy"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_callers_settings_do_not_matter(make_kind, X, draw, setting, kind):
    def make():
        return make_kind(kind)

    def run():
        fitted = make().fit(X)
        values = [call(fitted, X) for name, call in calls_of(fitted).items()]
        return [*values, draw(fitted, 5), clone(fitted).fit(X).score(X)]

    wanted, fitted = run(), make().fit(X)
    with SETTINGS[setting]():
        inside = run()
        queried = fitted.score_samples(X)
    for value, other in zip(wanted, inside, strict=True):
        np.testing.assert_array_equal(np.asarray(value), np.asarray(other))
    np.testing.assert_array_equal(queried, fitted.score_samples(X))
    made = make()
    with SETTINGS[setting]():
        made.fit(X)
    np.testing.assert_array_equal(made.score_samples(X), queried)
