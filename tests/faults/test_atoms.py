"""Rows that give single points a probability: named, with the remedy, and nothing else is."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine

from skscore.exceptions import DataWarning

ROWS = np.random.default_rng(0).standard_normal((500, 3))
REMEDY = r"[Ff]it the score at a noise level, sigma=0\.1 of a network estimator"


@pytest.fixture(params=["kernel-numbers", "sliced", "exact"])
def make(make_kind, request):
    """Make an estimator that fits by score matching."""
    return lambda **parameters: make_kind(request.param, **parameters)


def atoms_of(estimator, X):
    """Fit, and return what it says of columns without a density."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X)
    assert all(issubclass(w.category, DataWarning) for w in caught), [str(w) for w in caught]
    return [str(w.message) for w in caught]


def frame(X):
    return pd.DataFrame(X, columns=["age", "income", "debt"])


def with_column(values, j=1):
    X = ROWS.copy()
    X[: len(values), j] = values
    return X


@pytest.mark.parametrize(("n_copies", "named"), [(4, False), (5, False), (6, True), (250, True)])
def test_copied_rows_are_counted(make, n_copies, named):
    X = ROWS.copy()
    X[-n_copies:] = X[:n_copies]
    said = [m for m in atoms_of(make(), X) if "copies" in m]
    assert len(said) == named
    if named:
        assert said[0].startswith(f"{n_copies} of the 500 rows are copies of others.")
        assert "unbounded below" in said[0]
        assert "Remove the copies, or fit the score at a noise level, sigma=0.1" in said[0]


@pytest.mark.parametrize("times", [2, 12])
def test_the_copies_do_not_accuse_the_columns(make, times):
    (said,) = atoms_of(make(), np.repeat(ROWS[: 500 // times], times, axis=0))
    assert "copies" in said


@pytest.mark.parametrize(
    ("distinct", "fault"), [(2, "hold few"), (19, "hold few"), (20, "repeat some value")]
)
def test_a_column_of_few_values_is_named(make, distinct, fault):
    (said,) = atoms_of(make(), frame(with_column(np.arange(500) % distinct)))
    assert f"Columns ['income'] {fault}" in said
    assert "no density" in said
    assert re.search(REMEDY, said)


@pytest.mark.parametrize(("n_zeros", "named"), [(8, False), (15, False), (16, True), (300, True)])
def test_a_column_that_repeats_one_value_is_named(make, n_zeros, named):
    said = atoms_of(make(), frame(with_column(np.zeros(n_zeros), j=2)))
    assert len(said) == named
    if named:
        assert "Columns ['debt'] repeat some value, many times each." in said[0]
        assert "Fit the score at a noise level, sigma=0.1 of a network estimator, or" in said[0]


@pytest.mark.parametrize(("n_zeros", "named"), [(15, False), (16, True)])
def test_a_value_counts_from_the_sixteenth_time_where_rows_are_few(make_kind, n_zeros, named):
    X = with_column(np.zeros(n_zeros))[:60]
    assert len(atoms_of(make_kind("kernel-numbers"), X)) == named


@pytest.mark.parametrize(("n_zeros", "named"), [(40, False), (41, True)])
def test_a_value_counts_from_two_in_a_hundred_where_rows_are_many(make_kind, n_zeros, named):
    X = np.tile(ROWS, (4, 1)) + np.random.default_rng(1).standard_normal((2000, 3))
    X[:n_zeros, 0] = 0.0
    assert len(atoms_of(make_kind("kernel-numbers"), X)) == named


def test_rounding_alone_is_not_named(make_kind):
    assert atoms_of(make_kind("kernel-numbers"), load_wine().data) == []


def test_whole_numbers_are_named_and_not_their_copies(make):
    (said,) = atoms_of(make(), frame(np.round(ROWS)))
    assert "Columns ['age', 'income', 'debt'] hold few" in said


def test_each_fault_is_named_once(make_kind):
    X = ROWS.copy()
    X[:, 0] = np.arange(500) % 3
    X[:100, 2] = 0.0
    few, tied = atoms_of(make_kind("kernel-numbers"), frame(X))
    assert "Columns ['age'] hold few distinct values" in few
    assert "Columns ['debt'] repeat some value" in tied
    X[:, 1] = 2.5
    assert any(
        "Constant columns ['income']" in m for m in atoms_of(make_kind("kernel-numbers"), frame(X))
    )
    assert not any(
        "income" in m and "Constant" not in m for m in atoms_of(make_kind("kernel-numbers"), X)
    )


SILENT = {
    "normal": ROWS,
    "rounded to six digits": np.round(ROWS, 6),
    "heavy tails": np.random.default_rng(1).standard_cauchy((500, 3)),
    "float32": ROWS.astype(np.float32),
    "far away": ROWS + 1e6,
    "few rows": ROWS[:6],
    "more columns than rows": np.random.default_rng(1).normal(size=(5, 20)),
}


@pytest.mark.parametrize("case", SILENT)
def test_rows_with_a_density_are_fitted_in_silence(make, case):
    assert atoms_of(make(), SILENT[case]) == []


@pytest.mark.parametrize("kind", ["kde", "kernel", "sliced", "exact", "denoising", "one-level"])
def test_collinear_columns_are_named(make_kind, kind):
    def make():
        return make_kind(kind)

    X = np.column_stack([ROWS[:, 0], 2 * ROWS[:, 0] + 1, ROWS[:, 1]])
    (said,) = atoms_of(make(), frame(X))
    assert "Columns ['age', 'income'] are collinear" in said
    X = np.column_stack([ROWS[:, :2], ROWS[:, 0] - ROWS[:, 1]])
    (said,) = atoms_of(make(), X)
    assert "Columns [0, 1, 2] are collinear" in said
    noisy = X + 1e-3 * np.random.default_rng(0).normal(size=X.shape)
    assert atoms_of(make(), noisy) == []


ATOMS = {
    "copies": np.repeat(ROWS[:250], 2, axis=0),
    "whole numbers": np.round(ROWS),
    "zeros": with_column(np.zeros(200)),
}


@pytest.mark.parametrize("case", ATOMS)
def test_at_a_noise_level_there_is_nothing_to_warn_of(make_net, case):
    assert atoms_of(make_net(sigma=0.1), ATOMS[case]) == []
    assert atoms_of(make_net(), ATOMS[case]) != []


@pytest.mark.parametrize("kind", ["denoising", "ladder", "one-level"])
@pytest.mark.parametrize("case", ATOMS)
def test_denoising_has_nothing_to_warn_of(make_kind, draw, case, kind):
    estimator, rows = make_kind(kind), ATOMS[case][::5]
    assert atoms_of(estimator, ATOMS[case]) == []
    assert np.isfinite(estimator.score_samples(rows)).all()
    sampler = "annealed_langevin" if kind == "ladder" else "auto"
    assert np.isfinite(draw(estimator, 20, sampler=sampler)).all()
    if kind != "one-level":
        assert np.isfinite(estimator.log_density(rows)).all()
        codes = estimator.transform(rows)
        # Four levels are four steps of the flow.
        coarse = 0.05 if kind == "ladder" else 1e-3
        np.testing.assert_allclose(estimator.inverse_transform(codes), rows, atol=coarse)


def test_denoising_names_constant_columns_alone(make_kind):
    X = with_column(np.full(500, 3.0))
    X[:250] = X[250:]
    (said,) = atoms_of(make_kind("denoising"), np.round(X))
    assert "Constant columns [1]" in said


@pytest.mark.parametrize("case", ATOMS)
def test_a_kernel_density_is_finite_there(make_kde, case):
    assert atoms_of(make_kde(), ATOMS[case]) == []


def test_a_constant_column_is_named_at_a_noise_level_too(make_net):
    (said,) = atoms_of(make_net(sigma=0.1), with_column(np.full(500, 3.0)))
    assert "Constant columns [1]" in said


@pytest.mark.parametrize("kind", ["kernel-numbers", "sliced"])
def test_all_warnings_point_at_one_place(make_kind, kind):
    X = np.repeat(np.column_stack([ATOMS["zeros"], np.ones(500)]), 2, axis=0)
    with pytest.warns(DataWarning) as caught:
        make_kind(kind).fit(X)
    assert len(caught) == 3  # a constant, copies, ties
    assert len({(w.filename, w.lineno) for w in caught}) == 1
    assert "skscore/_" not in caught[0].filename  # not at the check, or at what called it


def test_only_the_first_rows_are_looked_at(make_kind):
    X = np.random.default_rng(2).standard_normal((10_500, 2))
    X[10_000:, 0] = 0.0
    assert atoms_of(make_kind("kernel-numbers"), X) == []
    X[9_700:9_950, 0] = 0.0
    assert len(atoms_of(make_kind("kernel-numbers"), X)) == 1
