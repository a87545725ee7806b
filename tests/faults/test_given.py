"""Values that are given to `sample`: refused when broken, and they come back bit by bit."""

import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skscore.exceptions import DataWarning, DivergenceError

NAN, INF = float("nan"), float("inf")
FEW = {"n_steps": 4, "random_state": 0}
COLUMNS = ["a", "b", "c"]


@pytest.fixture
def fitted(make_kind, X):
    return make_kind("denoising").fit(X)


@pytest.fixture
def named(make_kind, X):
    return make_kind("denoising").fit(pd.DataFrame(X, columns=COLUMNS))


SHAPES = [(), (0,), (2,), (4,), (4, 2), (3, 3), (5, 3), (1, 3), (4, 4), (1, 4, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_another_shape_is_refused(fitted, shape):
    wanted = rf"given has shape {re.escape(str(shape))}.*\(3,\) or \(4, 3\)"
    with pytest.raises(ValueError, match=wanted):
        fitted.sample(4, given=np.ones(shape), **FEW)


BROKEN = [
    ([INF, NAN, NAN], "infinite"),
    ([NAN, NAN, -INF], "infinite"),
    ("abc", "array of numbers.*'abc'"),
    ([["a", "b", "c"]] * 4, "array of numbers"),
    ([[1, 2], [3]], "array of numbers"),
    ([1j, NAN, NAN], "given"),
    (object(), "array of numbers"),
]


@pytest.mark.parametrize(("given", "message"), BROKEN, ids=[str(m) for _, m in BROKEN])
def test_values_that_are_no_finite_numbers_are_refused(fitted, given, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((ValueError, TypeError), match=message):
            fitted.sample(4, given=given, **FEW)


@pytest.mark.parametrize("value", [NAN, INF, -INF, "1", None, True, [1.0], 1j, 10**400])
def test_a_bad_value_in_a_dictionary_is_named_with_its_column(named, value):
    with pytest.raises(ValueError, match=r"given\['b'\]=.* must be a finite number"):
        named.sample(4, given={"a": 1.0, "b": value}, **FEW)


@pytest.mark.parametrize("key", ["z", "A", 0, 3, None, ("a",)], ids=repr)
def test_an_unknown_column_in_a_dictionary_is_named_with_the_known(named, key):
    with pytest.raises(ValueError, match=rf"given names {re.escape(repr(key))}.*'a', 'b', 'c'"):
        named.sample(4, given={"a": 1.0, key: 1.0}, **FEW)


@pytest.mark.parametrize("key", ["a", 3, -1])
def test_without_names_the_columns_are_numbers(fitted, key):
    with pytest.raises(ValueError, match=rf"given names {key!r}.*0, 1, 2"):
        fitted.sample(4, given={key: 1.0}, **FEW)
    drawn = fitted.sample(4, given={0: 1.5, np.int64(2): np.float32(0.1)}, **FEW)
    np.testing.assert_array_equal(drawn[:, [0, 2]], [[1.5, np.float32(0.1)]] * 4)
    np.testing.assert_array_equal(drawn, fitted.sample(4, given=[1.5, NAN, np.float32(0.1)], **FEW))


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_are_checked_by_name(named, X, frame):
    rows = np.where(np.arange(12).reshape(4, 3) % 2, X[:4], NAN)
    table = frame({name: rows[:, j] for j, name in enumerate(COLUMNS)})
    drawn = named.sample(4, given=table, **FEW)
    np.testing.assert_array_equal(drawn, named.sample(4, given=rows, **FEW))
    wrong = [
        table[["b", "a", "c"]],
        table[["a", "b"]],
        frame({"a": rows[:, 0], "b": rows[:, 1], "z": rows[:, 2]}),
    ]
    for other in wrong:
        with pytest.raises(ValueError, match=r"feature names|Feature names"):
            named.sample(4, given=other, **FEW)
    infinite = frame({name: np.full(4, INF) for name in COLUMNS})
    with pytest.raises(ValueError, match="infinit"):
        named.sample(4, given=infinite, **FEW)


def test_the_caller_keeps_its_values(named, X):
    rows = np.where(np.arange(12).reshape(4, 3) % 2, X[:4], NAN)
    rows.setflags(write=False)
    before, known = rows.tobytes(), {"a": 1.0}
    drawn = named.sample(4, given=rows, **FEW)
    named.sample(4, given=known, **FEW)
    assert rows.tobytes() == before
    assert known == {"a": 1.0}
    drawn[:] = 0.0  # the rows are the caller's
    assert rows.tobytes() == before


# Values come back ---------------------------------------------------------------------------------


def wide_rows(X):
    """Return rows with a constant and a collinear column, off any grid."""
    X = X * np.pi
    return np.column_stack([X, np.full(len(X), 0.1), X @ [1.0, -1.0, 2.0]])


PATTERNS = {
    "none": np.zeros((60, 5), dtype=bool),
    "all": np.ones((60, 5), dtype=bool),
    "the first": np.arange(5)[None].repeat(60, axis=0) == 0,
    "the constant": np.arange(5)[None].repeat(60, axis=0) == 3,
    "all but the collinear": np.arange(5)[None].repeat(60, axis=0) != 4,
    "each row's own": np.random.RandomState(1).uniform(size=(60, 5)) < 0.5,
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("standardize", ["full", "diag", None])
@pytest.mark.parametrize("unit", [1.0, np.array([1e-6, 1.0, 1e6, 1.0, 1e3])], ids=["1", "mixed"])
def test_known_values_come_back_bit_by_bit(make_kind, X, standardize, pattern, unit):
    W = wide_rows(X) * unit
    if standardize is None and np.ndim(unit):
        pytest.skip("one unit for all columns")
    with pytest.warns(DataWarning, match="Constant columns"):
        fitted = make_kind("denoising", standardize=standardize, max_iter=2).fit(W)
    known = PATTERNS[pattern]
    given = np.where(known, W[::-1], NAN)
    drawn = fitted.sample(60, given=given, **FEW)
    assert drawn[known].tobytes() == given[known].tobytes()
    assert np.isfinite(drawn).all()
    assert (drawn[:, 3] == W[0, 3]).all()
    span = drawn[:, :3] / (unit if np.ndim(unit) == 0 else unit[:3])
    last = drawn[:, 4] / (unit if np.ndim(unit) == 0 else unit[4])
    np.testing.assert_allclose(span @ [1.0, -1.0, 2.0], last, atol=1e-4 * np.abs(last).max())
    if pattern not in ("all", "all but the collinear"):
        assert len(np.unique(drawn, axis=0)) == 60


def test_one_row_of_values_is_that_row_for_all(fitted):
    row = np.array([0.3, NAN, -1.7])
    one = fitted.sample(300, given=row, **FEW)
    np.testing.assert_array_equal(one, fitted.sample(300, given=np.tile(row, (300, 1)), **FEW))
    assert (one[:, [0, 2]] == row[[0, 2]]).all()
    assert len(np.unique(one[:, 1])) == 300
    np.testing.assert_allclose(one[:257], fitted.sample(257, given=row, **FEW), rtol=1e-4)


def test_rows_of_several_blocks_keep_their_own_values(fitted, X):
    """Blocks of 256 rows, the last one filled up."""
    values = np.arange(600.0) / 600 + np.pi
    given = np.column_stack([np.full(600, NAN), values, np.full(600, NAN)])
    given[::7, 1] = NAN
    drawn = fitted.sample(600, given=given, **FEW)
    known = ~np.isnan(given)
    np.testing.assert_array_equal(drawn[known], given[known])
    assert np.isfinite(drawn).all()


def test_the_rest_follows_the_values(make_kind):
    """A pair with correlation 0.9, and a third column alone: what a wrong projection would miss."""
    random = np.random.RandomState(0)
    z = random.normal(size=(400, 3))
    rows = np.column_stack([z[:, 0], 0.9 * z[:, 0] + 0.19**0.5 * z[:, 1], z[:, 2]])
    for standardize in ("full", "diag"):
        # The learnt residual is none: the conditional law is that of a Gaussian.
        fitted = make_kind(
            "denoising",
            standardize=standardize,
            max_iter=1,
            learning_rate_init=1e-12,
            sigma_min=0.1,
        ).fit(rows)
        drawn = fitted.sample(512, given={0: 2.0}, random_state=0)
        S, m = np.cov(rows.T, bias=True), rows.mean(axis=0)
        wanted = m[1] + S[1, 0] / S[0, 0] * (2.0 - m[0])
        deviation = (S[1, 1] - S[1, 0] ** 2 / S[0, 0]) ** 0.5
        assert drawn[:, 1].mean() == pytest.approx(wanted, abs=5 * deviation / 512**0.5 + 0.02)
        assert drawn[:, 1].std() == pytest.approx(deviation, rel=0.2)
        assert abs(drawn[:, 2].mean() - m[2]) < 0.3
        assert drawn[:, 2].std() == pytest.approx(rows[:, 2].std(), rel=0.2)


# With other keywords ------------------------------------------------------------------------------


def test_only_predictor_and_corrector_takes_values(make_kind, fitted, X):
    row = [1.0, NAN, NAN]
    drawn = fitted.sample(4, given=row, **FEW)
    again = fitted.sample(4, given=row, sampler="predictor_corrector", **FEW)
    np.testing.assert_array_equal(drawn, again)
    others = set(fitted._samplers) - {"predictor_corrector"}
    assert len(others) >= 6
    for sampler in others:
        with pytest.raises(TypeError, match=rf"'given', which sampler='{sampler}' does not take"):
            fitted.sample(4, given=row, sampler=sampler, **FEW)
    one = make_kind("one-level").fit(X)
    for sampler in ("auto", "langevin"):
        with pytest.raises(TypeError, match="'given'"):
            one.sample(4, given=row, sampler=sampler)
    with pytest.raises(TypeError, match="'given'"):
        make_kind("kde").fit(X).sample(4, given=row)


def test_values_with_a_callback_and_a_start(fitted, X):
    given, seen = np.where(np.arange(3) == 1, X[:4], NAN), []
    start = X[4:8] * 3
    drawn = fitted.sample(
        4, given=given, init=start, callback=lambda *step: seen.append(step), **FEW
    )
    assert [step for step, _, _ in seen] == [1, 2, 3, 4]
    assert all(which == slice(0, 4) and rows.shape == (4, 3) for _, which, rows in seen)
    np.testing.assert_allclose(seen[-1][2], drawn, atol=1e-4)
    np.testing.assert_array_equal(drawn[:, 1], X[:4, 1])
    other = fitted.sample(4, given=given, init=-start, **FEW)
    assert np.abs(other - drawn).max() > 0


@pytest.mark.parametrize("far", [1e3, 1e8, 1e30, 1e300])
def test_a_value_far_away_is_kept_or_refused(fitted, attempt, far):
    drawn, error = attempt(
        (DivergenceError, ValueError), lambda: fitted.sample(4, given=[far, NAN, NAN], **FEW)
    )
    if error is None:
        assert (drawn[:, 0] == far).all()
        assert np.isfinite(drawn).all()
        assert np.abs(drawn).max() <= far
    else:
        assert "given" in str(error), "the cause is not named"


@pytest.mark.parametrize("step_size", [3.0, 1e2, 1e6])
def test_a_step_that_explodes_beside_values(fitted, attempt, step_size):
    drawn, error = attempt(
        DivergenceError,
        lambda: fitted.sample(
            20, given=[1.0, NAN, NAN], step_size=step_size, n_steps=30, random_state=0
        ),
    )
    assert error is not None or np.abs(drawn).max() < 100, "rows that are nowhere, without a word"
    assert error is None or "step_size" in str(error)
