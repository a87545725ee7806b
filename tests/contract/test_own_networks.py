"""Networks of the caller's: what they are given, what is kept of them, what is said of bad ones."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from columns import SHAPE, images, small
from torch import nn

from skscore import DenoisingScoreEstimator, ScoreMatchingEstimator
from skscore.networks import UNet

FEW = {"max_iter": 2, "random_state": 0, "n_members": 1, "mixture": False}


def table(n=60):
    return np.random.default_rng(0).normal(size=(n, 3))


class Net(nn.Module):
    """A linear map, which notes what else it is given."""

    def __init__(self, n_features, n_outputs, *, generator):
        super().__init__()
        w = torch.empty(n_features, n_outputs).normal_(0, 0.3, generator=generator)
        self.w = nn.Parameter(w)
        self.seen = set()

    def forward(self, x):
        return x @ self.w

    def told(self, x, *levels):
        self.seen.add(len(levels))
        return torch.tanh(x) @ self.w + sum(levels)


class Needs(Net):
    def forward(self, x, log_sigma):
        return self.told(x, log_sigma)


class May(Net):
    def forward(self, x, log_sigma=None):
        return self.told(x) if log_sigma is None else self.told(x, log_sigma)


class Any(Net):
    def forward(self, *args):
        return self.told(*args)


class Option(Net):
    def forward(self, x, scale=1.0):
        assert scale == 1.0
        return self.told(x)


class Named(Net):
    def forward(self, x, *, scale=1.0):
        return self.told(x)


@pytest.mark.parametrize(
    ("cls", "n"), [(Needs, 1), (May, 1), (Any, 1), (Option, 0), (Named, 0)], ids=lambda v: str(v)
)
def test_a_second_argument_is_the_noise_level_unless_it_is_an_option(cls, n):
    est = DenoisingScoreEstimator(network=cls, **FEW).fit(table())
    (network,) = (m for m in est._model.modules() if isinstance(m, cls))
    assert network.seen == {n}


@pytest.mark.parametrize("cls", [May, Any, Option, Named])
def test_at_one_level_a_network_that_can_do_without_is_given_rows_alone(cls):
    est = DenoisingScoreEstimator(network=cls, sigma=0.3, **FEW).fit(table())
    (network,) = (m for m in est._model.modules() if isinstance(m, cls))
    assert network.seen == {0}


def test_at_one_level_a_network_that_needs_the_level_is_told_it():
    est = DenoisingScoreEstimator(network=Needs, sigma=0.3, **FEW).fit(table())
    X = table(4)
    assert est.score_samples(X).shape == X.shape
    loaded = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(loaded.score_samples(X), est.score_samples(X))
    given = partial(UNet, image_shape=SHAPE, widths=(8,))
    own, ours = small(network=given, sigma=0.3), small(sigma=0.3)
    own, ours = (each.fit(images()).score_samples(images(3)) for each in (own, ours))
    np.testing.assert_array_equal(own, ours)


class RandomFeatures(nn.Module):
    """Features that are drawn once, in something that is no part of the state."""

    def __init__(self, n_features, n_outputs, *, generator):
        super().__init__()
        self.register_buffer("drawn", torch.randn(n_features, 8, generator=generator), False)
        self.read = nn.Linear(8, n_outputs)  # from the global stream

    def forward(self, x):
        return self.read(torch.tanh(x @ self.drawn))


@pytest.mark.parametrize("warm_start", [False, True])
def test_what_a_factory_draws_beside_the_weights_is_kept_with_a_model(warm_start):
    X = table()
    est = ScoreMatchingEstimator(network=RandomFeatures, warm_start=warm_start, max_iter=2)
    est.set_params(n_members=1, random_state=1).fit(X)
    first = est.score_samples(X)
    if warm_start:  # it goes on from there, whatever the seed now is
        est.set_params(random_state=2, learning_rate_init=1e-12).fit(X)
        np.testing.assert_allclose(est.score_samples(X), first, rtol=1e-5, atol=1e-6)
    loaded = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(loaded.score_samples(X), est.score_samples(X))


class Loose(Net):
    """A tensor that is no buffer stays in float32."""

    def __init__(self, n_features, n_outputs, *, generator):
        super().__init__(n_features, n_outputs, generator=generator)
        self.loose = torch.eye(n_outputs)

    def forward(self, x):
        return x @ self.w @ self.loose


class Broken(Net):
    def forward(self, x):
        return {}[0]


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (Loose, r"in float64: it gave RuntimeError.*register_buffer"),
        (Broken, "in float32: it gave KeyError: 0"),
    ],
)
def test_why_a_network_cannot_be_evaluated_is_told(cls, words):
    with pytest.raises(ValueError, match=f"(?s)network=.*cannot be evaluated.*{words}"):
        ScoreMatchingEstimator(network=cls, **FEW).fit(table())


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, TypeError])
def test_why_a_factory_made_nothing_is_told(error):
    def factory(n_features, n_outputs, *, generator):
        raise error("no room")

    with pytest.raises(ValueError, match=rf"(?s)network=.*gave {error.__name__}: no room"):
        ScoreMatchingEstimator(network=factory, **FEW).fit(table())


def test_lazy_layers_get_their_weights():
    def lazy(n_features, n_outputs, *, generator):
        return nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(n_outputs))

    table_fit = ScoreMatchingEstimator(network=lazy, **{**FEW, "max_iter": 1}).fit(table())
    image_fit = small(network=lazy, max_iter=1).fit(images())
    for est, X in ((table_fit, table(3)), (image_fit, images(3))):
        assert est.score_samples(X).shape == X.shape


def test_images_stay_in_float32():
    est = small(network=Loose, max_iter=1).fit(images())
    assert est.score_samples(images(2)).shape == (2, 24)
