"""From the parameters of an estimator to its training: what arrives, and what the defaults are."""

import re
from dataclasses import asdict, replace

import docs
import numpy as np
import pytest
import torch

from skscore import DenoisingScoreEstimator, ScoreMatchingEstimator, SlicedScoreEstimator
from skscore._training import Plan
from skscore.estimators import _base
from skscore.noise import Ladder, LogUniform, geometric_grid
from skscore.objectives import denoising, exact, noise_conditional, sliced

BOTH = pytest.mark.parametrize("cls", [SlicedScoreEstimator, ScoreMatchingEstimator])
X = np.random.default_rng(0).standard_normal((2000, 10))


@pytest.fixture
def planned(monkeypatch):
    """Fit without a training, and return what it would be called with."""

    def plan(estimator, rows=X):
        seen = {}

        def fit_score(model, x, x_held_out, objective, plan, **others):
            seen.update(model=model, x=x, held_out=x_held_out, objective=objective, plan=plan)
            seen.update(others)

        monkeypatch.setattr(_base, "fit_score", fit_score)
        estimator.fit(rows)
        return seen

    return plan


def members_of(seen):
    network = seen["model"].network
    return list(network.stack.members) if hasattr(network, "stack") else [network]


DEFAULT = Plan(
    n_epochs=286,  # 2,000 steps, seven to an epoch of 1,800 rows
    batch_size=256,
    learning_rate=0.006,
    weight_decay=0.01,
    n_iter_no_change=5,
    tol=0.0,
    adaptive=True,
    average=True,
    residual_test=True,
    subspace_test=True,
    sigma=0.0,
)


@BOTH
def test_the_default_plan(cls, planned):
    seen = planned(cls())
    assert seen["plan"] == DEFAULT
    assert seen["x"].shape == (2, 1800, 10)
    assert seen["held_out"].shape == (2, 200, 10)
    assert len(members_of(seen)) == 2
    assert all(member.activation == "softplus" for member in members_of(seen))
    few = planned(cls(), X[:50])["plan"]
    assert (few.n_epochs, few.batch_size) == (2000, 45)


SWITCHES = {
    "max_iter": (3, {"n_epochs": 3}),
    "batch_size": (100, {"batch_size": 100, "n_epochs": 112}),
    "learning_rate": ("constant", {"adaptive": False}),
    "learning_rate_init": (0.1, {"learning_rate": 0.1}),
    "weight_decay": (0.2, {"weight_decay": 0.2}),
    "average": (False, {"average": False}),
    "residual_test": (False, {"residual_test": False}),
    "subspace_test": (False, {"subspace_test": False}),
    "n_iter_no_change": (9, {"n_iter_no_change": 9}),
    "tol": (0.5, {"tol": 0.5}),
    "sigma": (0.4, {"sigma": 0.4}),
    "curl_penalty": (1.0, {}),
    "n_members": (1, {}),
}


@BOTH
@pytest.mark.parametrize("name", SWITCHES)
def test_each_switch_changes_its_own_part_of_the_plan(cls, name, planned):
    value, change = SWITCHES[name]
    assert asdict(planned(cls(**{name: value}))["plan"]) == asdict(DEFAULT) | change


@BOTH
def test_the_objective_and_its_penalty(cls, planned):
    for params, penalty in (({}, 10.0), ({"curl_penalty": 3}, 3.0), ({"curl_penalty": 0}, 0.0)):
        seen = planned(cls(**params))
        objective = seen["objective"]
        assert objective.keywords["curl_penalty"] == penalty
        assert objective.func is (exact if cls is ScoreMatchingEstimator else sliced)
        assert seen["by_hand"].keywords == objective.keywords
    energy = planned(cls(parametrization="energy", curl_penalty=3.0))["objective"]
    assert energy.keywords["curl_penalty"] == 0.0  # it has no curl


def test_the_directions_reach_the_objective(planned):
    params = {"n_projections": 3, "projection": "sphere", "variance_reduction": False}
    seen = planned(SlicedScoreEstimator(**params))
    assert seen["by_hand"].keywords == seen["objective"].keywords == params | {"curl_penalty": 10.0}
    assert planned(SlicedScoreEstimator())["objective"].keywords["n_projections"] == "auto"


@BOTH
@pytest.mark.parametrize("d", [1, 2, 3, 4, 10])
def test_the_default_sizes(cls, d, planned):
    deep = cls is SlicedScoreEstimator or d <= 3
    for member in members_of(planned(cls(), X[:, :d])):
        widths = tuple(W.shape[1] for W in member.weights)
        assert widths == (*((96, 96, 96) if deep else (96, 96)), d)
    asked = members_of(planned(cls(hidden_layer_sizes=(5, 4)), X[:, :d]))
    assert all(tuple(W.shape[1] for W in member.weights) == (5, 4, d) for member in asked)


@BOTH
def test_the_spread_reaches_the_first_layer(cls, planned):
    first = {
        spread: [m.weights[0].data for m in members_of(planned(cls(**kept)))]
        for spread in ("auto", 1.0, 50.0)
        for kept in [{"frequency_spread": spread, "random_state": 0}]
    }
    for spread, largest in (("auto", 1.7), (1.0, 1.0), (50.0, 50.0)):
        for own, plain in zip(first[spread], first[1.0], strict=True):
            ratio = float((own / plain).max())
            assert 0.9 * largest < ratio <= largest * (1 + 1e-5)
    assert not torch.equal(*first["auto"])  # the members differ


@pytest.mark.parametrize(("d", "same"), [(1, True), (2, True), (3, True), (4, False)])
def test_up_to_three_columns_both_estimators_are_one(d, same):
    rows = X[:300, :d] + 2 * np.sign(X[:300, 9:])
    params = {"max_iter": 2, "batch_size": 50, "residual_test": False, "random_state": 0}
    params["mixture"] = False  # it would be the whole of both
    a, b = (
        cls(**params).fit(rows).score_samples(rows)
        for cls in (SlicedScoreEstimator, ScoreMatchingEstimator)
    )
    close = np.allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
    assert close == same
    if same:
        np.testing.assert_array_equal(a, b)


@BOTH
def test_what_a_constant_rate_and_no_average_do_to_a_fit(cls):
    rows = X[:300, :2] + 2 * np.sign(X[:300, 9:])
    params = {"hidden_layer_sizes": (8,), "max_iter": 30, "n_members": 1, "random_state": 0}
    params |= {"device": "cpu", "residual_test": False}
    params["early_stopping"] = False  # the weights are those at the end
    plain = cls(**params).fit(rows)
    for change in ({"learning_rate": "constant"}, {"average": False}):
        other = cls(**params | change).fit(rows)
        assert np.abs(other.score_samples(rows) - plain.score_samples(rows)).max() > 1e-4
    stale = {"learning_rate": "constant", "n_iter_no_change": 1, "tol": 1e9}
    stale["early_stopping"] = True
    assert cls(**params | stale).fit(rows).n_iter_ == 1
    assert cls(**params | stale | {"learning_rate": "adaptive"}).fit(rows).n_iter_ == 4


# The noise levels --------------------------------------------------------------------------------

STEPS, AT_LOWEST = 3600, 0.02
OF_DENOISING = replace(
    DEFAULT,
    n_epochs=-(-STEPS // 14),  # fourteen to an epoch
    batch_size=128,
    weight_decay=0.1,
)


def test_the_default_plan_of_denoising(planned):
    seen = planned(DenoisingScoreEstimator())
    assert seen["plan"] == OF_DENOISING
    assert seen["x"].shape == (2, 1800, 10)
    assert seen["held_out"].shape == (2, 200, 10)
    assert seen["objective"].func is noise_conditional
    assert isinstance(seen["objective"].keywords["levels"], LogUniform)
    assert len(members_of(seen)) == 2
    for member in members_of(seen):
        assert [W.shape[1] for W in member.weights] == [128, 128, 128, 10]
        assert member.activation == "silu"


@pytest.mark.parametrize("name", sorted(set(SWITCHES) - {"sigma", "max_iter", "batch_size"}))
def test_each_switch_of_denoising_changes_its_own_part_of_the_plan(name, planned):
    value, change = SWITCHES[name]
    plan = planned(DenoisingScoreEstimator(**{name: value}))["plan"]
    assert asdict(plan) == asdict(OF_DENOISING) | change


@pytest.mark.parametrize(
    ("params", "levels"),
    [
        ({"sigma_min": 0.1, "sigma_max": 8}, LogUniform(8.0, 0.1, AT_LOWEST)),
        ({"sigma": [3, 1.0, 0.2]}, Ladder((3.0, 1.0, 0.2))),
        ({"sigma": np.array([3, 1])}, Ladder((3.0, 1.0))),
        (
            {"n_noise_levels": 3, "sigma_min": 0.01, "sigma_max": 1},
            Ladder(tuple(geometric_grid(1.0, 0.01, 3))),
        ),
        ({"n_noise_levels": 2, "sigma_min": 0.5, "sigma_max": 1.0}, Ladder((1.0, 0.5))),
    ],
    ids=["range", "ladder", "array", "geometric", "two"],
)
def test_the_levels_reach_the_objective(params, levels, planned):
    estimator = DenoisingScoreEstimator(**params)
    objective = planned(estimator)["objective"]
    assert type(objective.keywords["levels"]) is type(levels)
    assert vars(objective.keywords["levels"]) == vars(levels)
    ends = levels.sigmas if isinstance(levels, Ladder) else (levels.high, levels.low)
    assert estimator.sigmas_.tolist() == list(ends)


@pytest.mark.slow
def test_the_automatic_range(planned):
    """The largest distance of two rows, and a hundredth of a deviation or half a column's step."""
    rows = X * [*[1e3] * 5, *[1e-3] * 5]
    estimator = DenoisingScoreEstimator()
    planned(estimator, rows)
    U = (rows - rows.mean(0)) / rows.std(0)
    # The pair by brute force, a thousand rows at a time.
    far = max(np.sqrt(((U[i : i + 10, None] - U) ** 2).sum(-1)).max() for i in range(0, 2000, 10))
    np.testing.assert_allclose(estimator.sigmas_, [far, 0.01])
    for digits, low in ((1, 0.05), (0, 0.1), (2, 0.01)):
        planned(estimator, np.round(X, digits))
        assert estimator.sigmas_[-1] == pytest.approx(low, rel=0.05)


def test_the_range_spans_groups_that_stand_in_order(planned):
    rows = np.random.default_rng(0).normal(size=(6000, 2))
    rows[5000:] += 30.0
    estimator = DenoisingScoreEstimator()
    planned(estimator, rows)
    between = np.linalg.norm((rows[5000:].mean(0) - rows[:5000].mean(0)) / rows.std(0))
    assert estimator.sigmas_[0] > between


def test_one_level_is_denoised_at_that_level(planned):
    seen = planned(DenoisingScoreEstimator(sigma=0.3))
    assert seen["objective"].func is denoising
    assert seen["objective"].keywords == {"curl_penalty": 10.0, "sigma": 0.3}
    assert seen["plan"].sigma == 0.0  # the objective blurs its rows
    assert seen["plan"].n_epochs == 143  # 2,000 steps
    assert [W.shape[1] for W in members_of(seen)[0].weights] == [96, 96, 96, 10]
    energy = planned(DenoisingScoreEstimator(sigma=0.3, parametrization="energy"))["objective"]
    assert energy.keywords == {"curl_penalty": 0.0, "sigma": 0.3}


@pytest.mark.parametrize("params", [{}, {"sigma": [3.0, 1.0, 0.1]}, {"sigma": 0.3}], ids=str)
def test_the_judge_has_no_noise_of_its_own(params, planned):
    seen = planned(DenoisingScoreEstimator(**params | {"hidden_layer_sizes": (8,)}), X[:300, :2])
    stream = torch.get_rng_state()
    with torch.no_grad():
        first, second = (seen["judge"](seen["model"].float(), seen["held_out"]) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape[-1] == 30
    assert torch.equal(torch.get_rng_state(), stream)


NUMBERS = {  # parameter -> what its entry must say, beside its default
    "hidden_layer_sizes": ["128, 128, 128", "96, 96, 96"],
    "max_iter": [f"{STEPS:,}", "2,000"],
    "batch_size": ["128"],
    "frequency_spread": [],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_the_words_of_denoising_have_its_numbers(name):
    """Where "auto" is another number than that of the other estimators, the entry says so."""
    entry, other = (
        docs.entries(docs.sections(cls.__doc__)["Parameters"])[name]
        for cls in (DenoisingScoreEstimator, SlicedScoreEstimator)
    )
    assert entry != other
    for number in NUMBERS[name]:
        assert re.search(rf"\b{number}\b", entry), entry


def test_the_spread_of_denoising_is_one_by_default(planned):
    first = {
        spread: members_of(
            planned(DenoisingScoreEstimator(frequency_spread=spread, random_state=0))
        )[0].weights[0]
        for spread in ("auto", 1.0, 50.0)
    }
    assert torch.equal(first["auto"], first[1.0])
    assert float((first[50.0] / first[1.0]).max()) > 40
