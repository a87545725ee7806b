"""What an error says: the value that was passed, what is wrong with it, and what to do."""

import numpy as np
import pytest

from skscore import KDEScoreBaseline, KernelScoreEstimator, SlicedScoreEstimator

X = np.random.default_rng(0).normal(size=(60, 2))


@pytest.mark.parametrize(
    ("covariance", "fault"),
    [
        (np.eye(3), r"has shape \(3, 3\)"),
        (np.diag([1.0, np.nan]), "has NaN or infinity in it"),
        ([[1.0, 0.5], [0.0, 1.0]], "is not symmetric"),
        ([["a"]], "is no array of real numbers"),
        ([[1.0, 2.0], [3.0]], "is no array of real numbers"),
        (1j * np.eye(2), "is no array of real numbers"),
    ],
    ids=["shape", "NaN", "not symmetric", "words", "ragged", "complex"],
)
def test_a_bad_metric_is_told_its_fault(covariance, fault):
    est = KDEScoreBaseline(bandwidth=0.5).fit(X)
    with pytest.raises(ValueError, match=rf"covariance {fault}: .* \(2, 2\), as covariance_ is"):
        est.score_details(X, covariance=covariance)


def test_bad_sizes_are_named_as_a_whole():
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(8, 0\) .* a sequence of positive"):
        SlicedScoreEstimator(hidden_layer_sizes=(8, 0)).fit(X)


def test_a_bad_callback_is_no_network():
    est = SlicedScoreEstimator(max_iter=1, hidden_layer_sizes=(4,), random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"callback=3 .* callback\(step, which, X\)"):
        est.sample(2, callback=3)


@pytest.mark.parametrize(
    ("estimator", "units"),
    [(KDEScoreBaseline, "X"), (KernelScoreEstimator, "the standardised columns")],
)
def test_a_bandwidth_is_told_its_units(estimator, units):
    with pytest.raises(ValueError, match=rf"bandwidth=1e-100 .* in the units of {units}\."):
        estimator(bandwidth=1e-100).fit(X)
