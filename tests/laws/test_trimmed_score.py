"""Laws of the trimmed score: what it leaves out, its error, and what it is for."""

import warnings

import numpy as np
import pytest
from scipy import stats

from skscore import KDEScoreBaseline, ScoreMatchingEstimator
from skscore.datasets import GaussianMixture, StudentT
from skscore.metrics import hyvarinen_rows

X = GaussianMixture.four().sample(400, random_state=0)
ESTIMATORS = {
    "kde": KDEScoreBaseline(0.5),
    "exact": ScoreMatchingEstimator(
        max_iter=3, hidden_layer_sizes=(8,), early_stopping=False, random_state=0
    ),
}
either = pytest.mark.parametrize("name", ESTIMATORS)


def fit(name):
    est = ESTIMATORS[name].fit(X[:200])
    return est, hyvarinen_rows(*est._field(X, est.covariance_), covariance=est.covariance_)


@either
@pytest.mark.parametrize("trim", [0.01, 0.1, 0.25, 0.45])
def test_it_is_the_trimmed_mean_of_the_rows(name, trim):
    est, rows = fit(name)
    details = est.score_details(X, trim=trim)
    assert details.trimmed == pytest.approx(stats.trim_mean(rows, trim), rel=1e-9)
    cut = int(trim * 400)
    kept = np.sort(rows)[cut : 400 - cut]
    assert details.trimmed == pytest.approx(kept.mean(), rel=1e-9)
    winsorised = np.concatenate([[kept[0]] * cut, kept, [kept[-1]] * cut])
    error = winsorised.std(ddof=1) / ((1 - 2 * trim) * 20)
    assert details.trimmed_error == pytest.approx(error, rel=1e-6)
    assert details.value == est.score(X)
    if trim == 0.01:
        assert est.score_details(X) == details


@either
@pytest.mark.parametrize("zero", [0, 0.0])
def test_without_a_trim_it_is_the_score(name, zero):
    est, _ = fit(name)
    details = est.score_details(X, trim=zero)
    assert details.trimmed == pytest.approx(details.value, rel=1e-12)
    assert details.trimmed_error == pytest.approx(details.standard_error, rel=1e-9)


@either
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_rows_have_a_trimmed_score_without_a_warning(name, n):
    est, _ = fit(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        details = est.score_details(X[:n])
    assert details.trimmed == pytest.approx(details.value, rel=1e-12)
    for what, value in vars(details).items():  # one row does not tell how far another may be
        assert np.isnan(value) if n == 1 and "error" in what else np.isfinite(value), what


@pytest.mark.parametrize(
    "trim", [-0.01, 0.5, 0.7, 1, np.nan, np.inf, "0.1", None, True, [0.1], 1j, 10**400]
)
def test_a_bad_trim_is_refused_by_name(trim):
    with pytest.raises(ValueError, match=r"\btrim=.*is not valid: .*0\.5"):
        fit("kde")[0].score_details(X, trim=trim)
    with pytest.raises(TypeError):
        fit("kde")[0].score_details(X, None, 0.1)  # by keyword alone


@pytest.mark.parametrize("seed", range(3))
def test_in_heavy_tails_it_has_the_smaller_error(seed):
    law = StudentT(n_features=2, df=1.5)
    rows, Q = (law.sample(500, random_state=seed + k) for k in (0, 100))
    details = KDEScoreBaseline(0.5).fit(rows).score_details(Q)
    assert details.trimmed_error < details.standard_error
