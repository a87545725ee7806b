"""Decoders of the caller's: what is done to them, and what is said of bad ones."""

import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from torch import nn
from vaes import BOTH, SMALL, KnownDecoder, rows


class Function(nn.Module):
    """A decoder that is one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, z):
        return self.function(z)

    @classmethod
    def of(cls, function):
        return lambda a, b, *, generator: cls(function)


def plain(n_components, n_features, *, generator):
    """Torch's own layers, which draw from the global stream."""
    return nn.Sequential(nn.Linear(n_components, 8), nn.SiLU(), nn.Linear(8, n_features))


class Tied(nn.Module):
    """One layer under two names."""

    def __init__(self, n_components, n_features):
        super().__init__()
        self.first = nn.Linear(n_components, n_features)
        self.also = self.first

    def forward(self, z):
        return self.first(z)


class RandomFeatures(nn.Module):
    """Features that are drawn once, in something that is no part of the state."""

    def __init__(self, n_components, n_features, generator):
        super().__init__()
        drawn = torch.randn(n_components, 16, generator=generator)
        self.register_buffer("drawn", drawn, persistent=False)
        self.read = nn.Linear(16, n_features)

    def forward(self, z):
        return self.read(torch.tanh(z @ self.drawn))


@BOTH
@pytest.mark.parametrize(
    "decoder",
    [
        lambda a, b, *, generator: Tied(a, b),
        lambda a, b, *, generator: RandomFeatures(a, b, generator),
    ],
    ids=["tied", "random features"],
)
def test_what_was_learnt_is_what_is_used(cls, decoder):
    """And not what the factory draws the next time: rows are as likely as the last loss says."""
    X = 5 + rows(200)
    vae = cls(1, decoder=decoder, hidden_layer_sizes=(8,), batch_size=20, max_iter=50)
    vae.set_params(learning_rate_init=0.05, random_state=0).fit(X)
    assert abs(vae.score(X) + vae.loss_curve_[-1]) < 0.5
    assert vae.loss_curve_[0] > vae.loss_curve_[-1] + 5


def dropping(n_components, n_features, *, generator):
    network = plain(n_components, n_features, generator=generator)
    return nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(n_components), network)


@BOTH
def test_a_network_that_is_there_already_stays_as_it_is(cls):
    X = rows()
    network = plain(2, 4, generator=None)
    before = {name: w.clone() for name, w in network.state_dict().items()}
    vae = cls(decoder=lambda n_components, n_features, *, generator: network, **SMALL)
    first = vae.fit(X).score(X)
    for name, w in network.state_dict().items():
        assert w.dtype == torch.float32
        assert torch.equal(w, before[name]), name
    assert all(p.requires_grad for p in network.parameters())
    assert vae.fit(X).score(X) == first  # it is learnt again, from where it was
    assert not np.array_equal(vae._weights["decoder.network.0.weight"], before["0.weight"])


@BOTH
def test_a_factory_need_not_say_from_which_stream(cls):
    X = rows()
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        vae = cls(decoder=plain, **SMALL).fit(X)
        state = torch.get_rng_state()
        loaded = pickle.loads(pickle.dumps(vae))
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(seed)
        assert torch.equal(torch.get_rng_state(), state)
        found.append(vae.inverse_transform(X[:, :2]))
        np.testing.assert_array_equal(loaded.inverse_transform(X[:, :2]), found[-1])
    np.testing.assert_array_equal(*found)
    still = cls(decoder=plain, **SMALL | {"learning_rate_init": 1e-12}).fit(X)
    other = clone(still).set_params(random_state=1).fit(X)
    first, second = (each.inverse_transform(X[:, :2]) for each in (still, other))
    assert np.abs(first - second).max() > 1e-2


@BOTH
def test_a_decoder_is_evaluated_and_not_trained(cls):
    """Dropout drops nothing, and batch normalisation uses what it has, row by row."""
    X = rows()
    vae = cls(decoder=dropping, **SMALL).fit(X)
    Z = vae.transform(X)
    np.testing.assert_array_equal(vae.inverse_transform(Z), vae.inverse_transform(Z))
    np.testing.assert_allclose(vae.inverse_transform(Z)[:1], vae.inverse_transform(Z[:1]))
    assert vae.score(X) == vae.score(X)


@BOTH
@pytest.mark.parametrize("offset", [0.0, 1e5, 1e8])
def test_a_known_decoder_may_be_far_from_zero(cls, offset):
    random = np.random.default_rng(0)
    W, m, noise = random.normal(size=(3, 2)), np.full(3, offset + 0.3), 0.1
    X = random.normal(size=(200, 2)) @ W.T + m + noise * random.normal(size=(200, 3))
    vae = cls(decoder=KnownDecoder(W, m), noise_scale=noise, **SMALL | {"max_iter": 20}).fit(X)
    law = stats.multivariate_normal(np.zeros(3), W @ W.T + noise**2 * np.eye(3))
    details = vae.score_details(X)
    assert details.importance_error < 0.02
    assert abs(details.value - law.logpdf(X - m).mean()) < 5 * details.importance_error + 1e-3
    at_zero = cls(decoder=KnownDecoder(W, 0 * m), noise_scale=noise, **SMALL)
    at_zero.set_params(max_iter=20).fit(X - m)
    assert vae.loss_curve_[0] == pytest.approx(at_zero.loss_curve_[0], rel=1e-5)


@BOTH
def test_a_decoder_that_learns_far_from_zero_is_refused(cls):
    with pytest.raises(ValueError, match=r"column 0 has mean 1e\+06.*Standardise X first"):
        cls(decoder=plain, **SMALL).fit(rows() + np.array([1e6, 0, 0, 0]))


@BOTH
@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (lambda a, b: nn.Linear(a, b), "TypeError: .*unexpected keyword argument 'generator'"),
        (nn.Linear, "TypeError: .*unexpected keyword argument 'generator'"),
        (lambda a, b, *, generator: nn.Linear(b, a), "RuntimeError: mat1 and mat2 shapes"),
        (lambda a, b, *, generator: nn.Module(), 'missing the required "forward"|forward'),
        (lambda a, b, *, generator: nn.Linear(a, b + 1), r"shape \(2, 5\), not \(2, 4\)"),
        (lambda a, b, *, generator: {}[0], "calling it gave KeyError: 0"),
        (lambda a, b, *, generator: nn.LazyLinear(b), "a lazy module"),
        (Function.of(lambda z: z[:, [0, 1, 2, 0]]), "IndexError: index 2 is out of bounds"),
        (Function.of(lambda z: z @ torch.eye(2, 4)), "float64, with gradients; this was float64"),
        (Function.of(lambda z: z @ torch.eye(2, 4).double()), "this was float32.*register_buffer"),
        (Function.of(lambda z: torch.tensor(z.numpy()) @ torch.eye(2, 4)), "requires grad"),
        (Function.of(lambda z: z.mul_(2).repeat(1, 2)), "in-place"),
        (Function.of(lambda z: z.repeat(1, 2) > 0), r"gave torch\.bool"),
        (Function.of(lambda z: z.repeat(1, 2).log()), "not finite at codes -1 and 1"),
    ],
)
def test_what_is_wrong_with_a_decoder_is_told(cls, decoder, message):
    with pytest.raises(ValueError, match=f"(?s)decoder=.* is not valid.*{message}"):
        cls(decoder=decoder, **SMALL).fit(rows())


@BOTH
@pytest.mark.parametrize("decoder", [None, plain])
def test_torch_defaults_of_the_caller_have_no_part(cls, decoder):
    X = rows()
    vae = cls(decoder=decoder, **SMALL)
    plainly = vae.fit(X).inverse_transform(X[:, :2])
    state = pickle.dumps(vae)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        there = vae.fit(X).inverse_transform(X[:, :2])
        loaded = pickle.loads(state).inverse_transform(X[:, :2])
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    np.testing.assert_array_equal(loaded, plainly)
    if decoder is None:  # torch's own layers draw other weights in another dtype
        np.testing.assert_array_equal(there, plainly)
