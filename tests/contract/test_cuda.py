"""Devices: the same field on CUDA as on the CPU, and a fitted state that knows no device."""

import pickle
import pickletools

import numpy as np
import pytest
import torch
from sklearn.base import clone
from variants import VARIANTS

from skscore import KDEScoreBaseline, SlicedScoreEstimator
from skscore.datasets import GaussianMixture

X = GaussianMixture.random().sample(600, random_state=0)
NETWORKS = ["sliced", "sliced-deep", "exact-energy", "exact-network", "exact-gelu"]
NETWORKS += ["sliced-ensemble", "sliced-sigma"]
NETWORKS += ["denoising", "denoising-one", "denoising-energy", "denoising-network"]
NUMBERS = (type(None), bool, int, float, str)


def leaves(value):
    """Yield what a state holds, at any depth; a function or a class is looked up by its name."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(key)
            yield from leaves(inner)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from leaves(inner)
    elif hasattr(value, "__dataclass_fields__"):
        yield from leaves(vars(value))
    elif not callable(value):
        yield value


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_state_is_numbers_and_arrays(variant):
    fitted = clone(VARIANTS[variant]).fit(X[:100])
    for leaf in leaves(fitted.__getstate__()):
        assert isinstance(leaf, (*NUMBERS, np.ndarray, np.number)), type(leaf)
        assert not isinstance(leaf, np.ndarray) or leaf.dtype != object


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pickle_names_nothing_of_torch(variant):
    fitted = clone(VARIANTS[variant]).fit(X[:100])
    words = {arg for _, arg, _ in pickletools.genops(pickle.dumps(fitted)) if isinstance(arg, str)}
    assert not {word for word in words if word.partition(".")[0] == "torch"}
    assert any(word.startswith("skscore.") for word in words)  # so names are found at all


def test_the_walk_finds_a_tensor():
    fitted = KDEScoreBaseline().fit(X[:100])
    fitted._rows = {"deep": [torch.ones(2)]}
    assert any(isinstance(leaf, torch.Tensor) for leaf in leaves(fitted.__getstate__()))


@pytest.mark.parametrize("variant", ["kde", *NETWORKS])
def test_a_model_from_cuda_loads_without_it(variant, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fitted = clone(VARIANTS[variant]).fit(X[:100])
    field = fitted.score_samples(X)
    for device in ("cuda", "cuda:1"):
        fitted.set_params(device=device)
        loaded = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(loaded.score_samples(X), field)
        with pytest.raises(ValueError, match=device):
            loaded.fit(X)
        np.testing.assert_array_equal(loaded.score_samples(X), field)


# With a device ---------------------------------------------------------------------------------

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def on_cpu(fitted, monkeypatch):
    """Return a copy that was loaded where there is no CUDA."""
    with monkeypatch.context() as m:
        m.setattr(torch.cuda, "is_available", lambda: False)
        return pickle.loads(pickle.dumps(fitted))


class TestWithCuda:
    pytestmark = gpu

    @pytest.mark.parametrize("variant", [name for name in VARIANTS if not name.startswith("k")])
    def test_the_same_weights_give_the_same_field(self, variant, monkeypatch):
        fitted = clone(VARIANTS[variant]).set_params(device="cuda", random_state=0).fit(X)
        assert next(fitted._model.parameters()).is_cuda
        copied = on_cpu(fitted, monkeypatch)
        assert not next(copied._model.parameters()).is_cuda
        field, other = fitted.score_samples(X), copied.score_samples(X)
        np.testing.assert_allclose(field, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())
        assert fitted.score(X) == pytest.approx(copied.score(X), rel=1e-4)
        again = pickle.loads(pickle.dumps(copied))
        assert next(again._model.parameters()).is_cuda
        np.testing.assert_array_equal(again.score_samples(X), field)

    @pytest.mark.parametrize("bandwidth", [0.5, "scott", "silverman", "cv"])
    def test_the_kde_is_the_same(self, bandwidth):
        on = {d: KDEScoreBaseline(bandwidth, device=d).fit(X) for d in ("cuda", "cpu")}
        assert on["cuda"].bandwidth_ == pytest.approx(on["cpu"].bandwidth_, rel=1e-4)
        for method in ("score_samples", "log_density"):
            a, b = (getattr(on[d], method)(X) for d in ("cuda", "cpu"))
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())

    def test_auto_is_cuda(self):
        assert next(SlicedScoreEstimator(max_iter=1).fit(X)._model.parameters()).is_cuda

    @pytest.mark.parametrize("variant", ["kde", "sliced", "exact-energy"])
    def test_samples_have_the_same_law(self, variant):
        fitted = clone(VARIANTS[variant]).set_params(device="cuda").fit(X)
        drawn = fitted.sample(4000, random_state=0)
        np.testing.assert_array_equal(drawn[:300], fitted.sample(300, random_state=0))
        other = clone(fitted).set_params(device="cpu").fit(X).sample(4000, random_state=0)
        scale = X.std(axis=0)
        np.testing.assert_allclose(drawn.mean(0) / scale, other.mean(0) / scale, atol=0.15)
        np.testing.assert_allclose(drawn.std(0) / scale, other.std(0) / scale, atol=0.15)

    def test_a_fit_repeats_itself(self):
        fits = [SlicedScoreEstimator(max_iter=5, random_state=0, device="cuda") for _ in range(2)]
        a, b = (fit.fit(X).score_samples(X) for fit in fits)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())

    @pytest.mark.parametrize("variant", ["denoising", "denoising-energy"])
    def test_densities_codes_and_samples_are_those_of_the_cpu(self, variant, monkeypatch):
        params = {"device": "cuda", "random_state": 0, "early_stopping": False, "max_iter": 20}
        fitted = clone(VARIANTS[variant]).set_params(**params).fit(X)
        assert next(fitted._model.parameters()).is_cuda
        copied = on_cpu(fitted, monkeypatch)
        assert not next(copied._model.parameters()).is_cuda
        for sigma in (None, 0.5):
            field, other = fitted.score_samples(X, sigma), copied.score_samples(X, sigma)
            np.testing.assert_allclose(field, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())
        np.testing.assert_allclose(fitted.log_density(X), copied.log_density(X), atol=1e-6)
        estimate = {"trace": "hutchinson", "random_state": 0, "return_std": True}
        value, error = fitted.log_density(X, **estimate)
        assert (np.abs(value - copied.log_density(X)) <= 6 * error + 1e-9).mean() > 0.98
        codes = fitted.transform(X)
        np.testing.assert_allclose(codes, copied.transform(X), atol=1e-6)
        np.testing.assert_allclose(
            fitted.inverse_transform(codes), copied.inverse_transform(codes), atol=1e-6
        )
        # The flow from one start has nothing random; the others draw on their device.
        flow = {"sampler": "probability_flow", "init": 5 * X[:50], "n_steps": 20}
        drawn, other = (e.sample(50, random_state=0, **flow) for e in (fitted, copied))
        np.testing.assert_allclose(drawn, other, atol=1e-3)
        scale = X.std(axis=0)
        for how in ({}, {"sampler": "predictor_corrector"}):
            drawn, other = (
                e.sample(4000, random_state=0, n_steps=30, **how) for e in (fitted, copied)
            )
            np.testing.assert_array_equal(
                drawn[:300], fitted.sample(300, random_state=0, n_steps=30, **how)
            )
            np.testing.assert_allclose(drawn.mean(0) / scale, other.mean(0) / scale, atol=0.15)
            np.testing.assert_allclose(drawn.std(0) / scale, other.std(0) / scale, atol=0.15)
        given = np.where(np.arange(2) == 0, X[:50], np.nan)
        drawn = fitted.sample(50, random_state=0, given=given, n_steps=5)
        np.testing.assert_array_equal(drawn[:, 0], X[:50, 0])
        assert np.isfinite(drawn).all()
