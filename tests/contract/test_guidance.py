"""Guidance: samples are led away from what a network says that has learnt less."""

import copy
import pickle

import numpy as np
import pytest
import torch
from columns import SIZE, images, small

from skscore import _descents
from skscore.exceptions import DivergenceError
from skscore.samplers import FROM_NOISE, guided

FEW = {"random_state": 0, "n_steps": 4}


def last_layer(model):
    return model.network.out.weight, model.network.out.bias


@pytest.fixture(scope="module")
def fitted():
    return small().fit(images())


@pytest.fixture
def est(fitted):
    return copy.deepcopy(fitted)


@pytest.mark.parametrize(("guidance", "gain"), [(0.0, 0.7), (1.0, 1.0), (1.5, 1.15), (3.0, 1.6)])
def test_the_field_goes_on_from_the_weak_one(guidance, gain):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = []

    def weak(x, sigma):
        seen.append(sigma)
        return -0.7 * x / sigma

    field = guided(lambda x, sigma: -x / sigma, weak, guidance, lowest=0.5)
    torch.testing.assert_close(field(x, 0.5), -gain * x / 0.5, rtol=1e-12, atol=0)
    torch.testing.assert_close(field(x, 0.49), -x / 0.49, rtol=1e-12, atol=0)
    assert seen == [0.5]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", FROM_NOISE)
def test_led_from_the_gaussian_a_network_counts_as_often_as_guidance_says(
    est, sampler, monkeypatch
):
    """Where the guide's network is zero, guidance w is w times the residual."""
    monkeypatch.setattr(_descents, "GUIDED_FROM", 0.0)
    with torch.no_grad():
        for p in last_layer(est._guide):
            p.zero_()
    own = {"n_corrections": 0} if sampler == "dpm_solver" else {}
    led = est.sample(3, sampler=sampler, guidance=2.5, **own, **FEW)
    plain = est.sample(3, sampler=sampler, guidance=1, **FEW)
    with torch.no_grad():
        for p in last_layer(est._model):
            p.mul_(2.5)
    np.testing.assert_allclose(
        led, est.sample(3, sampler=sampler, guidance=1, **FEW), rtol=1e-4, atol=1e-5
    )
    assert np.abs(led - plain).max() > 0.01


@pytest.mark.parametrize("standardize", ["diag", None])
def test_a_guide_leads_from_a_quarter_deviation_up(standardize):
    """In deviations of the pixels, whatever the units of the model."""
    est, seen = small(standardize=standardize).fit(images()), {}
    for name in ("_model", "_guide"):
        at, asked = getattr(est, name).at, seen.setdefault(name, set())
        vars(getattr(est, name))["at"] = lambda sigma, at=at, asked=asked: (
            asked.add(sigma) or at(sigma)
        )
    est.sample(2, guidance=2.0, random_state=0, n_steps=30)
    unit = 1.0 if standardize else images().std()
    led = {sigma for sigma in seen["_model"] if sigma >= 0.25 * unit}
    assert seen["_guide"] == led
    assert 5 < len(led) < len(seen["_model"]) - 5


@pytest.mark.slow
def test_images_are_led_by_default_and_given_values_are_not(fitted):
    steps = {"random_state": 0, "n_steps": 20}
    drawn = fitted.sample(3, **steps)
    led = {"guidance": 2.0, "n_corrections": 1}
    np.testing.assert_array_equal(drawn, fitted.sample(3, **led, **steps))
    assert np.abs(drawn - fitted.sample(3, guidance=1, n_corrections=1, **steps)).max() > 1e-4
    assert np.abs(drawn - fitted.sample(3, n_corrections=0, **steps)).max() > 1e-4
    drawn = fitted.sample(3, guidance=1, **steps)
    np.testing.assert_array_equal(drawn, fitted.sample(3, guidance=1, n_corrections=0, **steps))
    assert np.isfinite(fitted.sample(3, sampler="reverse_sde", **steps)).all()
    given = np.full(SIZE, np.nan)
    given[0] = 0.5
    few = {"given": given, "n_corrections": 1, **FEW}
    drawn = fitted.sample(2, **few)
    np.testing.assert_array_equal(drawn, fitted.sample(2, guidance=1.0, **few))
    assert np.abs(drawn - fitted.sample(2, guidance=1.5, **few)).max() > 1e-4


@pytest.mark.slow
def test_the_guide_has_learnt_less():
    """At a middle level its denoised images are further from the clean ones."""
    est, X = small(max_iter=20).fit(images(200)), images(50, seed=1)
    early = copy.deepcopy(est)
    early._model = early._guide
    sigma = 0.3 * X.std()
    noisy = X + sigma * np.random.default_rng(0).standard_normal(X.shape)
    errors = [
        ((noisy + sigma**2 * e.score_samples(noisy, sigma=0.3) - X) ** 2).mean()
        for e in (early, est)
    ]
    assert errors[0] > 1.05 * errors[1]


VARIANTS = {
    "range": {},
    "members": {"n_members": 2},
    "ladder": {"n_noise_levels": 12},
    "energy": {"parametrization": "energy"},
    "no test of the residual": {"early_stopping": False, "residual_test": False},
}


@pytest.mark.slow
@pytest.mark.parametrize("params", VARIANTS.values(), ids=list(VARIANTS))
def test_a_copy_is_led_alike(params):
    est = small(**params).fit(images())
    loaded = pickle.loads(pickle.dumps(est))
    kept = est.__getstate__().values()
    assert not any(isinstance(value, torch.Tensor | torch.nn.Module) for value in kept)
    few = {"random_state": 0} | ({} if "n_noise_levels" in params else {"n_steps": 4})
    led, plain = (est.sample(3, guidance=guidance, **few) for guidance in (3.0, 1.0))
    np.testing.assert_array_equal(loaded.sample(3, guidance=3.0, **few), led)
    np.testing.assert_array_equal(loaded.sample(3, guidance=1.0, **few), plain)
    assert np.abs(led - plain).max() > 1e-3


def test_a_guide_that_is_the_network_itself_leads_nowhere(est):
    est._guide = est._model
    drawn = est.sample(3, guidance=50.0, **FEW)
    np.testing.assert_array_equal(drawn, est.sample(3, guidance=1.0, n_corrections=1, **FEW))


def test_a_warm_start_keeps_the_first_guide():
    X = images()
    est = small(warm_start=True).fit(X)
    before = [p.clone() for p in last_layer(est._guide)]
    weights = [p.clone() for p in last_layer(est._model)]
    est.set_params(max_iter=2).fit(X)
    assert all(map(torch.equal, before, last_layer(est._guide)))
    assert not all(map(torch.equal, weights, last_layer(est._model)))


NO_GUIDE = {
    "tables": {
        "network": None,
        "image_shape": None,
        "hidden_layer_sizes": (8,),
        "mixture": False,
    },
    "training that did not help": {"learning_rate_init": 1e-12},
}


@pytest.mark.slow
@pytest.mark.parametrize("params", NO_GUIDE.values(), ids=list(NO_GUIDE))
def test_without_a_guide_none_is_followed(params):
    est = small(**params).fit(images())
    np.testing.assert_array_equal(est.sample(2, **FEW), est.sample(2, guidance=1.0, **FEW))
    with pytest.raises(ValueError, match=r"guidance=2 needs an early network .*leave guidance at"):
        est.sample(2, guidance=2, **FEW)


def test_a_fit_that_runs_away_leaves_no_guide_that_did():
    est = small(learning_rate_init=1e4, max_iter=16)
    with pytest.raises(DivergenceError):
        est.fit(images())
    drawn = est.sample(2, **FEW)
    assert np.isfinite(drawn).all()
    np.testing.assert_array_equal(drawn, est.sample(2, guidance=1.0, **FEW))


@pytest.mark.parametrize("guidance", [0.99, 0, -1, 100, np.nan, np.inf, "2", True, [1.5]])
def test_a_guidance_that_is_none_is_refused_by_name(fitted, guidance):
    with pytest.raises(ValueError, match=r"guidance=.* it must be a finite number >= 1 and < 100"):
        fitted.sample(2, guidance=guidance, **FEW)


def test_one_level_has_no_guidance():
    est = small(sigma=0.3).fit(images())
    with pytest.raises(TypeError, match="'guidance', which sampler='langevin' does not take"):
        est.sample(2, guidance=1.5)
