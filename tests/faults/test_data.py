"""Training rows that are broken, degenerate, or merely unusual."""

import warnings

import numpy as np
import pytest
from scipy import sparse

from skscore import SlicedScoreEstimator
from skscore.exceptions import DataWarning, DegenerateDataError, DivergenceError

ROWS = np.random.RandomState(1).normal(size=(40, 3))


def put(value):
    X = ROWS.copy()
    X[7, 1] = value
    return X


REFUSED = {
    "NaN": (put(np.nan), ValueError, "NaN"),
    "+inf": (put(np.inf), ValueError, "infinity"),
    "-inf": (put(-np.inf), ValueError, "infinity"),
    "a column of NaN": (np.c_[ROWS, np.full(40, np.nan)], ValueError, "NaN"),
    "no rows": (ROWS[:0], ValueError, "0 sample"),
    "no columns": (ROWS[:, :0], ValueError, "0 feature"),
    "1-D": (ROWS[0], ValueError, "2D"),
    "3-D": (ROWS[None], ValueError, "dim"),
    "strings": (np.array([["a", "b"]] * 9), ValueError, "string"),
    "object with None": (np.array([[1, None], [2, 3.0]] * 9, dtype=object), ValueError, "NaN"),
    "complex": (ROWS + 1j, ValueError, "[Cc]omplex"),
    "None": (None, (ValueError, TypeError), "2D|None"),
    "ragged": ([[1, 2], [3], [4, 5]], ValueError, "inhomogeneous"),
    "dicts": ([[{}, {}]] * 9, (ValueError, TypeError), "dict"),
    "sparse": (sparse.csr_matrix(ROWS), TypeError, "[Ss]parse.*dense"),
    "all 1e300": (ROWS * 1e300, ValueError, "too large: column 0.*[Rr]escale"),
    "one 1e300": (put(1e300), ValueError, "too large: column 1.*[Rr]escale"),
    "a column 1e-310": (ROWS * [1, 1, 1e-310], ValueError, "too small: column 2.*[Rr]escale"),
    "1 row": (ROWS[:1], ValueError, "1 sample.*minimum of 2"),
    "2 equal rows": (ROWS[[0, 0]], DegenerateDataError, "zero variance.*2 rows are equal"),
    "all rows equal": (ROWS[[0] * 40], DegenerateDataError, "zero variance.*40 rows are equal"),
    "all rows equal 0.1": (np.full((30, 2), 0.1), DegenerateDataError, "zero variance"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_are_refused(make, case):
    X, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        make().fit(X)


@pytest.mark.parametrize("case", ["1e150", "-1e200", "1.7e308", "4e-320"])
def test_one_extreme_value_is_refused_or_the_field_is_finite(make_any, attempt, case):
    fitted, error = attempt(ValueError, make_any().fit, put(float(case)))
    if error is None:
        assert np.isfinite(fitted.score_samples(ROWS)).all()
    else:
        assert "X is too" in str(error)


def test_numbers_as_strings_are_refused_or_read_as_numbers(make, X, attempt):
    fitted, _ = attempt((TypeError, ValueError), make().fit, X.astype(str))
    if fitted is not None:
        np.testing.assert_array_equal(fitted.score_samples(X), make().fit(X).score_samples(X))


def test_the_small_networks_are_no_longer_gaussians(make_net, X):
    fitted = make_net().fit(X)
    gaussian = -(X - fitted.location_) @ np.linalg.inv(fitted.covariance_)
    assert np.abs(fitted.score_samples(X) - gaussian).max() > 0.05


# Degenerate, but not refused ---------------------------------------------------------------------


@pytest.mark.parametrize("distinct", [2, 3, 19])
def test_few_distinct_values_are_named_and_the_field_is_finite(make_net, X, distinct):
    X = np.repeat(X, 3, axis=0)
    X[:, 1] = np.arange(len(X)) % distinct
    with pytest.warns(DataWarning, match=r"Columns \[1\].*few distinct.*no density.*sigma=0\.1"):
        fitted = make_net().fit(X)
    assert np.isfinite(fitted.score_samples(X)).all()


def test_many_distinct_values_are_not_warned_of(make_any, X):
    X = np.repeat(X, 3, axis=0)
    X[:, 1] = np.arange(len(X)) % 36  # five rows to a value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_any().fit(X)


@pytest.mark.parametrize("n_distinct", [2, 3])
def test_a_few_rows_many_times_give_a_finite_field(make_any, X, draw, n_distinct):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        fitted = make_any().fit(X[np.arange(60) % n_distinct])
    assert np.isfinite(fitted.score_samples(X)).all()
    assert np.isfinite(draw(fitted, 5)).all()


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e12, 1e-200])
def test_a_constant_column_is_named_fixed_and_no_part_of_the_fit(make_any, X, draw, constant):
    wide = np.insert(X, 1, constant, axis=1)
    with pytest.warns(DataWarning, match=r"Constant columns \[1\] have no density"):
        fitted = make_any().fit(wide)
    alone = make_any().fit(X)
    Q = wide + np.array([0.1, 2.0, -0.3, 0.2])
    field = fitted.score_samples(Q)
    np.testing.assert_allclose(field[:, 1], -(Q[:, 1] - constant), rtol=1e-12)
    rest = [0, 2, 3]
    np.testing.assert_allclose(field[:, rest], alone.score_samples(Q[:, rest]), rtol=1e-9)
    assert fitted.score(Q) == pytest.approx(alone.score(Q[:, rest]), rel=1e-9)
    assert (draw(fitted, 5)[:, 1] == constant).all()


def test_a_constant_column_is_named_by_its_name(make, X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(b=4.0)
    with pytest.warns(DataWarning, match=r"\['b'\]"):
        make().fit(frame)


def test_a_column_that_differs_by_rounding_alone_is_constant(make_any, X):
    rounding = np.where(np.arange(60) % 2, 0.3, 0.1 + 0.2)
    with pytest.warns(DataWarning, match=r"Constant columns \[3\]"):
        field = make_any().fit(np.c_[X, rounding]).score_samples(np.c_[X, rounding])
    assert np.abs(field[:, 3]).max() < 1e-12


MIX = np.array([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, -2.0]])


def test_collinear_columns_have_the_score_of_their_span(make_kind, X):
    # log p(x) = log q(x MIX): the chain rule gives s_p(x) = s_q(x MIX) MIX'.
    for name in ("kde", "kde-silverman", "kde-cv"):
        whole = make_kind(name).fit(X @ MIX)
        plain = make_kind(name).fit(X).score_samples(X)
        np.testing.assert_allclose(whole.score_samples(X @ MIX) @ MIX.T, plain, atol=1e-6)


def test_collinear_columns_are_the_gaussian_of_their_span(make_net, X):
    untrained = make_net(max_iter=1, learning_rate_init=1e-12)
    field = untrained.fit(X @ MIX).score_samples(X @ MIX)
    gaussian = -(X - X.mean(axis=0)) @ np.linalg.inv(np.cov(X.T, bias=True))
    np.testing.assert_allclose(field @ MIX.T, gaussian, atol=1e-4)


def test_collinear_columns_are_finite_and_sampled_in_their_span(make_any, X, draw):
    fitted = make_any().fit(X @ MIX)
    assert np.isfinite(fitted.score_samples(X @ MIX + 1.0)).all()
    assert np.isfinite(fitted.score(X @ MIX))
    drawn = draw(fitted, 50)
    if make_any.kind != "kde-number":  # whose kernel is in the units of X, round in all columns
        np.testing.assert_allclose(drawn, drawn[:, :3] @ MIX, atol=1e-8)


def test_fewer_rows_than_columns(make_any, draw):
    random = np.random.RandomState(2)
    X = random.normal(size=(5, 50))
    fitted = make_any().fit(X)
    assert np.isfinite(fitted.score_samples(random.normal(size=(7, 50)))).all()
    assert np.isfinite(fitted.score(X))
    assert np.isfinite(draw(fitted, 7)).all()


def test_cauchy_tails(make_any, draw, attempt):
    X = np.random.RandomState(3).standard_cauchy(size=(300, 3))
    fitted, error = attempt(DivergenceError, make_any().fit, X)
    if error is not None:
        assert "diverged at step" in str(error)
        return
    assert np.isfinite(fitted.score_samples(X)).all()
    assert np.isfinite(fitted.score(X))
    assert np.isfinite(draw(fitted, 20)).all()


@pytest.mark.parametrize("dtype", [int, bool, np.int8, np.uint8])
def test_whole_numbers_equal_their_floats(make_any, X, dtype):
    X = (X > 0 if dtype is bool else np.round(5 * X)).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        fitted, floats = make_any().fit(X), make_any().fit(X.astype(float))
    np.testing.assert_array_equal(fitted.score_samples(X), floats.score_samples(X.astype(float)))


def test_what_leaves_float32_is_one_error_and_no_warning():
    est = SlicedScoreEstimator(standardize=None, max_iter=1, random_state=0, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DivergenceError, match="finite numbers"):
            est.fit(ROWS * 1e100)
