"""Constructor parameters: the bad are refused by name, the unusual work, and none is changed."""

import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skscore import (
    DenoisingScoreEstimator,
    KDEScoreBaseline,
    KernelScoreEstimator,
    ScoreMatchingEstimator,
    SlicedScoreEstimator,
)
from skscore._checks import real
from skscore.exceptions import DivergenceError
from skscore.networks import MLP

NAN, INF = float("nan"), float("inf")
NOT_POSITIVE = [0, -1, NAN, INF, -INF, 10**400, "1", None, True, 1j, [1], np.array([1.0, 2.0])]
NOT_A_COUNT = [0, -1, 1.5, 2.0, NAN, INF, "3", None, True, [1], np.array([1, 2])]
NOT_A_FLAG = [0, 1, "yes", "True", None, 1.0, [True]]
NOT_A_SHARE = [
    -1e-9,
    1.001,
    NAN,
    INF,
    10**400,
    "1",
    "Auto",
    None,
    True,
    1j,
    [1],
    np.array([0.1, 0.2]),
]
NOT_A_WORD = ["nope", "", 1, 0.5, True, ["full"], b"full", np.array(["score", "full"])]


def without(values, *allowed):
    return [v for v in values if not any(v is a for a in allowed)]


class TwoOutputs(nn.Module):
    def forward(self, x):
        return x, x


BAD_NETWORKS = [
    3,
    "mlp",
    nn.Identity(),
    lambda n_features, n_outputs, *, generator: "no module",
    lambda n_features, n_outputs, *, generator: nn.Linear(n_features, n_outputs + 1),
    lambda n_features, n_outputs, *, generator: nn.Linear(n_features + 1, n_outputs),
    lambda n_features, n_outputs, *, generator: nn.Flatten(0),
    lambda n_features, n_outputs, *, generator: TwoOutputs(),
]

BAD_SIZES = [(0,), (-3,), (8, 0), (2.5,), ("8",), (None,), (True,), ((8, 8),)]
NET = {
    "hidden_layer_sizes": [*BAD_SIZES, 8, "88", None, NAN, np.ones((2, 2), dtype=int)],
    "activation": ["relu", "leaky_relu", "SiLU", None, torch.tanh, *NOT_A_WORD],
    "frequency_spread": [0.99, *NOT_POSITIVE, "Auto", 1e300],
    "network": BAD_NETWORKS,
    "sigma": without(NOT_POSITIVE, 0),
    "n_members": [*NOT_A_COUNT, 1000, "auto"],
    "parametrization": [*NOT_A_WORD, None],
    "standardize": NOT_A_WORD,
    "shrinkage": NOT_A_SHARE,
    "max_iter": [*NOT_A_COUNT, "scott", "Auto"],
    "batch_size": [*NOT_A_COUNT, -5, 2.5, "Auto"],
    "curl_penalty": without(NOT_POSITIVE, 0),
    "learning_rate": [*NOT_A_WORD, None, 0.01],
    "learning_rate_init": NOT_POSITIVE,
    "weight_decay": without(NOT_POSITIVE, 0),
    "average": NOT_A_FLAG,
    "early_stopping": NOT_A_FLAG,
    "validation_fraction": [*NOT_POSITIVE, 1, 1.0, 1.5],
    "n_iter_no_change": NOT_A_COUNT,
    "tol": without(NOT_POSITIVE, 0),
    "residual_test": NOT_A_FLAG,
    "subspace_test": NOT_A_FLAG,
    "mixture": NOT_A_FLAG,
    "warm_start": NOT_A_FLAG,
    "keep_rows": NOT_A_FLAG,
    "device": ["cuda:99", "tpu9", "", None, 0, torch.device("cpu"), "meta", np.array(["cpu"] * 2)],
    "random_state": ["a", -1, 2**32, 1.5, NAN, [1], torch.Generator()],
    "verbose": without(NOT_A_COUNT, 0, True),
}
if not torch.cuda.is_available():
    NET["device"] += ["cuda", "cuda:0"]

# Sequences of two or more: the empty, the rising, the repeated, and what is no number.
BAD_LADDERS = [
    [],
    (),
    [1.0],
    np.array([3.0]),
    [1.0, 2.0],
    [2.0, 1.0, 1.5],
    [2.0, 2.0, 1.0],
    [[2.0, 1.0]],
    np.ones((2, 2, 2)),
    [2.0, 0],
    [2.0, -1.0],
    [2.0, NAN],
    [NAN, 1.0],
    [INF, 1.0],
    [1e10, 1.0],
    [10**400, 1],
    [2 + 0j, 1],
    [2.0, None],
    [2.0, [1.0]],
    ["high", "low"],
    [True, False],
    "[2, 1]",
    {2.0, 1.0},
    {2.0: 1, 1.0: 2},
    object(),
]

TABLE = {
    KDEScoreBaseline: {
        "bandwidth": [*NOT_POSITIVE, "nope", "Scott", 1e300, 1e-300],
        "device": NET["device"],
    },
    KernelScoreEstimator: {
        "bandwidth": [*NOT_POSITIVE, "nope", "scott", 1e300, 1e-300],
        "alpha": [*NOT_POSITIVE, "nope", -1e-9],
        "n_components": [*NOT_A_COUNT, "cv"],
        "standardize": NOT_A_WORD,
        "shrinkage": NOT_A_SHARE,
        "random_state": NET["random_state"],
    },
    SlicedScoreEstimator: NET
    | {
        "n_projections": [*NOT_A_COUNT, "Auto"],
        "projection": [*NOT_A_WORD, None],
        "variance_reduction": NOT_A_FLAG,
    },
    ScoreMatchingEstimator: NET,
    DenoisingScoreEstimator: NET
    | {
        "sigma": [*without(NOT_POSITIVE, None), *BAD_LADDERS, 1e10],
        "n_noise_levels": [*without(NOT_A_COUNT, None), 1, 10_000, "auto"],
        "sigma_min": [*NOT_POSITIVE, "Auto", 1e10, [0.1]],
        "sigma_max": [*NOT_POSITIVE, "Auto", 1e10, [0.1]],
        "n_members": [*NOT_A_COUNT, 1000, "Auto"],
        "learning_rate_init": [*NOT_POSITIVE, "Auto"],
        "image_shape": [2, "1x2", (), (2, 1), (1, 1, 0), (1, 1, 2.0), (1, 1, NAN), [None] * 3],
    },
}
CASES = [
    pytest.param(cls, name, value, id=f"{cls.__name__}-{name}-{i}")
    for cls, table in TABLE.items()
    for name, values in table.items()
    for i, value in enumerate(values)
]


@pytest.mark.parametrize(("cls", "name", "value"), CASES)
def test_a_bad_value_is_refused_at_fit_by_the_parameters_name(cls, name, value, X):
    few = {"max_iter": 2} if "max_iter" in TABLE[cls] else {}
    estimator = cls(**few | {name: value})  # the constructor keeps whatever it is given
    with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b") as caught:
        estimator.fit(X)
    if isinstance(value, int | float | str):
        assert re.search(r"must|must be|Use|set", str(caught.value)), "no remedy is named"
        assert repr(value)[:20] in str(caught.value), "the value is not named"
    assert not hasattr(estimator, "n_features_in_")
    assert getattr(estimator, name) is value


@pytest.mark.parametrize("cls", TABLE)
def test_the_table_has_every_parameter(cls):
    assert set(TABLE[cls]) == set(cls().get_params())


@pytest.mark.parametrize("cls", TABLE)
def test_an_unknown_parameter_is_refused_by_name(cls):
    with pytest.raises(TypeError, match="bandwith"):
        cls(bandwith=1.0)
    with pytest.raises(ValueError, match="bandwith"):
        cls().set_params(bandwith=1.0)


NETS = pytest.mark.parametrize(
    "make_net",
    [
        *("sliced", "exact", "denoising"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("energy", "one-level")),
    ],
    indirect=True,
)

GOOD = {
    "a bool for the lines": {"verbose": True},
    "numpy integers": {"max_iter": np.int64(2), "batch_size": np.int32(8), "verbose": np.int8(0)},
    "numpy floats": {"learning_rate_init": np.float32(0.01), "weight_decay": np.float64(0)},
    "whole numbers as rates": {"weight_decay": 1, "tol": 1},
    "numpy flags": {"early_stopping": np.bool_(True), "keep_rows": np.False_},
    "more numpy flags": {"average": np.bool_(False), "residual_test": np.False_},
    "numpy numbers": {"n_members": np.int8(2), "sigma": np.float32(0.3)},
    "whole numbers": {"sigma": 1, "frequency_spread": 1, "curl_penalty": np.int8(100)},
    "a member and all": {"n_members": 70, "early_stopping": True, "hidden_layer_sizes": (4,)},
    "a constant rate": {"learning_rate": "constant", "average": False},
    "an array of sizes": {"hidden_layer_sizes": np.array([8, 4])},
    "a list of sizes": {"hidden_layer_sizes": [8]},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "a RandomState": {"random_state": np.random.RandomState(3)},
    "no seed": {"random_state": None},
    "one held-out row": {"early_stopping": True, "validation_fraction": 1e-9},
    "all but one held out": {"early_stopping": True, "validation_fraction": 1 - 1e-12},
    "auto": {"batch_size": "auto", "device": "auto"},
    "three hidden layers": {"hidden_layer_sizes": (4, 4, 4)},
}


@NETS
@pytest.mark.parametrize("case", GOOD)
def test_an_unusual_value_works_and_is_left_as_it_was(make_net, X, case):
    estimator = make_net(**GOOD[case])
    before = estimator.get_params()
    fitted = estimator.fit(X)
    assert np.isfinite(fitted.score_samples(X)).all()
    assert np.isfinite(fitted.sample(3, random_state=0)).all()
    assert all(value is before[name] for name, value in fitted.get_params().items())


@pytest.mark.filterwarnings("error")
def test_a_number_of_half_precision_is_checked_in_silence():
    """Compared with a number of more digits it would take it to its own range, and say so."""
    check = real(high=1e30)
    check("sigma", np.float16(0.5))
    with pytest.raises(ValueError, match=r"sigma=-1\.0"):
        check("sigma", np.float16(-1))


@pytest.mark.parametrize(
    "small", [{"max_iter": np.int8(50)}, {"batch_size": np.uint8(20), "max_iter": np.uint8(100)}]
)
def test_integers_of_few_bits_do_not_overflow(make_kind, X, small):
    whole = {name: int(n) for name, n in small.items()}
    plain = make_kind("exact", **{"batch_size": 20} | whole).fit(X)
    other = make_kind("exact", **{"batch_size": 20} | small).fit(X)  # 150 or 300 steps
    np.testing.assert_array_equal(other.score_samples(X), plain.score_samples(X))
    assert other.loss_curve_ == plain.loss_curve_


def test_hidden_layer_sizes_that_can_be_read_only_once(make_net, X, attempt):
    once = make_net(hidden_layer_sizes=iter((16, 16)))
    fitted, error = attempt((ValueError, TypeError), once.fit, X)
    if error is None:
        np.testing.assert_array_equal(fitted.score_samples(X), make_net().fit(X).score_samples(X))
    else:
        assert "hidden_layer_sizes" in str(error)


@NETS
def test_a_batch_larger_than_the_data_is_all_of_it(make_net, X):
    for early_stopping in (False, True):
        plain = make_net(batch_size=len(X), early_stopping=early_stopping).fit(X)
        large = make_net(batch_size=10**9, early_stopping=early_stopping).fit(X)
        assert np.isfinite(large.score_samples(X)).all()
        np.testing.assert_array_equal(large.score_samples(X), plain.score_samples(X))


@NETS
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("max_iter", [1, 8])
@pytest.mark.parametrize("rate", [1e10, 1e37, 1e100, 1e308])
def test_a_diverging_fit_says_so_and_leaves_a_finite_model(
    make_net, X, attempt, rate, max_iter, early_stopping
):
    # One step to an epoch: a last step that leaves for 1e10 is seen by no loss.
    net = make_net(
        learning_rate_init=rate, max_iter=max_iter, early_stopping=early_stopping, batch_size=100
    )
    _, error = attempt((DivergenceError, ValueError), net.fit, X)
    assert error is None or "learning_rate_init" in str(error)
    if isinstance(error, ValueError):  # refused for its size
        return
    assert error is None or re.search(r"training diverged at step [1-8]:.* below", str(error))
    field = net.score_samples(X)
    assert np.isfinite(field).all()
    assert np.abs(field).max() < 1e6, "a model that is finite, and useless, without a word"
    assert np.isfinite(net.score(X))
    assert np.isfinite(net.sample(3, random_state=0)).all()


def test_a_diverging_fit_keeps_the_last_good_weights(make_kind, X):
    class Failing(MLP):
        """Lose the numbers in the fourth epoch."""

        epochs = 0

        def value_and_divergence(self, x, metric=None):
            value, divergence = super().value_and_divergence(x, metric)
            if torch.is_grad_enabled():
                Failing.epochs += 1
            return value, divergence * (NAN if Failing.epochs == 4 else 1.0)

    def network(n_features, n_outputs, *, generator):
        return Failing(n_features, n_outputs, generator=generator, hidden_layer_sizes=(16, 16))

    # Without the penalty the objective asks for the divergence, whatever the number of columns.
    beside = {"network": network, "batch_size": 60, "max_iter": 8, "curl_penalty": 0.0}
    failed = make_kind("exact", **beside)
    with pytest.raises(DivergenceError, match="diverged at step 4:"):
        failed.fit(X)
    assert failed.n_iter_ == 3
    Failing.epochs = -100
    whole = make_kind("exact", **beside).fit(X)
    np.testing.assert_array_equal(failed.loss_curve_, whole.loss_curve_[:3])
    untrained = make_kind("exact", max_iter=1, learning_rate_init=1e-12).fit(X).score_samples(X)
    assert np.abs(failed.score_samples(X) - untrained).max() > 0.01


def test_queries_and_fits_leave_the_parameters_alone(make_any, X):
    estimator = make_any()
    before = pickle.dumps(estimator.get_params())
    values = estimator.get_params()
    estimator.fit(X).score_samples(X)
    estimator.sample(2, random_state=0)
    estimator.score(X)
    assert pickle.dumps(estimator.get_params()) == before
    assert all(estimator.get_params()[name] is value for name, value in values.items())
    assert clone(estimator).get_params() == values
