"""Laws of the bandwidth: rules, the search, and a yardstick that no affine map changes."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skscore.datasets import GaussianMixture
from skscore.exceptions import DataWarning
from skscore.kernel import KDEScoreBaseline
from skscore.kernel._bandwidth import SEARCH, scott, search, silverman
from skscore.metrics import fisher_divergence

MAPS = {
    "standard": StandardScaler,
    "min-max": MinMaxScaler,
    "pca": PCA,
    "whitening": lambda: PCA(whiten=True),
    "chain": lambda: make_pipeline(MinMaxScaler(), PCA(), StandardScaler()),
}


@pytest.mark.parametrize(("n", "d"), [(10, 1), (500, 2), (10_000, 7)])
def test_rules_are_scipys(n, d):
    peer = stats.gaussian_kde(np.random.default_rng(0).standard_normal((d, n)))
    assert scott(n, d) == pytest.approx(peer.scotts_factor(), rel=1e-12)
    assert silverman(n, d) == pytest.approx(peer.silverman_factor(), rel=1e-12)


@pytest.mark.parametrize("share", [0.06, 0.3, 1.0, 2.0, 3.5])
def test_search_finds_the_maximiser_of_a_known_curve(share):
    asked = []

    def curve(h):
        asked.append(h)
        return -(math.log(h / (0.2 * share)) ** 2)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = search(curve, 0.2)
    assert found == pytest.approx(0.2 * share, rel=2e-3)
    assert min(asked) >= 0.2 * SEARCH[0]
    assert max(asked) <= 0.2 * SEARCH[1]


@pytest.mark.parametrize("share", [0.01, 50.0])
def test_search_warns_at_its_edge(share):
    with pytest.warns(DataWarning, match="edge of its search"):
        found = search(lambda h: -(math.log(h / share) ** 2), 1.0)
    assert found == pytest.approx(SEARCH[share > 1], rel=0.02)


def data(n=300, seed=0):
    law = GaussianMixture([[-1.0, 0.0, 2.0], [1.5, 1.0, 0.0]], [0.5, 1.0])
    return law.sample(n, random_state=seed) * [1.0, 100.0, 0.01] + [3.0, -500.0, 0.0]


@pytest.mark.parametrize("rule", ["scott", "silverman", "cv"])
@pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)
def test_no_affine_map_changes_the_score_of_a_refit(make, rule):
    X, Q = data(), data(200, seed=1)
    T = make().fit(X)
    plain = KDEScoreBaseline(rule).fit(X).score(Q)
    mapped = KDEScoreBaseline(rule).fit(T.transform(X)).score(T.transform(Q))
    assert mapped == pytest.approx(plain, rel=1e-6)


def test_a_bandwidth_in_units_is_changed_by_a_scaler():
    X, Q = data(), data(200, seed=1)
    T = StandardScaler().fit(X)
    plain = KDEScoreBaseline(0.5).fit(X).score(Q)
    mapped = KDEScoreBaseline(0.5).fit(T.transform(X)).score(T.transform(Q))
    assert mapped != pytest.approx(plain, rel=1e-2)


def divergences(law, seed, rules=("cv", "scott")):
    """The Fisher divergence from the truth, by rule."""
    X, Q = law.sample(1000, random_state=seed), law.sample(2000, random_state=100 + seed)
    fields = [KDEScoreBaseline(rule).fit(X).score_samples(Q) for rule in rules]
    return [fisher_divergence(law.score(Q), field) for field in fields]


@pytest.mark.parametrize("seed", range(4))
def test_cv_beats_the_rule_in_a_few_dimensions(seed):
    cv, scotts = divergences(GaussianMixture([[0.0] * 5, [2.0] * 5], 1.0), seed)
    assert cv < 0.8 * scotts


def test_cv_warns_of_repeated_rows():
    X = np.repeat(np.random.default_rng(0).standard_normal((40, 2)), 25, axis=0)
    with pytest.warns(DataWarning, match="edge of its search"):
        KDEScoreBaseline("cv").fit(X)
