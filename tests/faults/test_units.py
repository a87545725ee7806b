"""Scales, offsets, dtypes and layouts of the training rows: none may change what is learnt."""

import numpy as np
import pytest

SCALES = {
    "1e-12": 1e-12,
    "1e-6": 1e-6,
    "1e6": 1e6,
    "1e12": 1e12,
    "1e100": 1e100,
    "1e-100": 1e-100,
    "mixed": np.array([1e-4, 1.0, 1e4]),
    "very mixed": np.array([1e-12, 1.0, 1e12]),
}


def tolerance(kind):
    return 1e-6 if kind.startswith("kde") else 1e-3


def scaled(make, c):
    """Make the estimator whose parameters have the units of c X."""
    return make(bandwidth=0.5 * c) if make.kind == "kde-number" else make()


@pytest.mark.parametrize("case", SCALES)
def test_the_field_has_the_inverse_units_of_the_data(make_any, X, draw, attempt, case):
    c = SCALES[case]
    if make_any.kind == "kde-number" and np.ndim(c):
        pytest.skip("one number cannot have the units of several columns")
    plain = make_any().fit(X)
    other, error = attempt(ValueError, scaled(make_any, c).fit, c * X)
    if error is not None:  # a number of such a size may be refused
        assert make_any.kind == "kde-number"
        assert case.endswith("100")
        assert "bandwidth" in str(error)
        return
    field = plain.score_samples(X)
    error = np.abs(c * other.score_samples(c * X) - field).max() / np.abs(field).max()
    assert error < tolerance(make_any.kind)
    assert other.score(c * X) == pytest.approx(plain.score(X), rel=tolerance(make_any.kind))
    drawn, wanted = draw(other, 50) / c, draw(plain, 50)
    np.testing.assert_allclose(drawn, wanted, atol=2e-3)


@pytest.mark.parametrize("case", ["1e-12", "1e12", "mixed"])
def test_column_by_column_standardising_has_no_units_either(make_net, X, case):
    c = SCALES[case]
    plain = make_net(standardize="diag").fit(X).score_samples(X)
    other = make_net(standardize="diag").fit(c * X).score_samples(c * X)
    assert np.abs(c * other - plain).max() < 1e-3 * np.abs(plain).max()


@pytest.mark.parametrize("standardize", ["full", "diag", None])
def test_a_large_offset_costs_a_network_nothing(make_net, X, draw, standardize):
    # Float32 has a spacing of 8 at 1e8: the mean must leave the rows before that cast.
    assert ((X + 1e8) - 1e8 == X).all()
    plain, moved = (make_net(standardize=standardize).fit(rows) for rows in (X, X + 1e8))
    _compare(plain, moved, X, draw, 1e-3)


def test_a_large_offset_costs_a_kernel_estimate_nothing(make_kde, X, draw):
    _compare(make_kde().fit(X), make_kde().fit(X + 1e8), X, draw, 1e-6)


def _compare(plain, moved, X, draw, tolerance):
    field = plain.score_samples(X)
    error = np.abs(moved.score_samples(X + 1e8) - field).max()
    assert error < tolerance * np.abs(field).max()
    assert moved.score(X + 1e8) == pytest.approx(plain.score(X), rel=tolerance)
    off = draw(moved, 30) - 1e8 - draw(plain, 30)
    assert np.abs(off).max() < 1e-2


def reverse(X):
    return X[::-1, ::-1].copy()[::-1, ::-1]


def object_numbers(X):
    return X.astype(object)


def pandas_frame(X):
    return pytest.importorskip("pandas").DataFrame(X)


def polars_frame(X):
    return pytest.importorskip("polars").DataFrame(X, schema=["a", "b", "c"])


def nullable_frame(X):
    return pandas_frame(X).astype("Float64")


def torch_tensor(X):
    return pytest.importorskip("torch").tensor(X)


LAYOUTS = {
    "F-order": np.asfortranarray,
    "big-endian": lambda X: X.astype(">f8"),
    "negative strides": reverse,
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "list of lists": np.ndarray.tolist,
    "tuple of arrays": tuple,
    "object numbers": object_numbers,
    "pandas": pandas_frame,
    "pandas, nullable": nullable_frame,
    "polars": polars_frame,
    "torch": torch_tensor,
    "list of rows": list,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_does_not_matter(make, X, layout):
    plain, other = make().fit(X), LAYOUTS[layout](X)
    wanted = plain.score_samples(X)
    np.testing.assert_allclose(make().fit(other).score_samples(other), wanted, rtol=1e-7)
    assert make().fit(other).score(other) == pytest.approx(plain.score(X), rel=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ">f4", np.longdouble])
def test_other_floats_equal_their_float64(make_any, X, dtype):
    other = X.astype(dtype)
    cast = other.astype(np.float64)
    field = make_any().fit(other).score_samples(other)
    assert field.dtype == np.float64
    np.testing.assert_array_equal(field, make_any().fit(cast).score_samples(cast))


def test_float32_rows_are_within_their_rounding(make_any, X):
    X = X + R_OFF  # off the grid, so that the cast does round
    wanted = make_any().fit(X).score_samples(X)
    field = make_any().fit(X.astype(np.float32)).score_samples(X.astype(np.float32))
    assert np.abs(field - wanted).max() < 1e-3 * np.abs(wanted).max()


R_OFF = np.random.RandomState(2).uniform(0, 1e-5, size=(60, 3))


@pytest.mark.parametrize("kind", ["own", "read-only", "memmap", "read-only memmap"])
def test_rows_are_neither_changed_nor_shared(make_any, X, draw, kind, tmp_path):
    rows = X.copy()
    if "memmap" in kind:
        X.tofile(tmp_path / "rows")
        mode = "r" if "read-only" in kind else "r+"
        rows = np.memmap(tmp_path / "rows", dtype=np.float64, mode=mode, shape=X.shape)
    elif kind == "read-only":
        rows.setflags(write=False)
    fitted = make_any().fit(rows)
    field, value = fitted.score_samples(rows), fitted.score(rows)
    if hasattr(fitted, "energy"):
        fitted.energy(rows)
    if make_any.kind in ("sliced", "exact", "energy"):
        fitted.sample(60, init=rows, n_steps=2)
    assert rows.tobytes() == X.tobytes()
    np.testing.assert_array_equal(field, make_any().fit(X).score_samples(X))
    if rows.flags.writeable:  # what the caller does with the rows later is not the model's concern
        drawn = draw(fitted, 20)
        rows[:] = 0.0
        np.testing.assert_array_equal(fitted.score_samples(X), field)
        assert fitted.score(X) == value
        np.testing.assert_array_equal(draw(fitted, 20), drawn)


@pytest.mark.parametrize("y", [np.zeros(60), np.full(60, np.nan), "nonsense", [1, 2], object()])
def test_y_is_ignored(make, X, y):
    fitted, plain = make().fit(X, y), make().fit(X)
    np.testing.assert_array_equal(fitted.score_samples(X), plain.score_samples(X))
    assert fitted.score(X, y) == plain.score(X)
