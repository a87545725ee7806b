"""What the metrics refuse, and how they say it."""

import numpy as np
import pytest

import skscore.metrics
from skscore.metrics import (
    c2st,
    energy_distance,
    fisher_divergence,
    hyvarinen_rows,
    hyvarinen_score,
    mean_score_error,
)

ROWS = np.ones((4, 2))
TRACE = np.ones(4)
NAN = np.array([[np.nan, 0.0]])

BAD = [
    (lambda: fisher_divergence(NAN, NAN), "score_true contains NaN"),
    (lambda: fisher_divergence(ROWS, ROWS[:, 0]), "score_pred: Expected 2D array"),
    (lambda: fisher_divergence(ROWS, ROWS[:3]), r"score_pred has shape \(3, 2\)"),
    (lambda: fisher_divergence(ROWS, ROWS + 1, covariance=np.eye(3)), "covariance has shape"),
    (lambda: fisher_divergence(ROWS, ROWS + 1, covariance=[1.0, 1.0]), "covariance: Expected 2D"),
    (lambda: fisher_divergence(ROWS, ROWS + 1, covariance=[[1, 1], [0, 1]]), "not symmetric"),
    (lambda: fisher_divergence(ROWS, ROWS + 1, covariance=-np.eye(2)), "positive semidefinite"),
    (lambda: mean_score_error(ROWS, ROWS[:, :1]), r"score_pred has shape \(4, 1\)"),
    (lambda: mean_score_error(ROWS, np.inf * ROWS), "score_pred contains infinity"),
    (lambda: hyvarinen_rows(ROWS, TRACE[:3]), r"divergence has shape \(3,\)"),
    (lambda: hyvarinen_rows(ROWS, TRACE[:, None]), r"divergence has shape \(4, 1\)"),
    (lambda: hyvarinen_rows(ROWS, np.nan * TRACE), "divergence contains NaN"),
    (lambda: hyvarinen_rows(ROWS, ["a"] * 4), "divergence is .*; pass one number for each row"),
    (lambda: hyvarinen_rows(ROWS, [[1], [1, 2]]), "divergence is .*; pass one number for each row"),
    (lambda: hyvarinen_score(TRACE, TRACE), "score: Expected 2D array"),
    (lambda: hyvarinen_score(ROWS, TRACE, covariance=NAN), "covariance contains NaN"),
    (lambda: hyvarinen_score(ROWS, TRACE, reduce="mean"), "reduce is 'mean'; pass a function"),
    (lambda: energy_distance(ROWS, ROWS[:, :1]), "X has 2 features and Y has 1"),
    (lambda: energy_distance(ROWS, TRACE), "Y: Expected 2D array"),
    (lambda: energy_distance(ROWS[:0], ROWS), "X: Found array with 0 sample"),
    (lambda: c2st(ROWS, ROWS[:, :1]), "X has 2 features and Y has 1"),
    (lambda: c2st(ROWS, ROWS[:1]), "Y has 1 rows, fewer than cv=5"),
    (lambda: c2st(ROWS, ROWS, cv=1), "cv is 1; pass an integer of at least 2"),
    (lambda: c2st(ROWS, NAN), "Y contains NaN"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_singular_covariance_is_taken():
    assert fisher_divergence(ROWS, ROWS + 1, covariance=np.diag([1.0, 0.0])) == 0.5
    assert fisher_divergence(ROWS, ROWS + np.array([1, -1]), covariance=np.ones((2, 2))) == 0.0


def test_public_names_are_sorted():
    assert skscore.metrics.__all__ == sorted(skscore.metrics.__all__)
