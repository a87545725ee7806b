"""The contract of an estimator of images: every feature of the denoiser, on such rows."""

import math
import pickle
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from columns import SHAPE, SIZE, images, small
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skscore import DenoisingScoreEstimator, _torch
from skscore.datasets import make_shapes
from skscore.estimators import _images, _many_levels
from skscore.exceptions import DivergenceError
from skscore.networks import Bound, Memory, UNet
from skscore.objectives import denoising, noise_conditional
from skscore.testing import score_estimator_checks


class Flat(torch.nn.Module):
    """A perceptron of a user's, which begins anywhere."""

    def __init__(self, n_features, n_outputs, generator):
        super().__init__()
        std = {"mean": 0.0, "std": 0.3, "generator": generator}
        self.first = torch.nn.Parameter(torch.empty(n_features + 1, 8).normal_(**std))
        self.last = torch.nn.Parameter(torch.empty(8, n_outputs).normal_(**std))

    def forward(self, x, log_sigma):
        return torch.tanh(torch.cat([x, log_sigma], dim=1) @ self.first) @ self.last


def flat_network(n_features, n_outputs, *, generator):
    return Flat(n_features, n_outputs, generator)


VARIANTS = {
    "range": {},
    "members": {"n_members": 2},
    "ladder": {"n_noise_levels": 12},
    "energy": {"parametrization": "energy", "hidden_layer_sizes": (8, 8)},
    "flat": {"network": flat_network},
    "one level, energy": {"sigma": 0.3, "parametrization": "energy"},
    "no early stopping": {"early_stopping": False, "residual_test": False},
    "nothing remembered": {"keep_rows": False},
}
MANY = {name: own for name, own in VARIANTS.items() if "one level" not in name}


@cache
def fit_of(name):
    return small(**VARIANTS[name]).fit(images())


@pytest.fixture(params=VARIANTS, ids=list(VARIANTS))
def fitted(request):
    return fit_of(request.param)


@pytest.fixture(params=MANY, ids=list(MANY))
def ladder(request):
    return fit_of(request.param)


@pytest.mark.slow
def test_the_methods_give_what_they_do_for_other_rows(fitted):
    X = images(6, seed=1)
    s = fitted.score_samples(X)
    assert s.shape == X.shape
    np.testing.assert_allclose(s[3:5], fitted.score_samples(X[3:5]), rtol=1e-4, atol=1e-4)
    assert np.isfinite(fitted.score(X))
    walk = {"n_steps": 3, "sampler": "reverse_sde"}
    if not fitted._design.levels.between:
        walk["sampler"] = fitted._samplers[0]
    S = fitted.sample(35, random_state=0, **walk)
    assert S.shape == (35, SIZE)
    np.testing.assert_array_equal(S[:3], fitted.sample(3, random_state=0, **walk))


def test_a_pickle_is_the_same_estimator(fitted):
    X, copy = images(5, seed=1), pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.score_samples(X), fitted.score_samples(X))
    assert not any(torch.is_tensor(v) for v in fitted.__getstate__().values())


@pytest.mark.slow
def test_two_fits_are_the_same_and_another_seed_is_not():
    X = images()
    a, b, other = (small(random_state=seed).fit(X).score_samples(X[:5]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - other).max() > 1e-3


@pytest.mark.slow
def test_known_pixels_come_back_and_others_are_drawn(ladder):
    X = images(2, seed=3)
    given = X[0].copy()
    given[SIZE // 2 :] = np.nan
    steps = {} if not ladder._design.levels.between else {"n_steps": 5}
    S = ladder.sample(4, given=given, random_state=0, n_corrections=1, **steps)
    np.testing.assert_array_equal(S[:, : SIZE // 2], np.tile(given[: SIZE // 2], (4, 1)))
    assert np.ptp(S[:, SIZE // 2 :], axis=0).min() > 1e-3


@pytest.mark.slow
def test_codes_go_there_and_back():
    est = small(max_iter=8).fit(images(200))
    X = images(4, seed=4)
    Z = est.transform(X)
    np.testing.assert_allclose(est.inverse_transform(Z), X, atol=1e-3 * X.std())
    assert np.abs(Z - est.transform(X[::-1])).max() > 0.1


@pytest.mark.slow
def test_estimates_of_the_trace_are_about_the_exact_one():
    """Within five standard errors of the probes, which are fewer than the pixels."""
    est, X = small(max_iter=8).fit(images(200)), images(2, seed=5)
    exact = est.log_density(X, trace="exact", n_steps=4)
    value, error = est.log_density(
        X, trace="hutchinson", n_steps=4, n_probes=20, random_state=0, return_std=True
    )
    assert (np.abs(value - exact) < 5 * error + 1e-2).all()
    assert error.max() > 1e-3


@pytest.mark.slow
def test_a_field_that_training_does_not_help_is_the_isotropic_gaussian():
    """Independent pixels of one law: the residual test returns to the Gaussian, in closed form."""
    X = np.random.default_rng(0).normal(0.5, 0.2, (300, SIZE))
    est = small(max_iter=2, learning_rate_init=1e-6).fit(X)
    m, v = X.mean(), X.var()
    sigma = est.sigmas_[-1] * math.sqrt(v)
    expected = -(X[:5] - m) / (v + sigma**2)
    np.testing.assert_allclose(est.score_samples(X[:5]), expected, rtol=1e-5, atol=1e-4)
    r2 = ((X[:5] - m) ** 2).sum(axis=1)
    log_density = -0.5 * (r2 / (v + sigma**2) + SIZE * np.log(2 * np.pi * (v + sigma**2)))
    np.testing.assert_allclose(est.log_density(X[:5], n_steps=2), log_density, rtol=1e-5, atol=1e-3)


def test_the_score_is_the_yardstick_of_other_estimators():
    """Of the isotropic Gaussian, in closed form: within five errors of 16 probes to a row."""
    X = np.random.default_rng(0).normal(0.5, 0.2, (300, SIZE))
    est = small(max_iter=2, learning_rate_init=1e-6).fit(X)
    S, rows = est.covariance_, X[:50]
    s = est.score_samples(rows)
    precision = -(s[0] / (rows[0] - X.mean()))[0]
    exact = precision * np.trace(S) - 0.5 * np.mean(np.sum((s @ S) * s, axis=1))
    off_diagonal = S - np.diag(np.diag(S))
    error = precision * math.sqrt(2 * (off_diagonal**2).sum() / (16 * len(rows)))
    assert abs(est.score(rows) - exact) < 5 * error
    assert 5 * error < 0.04 * exact  # so that a factor or a sign would be seen
    alone = est._field(rows, S)[1].std()  # a row's error is its own: the trace is the same
    assert alone == pytest.approx(error * math.sqrt(len(rows)), rel=0.3)
    diagonal = np.linspace(0.1, 0.9, SIZE)  # signs see such a yardstick without error
    exact = precision * diagonal.sum() - 0.5 * np.mean((s**2) @ diagonal)
    value = est.score_details(rows, np.diag(diagonal)).value
    np.testing.assert_allclose(value, exact, rtol=1e-4)


def test_each_image_of_a_batch_has_a_noise_level_of_its_own():
    """Only the two opposite draws of one image share theirs."""
    seen = []

    class Spy(Flat):
        def forward(self, x, log_sigma):
            if torch.is_grad_enabled() and len(x) == 32:  # a step of training: 16 images
                seen.append(len(log_sigma.unique()))
            return super().forward(x, log_sigma)

    small(network=lambda d, k, *, generator: Spy(d, k, generator), max_iter=1).fit(images())
    assert seen
    assert set(seen) == {16}


def memories(model):
    return [m for m in model.modules() if isinstance(m, Memory)]


@pytest.mark.parametrize("standardize", ["diag", None])
@pytest.mark.parametrize("n_members", [1, 2])
def test_training_images_are_remembered_in_deviations(standardize, n_members):
    X = images()
    X = X[np.argsort(X.sum(axis=1))]
    est = small(standardize=standardize, n_members=n_members, keep_rows=True).fit(X)
    expected = (X - X.mean()) / X.std()
    for there in (est, pickle.loads(pickle.dumps(est))):
        held = memories(there._model)
        assert len(held) == n_members
        for memory in held:
            rows = memory.rows.numpy()
            np.testing.assert_allclose(rows[np.argsort(rows.sum(axis=1))], expected, atol=1e-4)
            assert memory.own is None
            assert memory.variance == held[0].variance > 0
        assert [len(memory.rows) for memory in memories(there._guide)] == [0] * n_members


def test_no_images_are_remembered_where_that_is_not_wanted():
    est = small(keep_rows=False).fit(images())
    assert [len(memory.rows) for memory in memories(est._model)] == [0]


class Told(Flat):
    """A network that says whether it was given rows to remember."""

    told = False

    def forward(self, x, log_sigma=None):
        return super().forward(x, x[:, :1] if log_sigma is None else log_sigma)

    def remember(self, rows):
        self.told = True


@pytest.mark.parametrize(("params", "told"), [({}, True), ({"sigma": 0.3}, False)])
def test_rows_are_given_only_where_each_is_hidden_in_training(params, told):
    """Objectives at one level do not hide them."""
    made = small(network=lambda d, k, *, generator: Told(d, k, generator), max_iter=1, **params)
    modules = made.fit(images())._model.modules()
    assert [m.told for m in modules if isinstance(m, Told)] == [told]


class Counting(Told):
    """One that also says how many steps of training came before it was given them."""

    def __init__(self, d, k, generator):
        super().__init__(d, k, generator)
        self.steps, self.given_after = [], []

    def forward(self, x, log_sigma=None):
        if torch.is_grad_enabled() and len(x) == 20:  # of ten images, two draws each
            self.steps.append(1)
        return super().forward(x, log_sigma)

    def remember(self, rows):
        self.given_after.append(len(self.steps))


def test_a_network_is_given_rows_once_its_guide_has_learnt_without():
    """Of 32 steps the guide has had two; on a warm start there is a guide from the first step."""
    params = {"validation_fraction": 0.2, "batch_size": 10, "max_iter": 4, "warm_start": True}
    est = small(network=lambda d, k, *, generator: Counting(d, k, generator), **params)
    est.fit(images())
    (network,) = (m for m in est._model.modules() if isinstance(m, Counting))
    assert network.given_after == [2]
    assert est._guide is not None
    assert not [m for m in est._guide.modules() if isinstance(m, Counting) and m.given_after]
    est.fit(images())
    (network,) = (m for m in est._model.modules() if isinstance(m, Counting))
    assert network.given_after == [0]


class Interrupted(Counting):
    """One that is interrupted at the first step of training."""

    def forward(self, x, log_sigma=None):
        before, value = len(self.steps), super().forward(x, log_sigma)
        if len(self.steps) > before:
            raise KeyboardInterrupt
        return value


def test_a_fit_that_is_interrupted_at_once_remembers_as_its_copy_does():
    params = {"validation_fraction": 0.2, "batch_size": 10}
    est = small(network=lambda d, k, *, generator: Interrupted(d, k, generator), **params)
    with pytest.raises(KeyboardInterrupt):
        est.fit(images())
    (network,) = (m for m in est._model.modules() if isinstance(m, Interrupted))
    assert network.given_after == [1]


@pytest.mark.parametrize("high", [1.0, 30.0, 300.0])
def test_a_row_is_known_again_after_noise_in_float32(high):
    """In training each row is hidden from itself; what noise left of it is rounded."""
    est, seen = small(sigma_max=high).fit(images()), []
    (memory,) = memories(est._model)
    without = memory._without
    memory._without = lambda own: seen.append(without(own)) or seen[-1]
    x = torch.tensor(est._affine.transform(images()), dtype=torch.float32)
    noise = {"generator": torch.Generator().manual_seed(0), "levels": est._design.levels}
    noise_conditional(est._model, x, shared=1, **noise)
    hidden = torch.cat(seen) < -1e6
    assert (hidden.sum(dim=1) == 1).all()
    assert len(hidden) == 200


def test_images_are_kept_once_in_a_file():
    X = np.random.default_rng(0).uniform(size=(500, SIZE))
    sizes = [len(pickle.dumps(small(keep_rows=keep).fit(X))) for keep in (False, True)]
    assert X.size * 4 <= sizes[1] - sizes[0] < 1.5 * X.size * 4


def test_a_warm_start_remembers_the_new_images():
    est = small(warm_start=True).fit(images())
    guide = {name: w.clone() for name, w in est._guide.state_dict().items()}
    est.fit(images(40, seed=3))
    assert [len(memory.rows) for memory in memories(est._model)] == [40]
    assert [len(memory.rows) for memory in memories(est._guide)] == [0]
    assert all(torch.equal(w, guide[name]) for name, w in est._guide.state_dict().items())


def test_what_is_given_and_no_number_is_refused_by_name():
    est = small().fit(images())
    for broken in ([1.0] * (SIZE - 1) + ["x"], np.ones(SIZE - 1), np.full(SIZE, np.inf)):
        with pytest.raises(ValueError, match="given"):
            est.sample(1, given=broken)


@pytest.mark.slow
def test_training_finds_the_columns():
    """After some training a sample is one bright column: a Gaussian's samples are not."""
    est = small(max_iter=25, hidden_layer_sizes=(16, 16)).fit(images(200))
    S = est.sample(100, random_state=0, n_steps=30).reshape(-1, 4, 6)

    def share_of_columns(rows):
        bright = rows > 0.5
        whole = bright.all(axis=1).sum(axis=1) == 1
        return np.mean(whole & (bright.sum(axis=(1, 2)) == 4))

    assert share_of_columns(S) > 0.8
    noise = np.random.default_rng(0).normal(images().mean(), images().std(), S.shape)
    assert share_of_columns(noise) < 0.05


def test_a_warm_start_goes_on():
    X = images()
    est = small(warm_start=True, early_stopping=False, residual_test=False).fit(X)
    first = est.score_samples(X[:5])
    again = est.fit(X).score_samples(X[:5])
    assert np.abs(first - again).max() > 1e-3


def test_a_warm_start_goes_on_with_other_images():
    """Their deviation is another; the law of the noise levels stays that of the first fit."""
    est = small(warm_start=True, early_stopping=False, residual_test=False).fit(images())
    law, level = est._design.levels, est.sigmas_
    for X in (images()[::-1], images(40, seed=3)):
        est.fit(X)
        assert est._design.levels == law
        np.testing.assert_array_equal(est.sigmas_, level)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"sigma_max": 3.0}, "but the noise levels .*sigma_max.* changed"),
        ({"hidden_layer_sizes": (4,)}, "but hidden_layer_sizes changed"),
        ({"image_shape": (1, 6, 4)}, "but image_shape changed"),
        ({"activation": "tanh"}, "but activation changed"),
        ({"n_members": 2}, "but n_members changed"),
        ({"network": flat_network}, "but network, .* changed"),
    ],
)
def test_a_warm_start_says_what_is_another(params, words):
    est = small(warm_start=True, max_iter=1).fit(images())
    with pytest.raises(ValueError, match=words):
        est.set_params(**params).fit(images())


def test_a_warm_start_compares_every_keyword_of_a_factory():
    """One more is another network; an array and a list are the same where their items are."""
    shaped = partial(UNet, image_shape=SHAPE, widths=np.array([4, 4]))
    est = small(network=shaped, warm_start=True, max_iter=1).fit(images())
    est.fit(images())
    shaped = partial(UNet, image_shape=list(SHAPE), widths=np.array([4, 4]))
    est.set_params(network=shaped).fit(images())
    with pytest.raises(ValueError, match="but attention changed"):
        est.set_params(network=partial(shaped, attention=False)).fit(images())


@pytest.mark.parametrize("network", [partial(UNet, image_shape=SHAPE, widths=(4,)), flat_network])
def test_a_warm_start_does_not_make_images_of_a_table(network):
    alike = {"n_members": 1, "mixture": False, "warm_start": True, "max_iter": 1}
    for first, second in ((None, SHAPE), (SHAPE, None)):
        est = small(network=network, image_shape=first, **alike).fit(images())
        with pytest.raises(ValueError, match=r"image_shape.* changed"):
            est.set_params(image_shape=second).fit(images())


def test_sides_may_be_small_integers():
    X = np.random.default_rng(0).uniform(size=(40, 256))
    est = small(image_shape=np.array([1, 16, 16], dtype=np.uint8), max_iter=1).fit(X)
    assert est.sample(1, random_state=0, n_steps=2).shape == (1, 256)


def test_masked_pixels_are_drawn():
    X, est = images(1), small().fit(images())
    hidden = np.arange(SIZE) >= 12
    walk = {"random_state": 0, "n_steps": 3, "n_corrections": 1}
    S = est.sample(1, given=np.ma.masked_array(X[0], mask=hidden), **walk)
    np.testing.assert_array_equal(S[0, ~hidden], X[0, ~hidden])
    np.testing.assert_array_equal(S, est.sample(1, given=np.where(hidden, np.nan, X[0]), **walk))


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_a_scale_that_float32_cannot_hold_is_no_fault_of_the_rate(scale):
    with pytest.raises(DivergenceError, match=r"before the first step.*standardize='diag'"):
        small(standardize=None, max_iter=1).fit(scale * images())


def test_a_row_does_not_depend_on_the_others():
    est = small().fit(images())
    X = images(5)
    own = [est.score(row[None]) for row in X]
    assert est.score(X[::-1]) == pytest.approx(np.mean(own), rel=1e-4)
    whole = est.log_density(X, n_steps=2, trace="hutchinson", random_state=0)
    alone = [est.log_density(row[None], n_steps=2, trace="hutchinson", random_state=0) for row in X]
    np.testing.assert_allclose(np.concatenate(alone), whole, rtol=1e-4)


def test_a_scale_for_each_pixel_is_told_from_another_range():
    X = images()
    X[:, 0] = 0.0
    X[0, 0] = 1.0  # rarely lit
    Z = StandardScaler().fit_transform(X)
    est = small().fit(Z[1:])
    with pytest.raises(ValueError, match="a scale for each, as StandardScaler's"):
        est.score(Z)


def test_large_images_take_no_matrix(monkeypatch):
    """Of the pixels squared there is the covariance, and no other to be inverted or kept."""
    monkeypatch.setattr(np.linalg, "inv", None)
    X = np.random.default_rng(0).uniform(size=(8, 3 * 16 * 16))
    est = small(image_shape=(3, 16, 16), hidden_layer_sizes=(4, 4), max_iter=1).fit(X)
    seen = []
    est.sample(2, random_state=0, n_steps=2, callback=lambda *args: seen.append(args))
    assert len(seen) == 2
    assert len(pickle.dumps(est)) < 1.5 * est.covariance_.nbytes


def test_images_whose_covariance_does_not_fit_are_refused():
    with pytest.raises(MemoryError, match=r"X has 1000000 columns \(the pixels of images\)"):
        small(image_shape=(1, 1000, 1000)).fit(np.random.default_rng(0).uniform(size=(2, 10**6)))


def test_a_module_that_is_there_already_stays_as_it_is():
    there = flat_network(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    before = {name: w.clone() for name, w in there.state_dict().items()}
    est = small(network=lambda n_features, n_outputs, *, generator: there, residual_test=False)
    first = est.fit(images()).score_samples(images(3))
    assert all(torch.equal(w, before[name]) for name, w in there.state_dict().items())
    np.testing.assert_array_equal(est.fit(images()).score_samples(images(3)), first)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (UNet, r"partial\(UNet, image_shape=.*missing 1 required keyword-only argument"),
        (partial(UNet, image_shape=SHAPE, width=(4,)), "unexpected keyword argument 'width'"),
        (partial(UNet, image_shape=SHAPE, widths=8), "widths=8 is not valid"),
    ],
)
def test_what_a_factory_says_is_told(network, words):
    with pytest.raises(ValueError, match=words):
        small(network=network).fit(images())


def test_a_default_device_of_the_caller_has_no_part():
    plain = small().fit(images()).score_samples(images(3))
    try:
        torch.set_default_device("meta")
        there = small().fit(images()).score_samples(images(3))
    finally:
        torch.set_default_device(None)
    np.testing.assert_array_equal(there, plain)


def test_it_is_searched_and_piped_as_any_estimator():
    X = images(120)
    search = GridSearchCV(small(max_iter=1), {"hidden_layer_sizes": [(4,), (8, 8)]}, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    pipe = make_pipeline(MinMaxScaler(), clone(small(max_iter=1))).fit(X)
    assert np.isfinite(pipe.score(X))


# Its rows are no images: the columns differ in place and scale, and float32 keeps seven digits.
OF_TABLES = {"check_field_points_to_the_data", "check_sample_shape", "check_rows_are_independent"}
# What this file has, or what is no matter of the network, and takes hundreds of evaluations.
ELSEWHERE = {"check_sample_rows_are_independent", "check_sample_honours_random_state"}
CHECKS = [c for c in score_estimator_checks() if c.__name__ not in OF_TABLES | ELSEWHERE]


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract_of_a_score_estimator(check):
    check(small(image_shape=(1, 1, 3), hidden_layer_sizes=(4,)))


BFLOAT16 = {
    "range": ({}, True),
    "ladder": ({"n_noise_levels": 12}, True),
    "one level": ({"sigma": 0.3}, False),
    "energy": ({"parametrization": "energy"}, False),
    "our factory": ({"network": partial(UNet, image_shape=SHAPE, widths=(4,))}, True),
    "own network": ({"network": flat_network}, False),
    "tables": ({"network": None, "image_shape": None}, False),
}


@pytest.mark.parametrize("has_it", [True, False])
@pytest.mark.parametrize(("params", "wanted"), BFLOAT16.values(), ids=list(BFLOAT16))
def test_unets_at_many_levels_train_in_bfloat16_where_the_device_has_it(
    params, wanted, has_it, monkeypatch
):
    seen = []

    def watched(objective):
        def watching(*args, **kwargs):
            seen.append(torch.is_autocast_enabled("cpu"))
            return objective(*args, **kwargs)

        return watching

    monkeypatch.setattr(_torch, "has_fast_bfloat16", lambda device: has_it)
    monkeypatch.setattr(_many_levels, "noise_conditional", watched(noise_conditional))
    monkeypatch.setattr(_images, "denoising", watched(denoising))
    est = small(**params, max_iter=1, early_stopping=False).fit(images(32))
    assert set(seen) == {wanted and has_it}
    assert est.score_samples(images(3)).dtype == np.float64


def test_a_cpu_has_fast_bfloat16_where_its_flags_and_its_maker_say_so():
    flags = Path("/proc/cpuinfo")
    if not flags.exists() or not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("no list of the processor's flags, or a torch that cannot tell")
    words = set(flags.read_text().split())
    fast = "amx_bf16" in words or {"avx512_bf16", "AuthenticAMD"} <= words
    assert _torch.has_fast_bfloat16(torch.device("cpu")) == fast


@pytest.mark.parametrize(
    ("known", "fast"),
    [
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, True),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({}, False),
    ],
)
def test_where_bfloat16_is_fast(known, fast, monkeypatch):
    """On Intel without AMX a step was 1.2 times slower than in float32 (`doc/guide/images.md`)."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert _torch.has_fast_bfloat16(torch.device("cpu")) == fast


# Faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "columns", "words"),
    [
        ({"image_shape": (1, 5, 5)}, 24, r"24 columns, but an image of image_shape=\(1, 5, 5\)"),
        ({"image_shape": (3, 4, 6)}, 24, r"or set image_shape=\(1, 4, 6\)"),
        ({"image_shape": (1, 4, 6)}, 72, r"or set image_shape=\(3, 4, 6\)"),
        ({"image_shape": None}, 24, r"needs image_shape=\(channels, height, width\)"),
        ({"image_shape": None}, 25, r"such as \(1, 5, 5\)"),
        ({"image_shape": (4, 6)}, 24, r"image_shape=\(4, 6\) is not valid.*three integers"),
        ({"image_shape": (1, 4, 6.0)}, 24, r"image_shape=.*three integers"),
        ({"image_shape": (1, 0, 6)}, 24, r"image_shape=.*three integers"),
        ({"image_shape": "28x28"}, 24, r"image_shape=.*three integers"),
        ({"image_shape": 28}, 24, r"image_shape=.*three integers"),
        ({"image_shape": {1, 4, 6}}, 24, r"image_shape=.*a tuple of three integers"),
        ({"image_shape": (1, 1, 10_000)}, 24, r"image_shape=.*from 1 to 9999"),
        ({"image_shape": (n for n in (1, 4, 6))}, 24, r"image_shape=.*a tuple of three"),
        ({"network": None}, 24, r"image_shape=.* has no meaning without a network"),
        ({"network": "resnet"}, 24, r"network='resnet' is not valid.*'unet', for images"),
        ({"standardize": "full"}, 24, r"standardize='full' mixes the pixels"),
        ({"hidden_layer_sizes": ()}, 24, r"hidden_layer_sizes"),
        ({"hidden_layer_sizes": (2,) * 5}, 24, r"hidden_layer_sizes=.*at most 4 for images of 4 x"),
        ({"hidden_layer_sizes": np.array(4)}, 24, r"hidden_layer_sizes=array\(4\) is not valid"),
        ({"hidden_layer_sizes": {4, 8}}, 24, r"hidden_layer_sizes={.*a sequence"),
        ({"hidden_layer_sizes": b"\x04"}, 24, r"hidden_layer_sizes=.*a sequence"),
        ({"image_shape": np.array(24)}, 24, r"image_shape=array\(24\).*a tuple of three"),
        ({"network": partial(UNet, image_shape=(1, 6, 4))}, 24, r"\(1, 4, 6\), but that of net"),
    ],
)
def test_what_does_not_belong_together_is_refused(params, columns, words):
    X = np.random.default_rng(0).uniform(size=(30, columns))
    with pytest.raises(ValueError, match=words):
        small(**params).fit(X)


@pytest.mark.parametrize("method", ["score_samples", "score", "log_density", "transform"])
def test_images_of_another_range_are_refused(method, fitted):
    if not hasattr(fitted, method):
        pytest.skip("no such method at one level")
    X = images(3, seed=6)
    with pytest.raises(ValueError, match=r"X has pixels from .* to 2[0-9]{2}.*scale these images"):
        getattr(fitted, method)(255 * X)
    with pytest.raises(ValueError, match="NaN"):
        getattr(fitted, method)(np.where(X > 0.5, np.nan, X))
    with pytest.raises(ValueError, match="features"):
        getattr(fitted, method)(X[:, :-1])


def test_noise_is_no_other_range():
    """Images blurred at a level belong there, and not at the lowest."""
    est = small().fit(images())
    sigma = est.sigmas_[0]
    noise = np.random.default_rng(0).standard_normal((3, SIZE)) * sigma * images().std()
    assert np.isfinite(est.score_samples(images(3) + noise, sigma=sigma)).all()
    with pytest.raises(ValueError, match="X has pixels"):
        est.score_samples(images(3) + noise)


def test_given_pixels_of_another_range_are_refused():
    est = small().fit(images())
    given = np.full(SIZE, np.nan)
    given[:3] = 255.0
    with pytest.raises(ValueError, match="given has pixels from 255"):
        est.sample(1, given=given)


def test_equal_images_are_refused():
    with pytest.raises(ValueError, match="zero variance"):
        small().fit(np.full((10, SIZE), 0.3))


def test_constant_pixels_are_silent_and_stay_where_they_are(recwarn):
    """Borders that are always black are no fault of an image."""
    X = images()
    X[:, :2] = 0.0
    est = small().fit(X)
    assert est.sample(2, random_state=0, n_steps=3).shape == (2, SIZE)
    assert not [w for w in recwarn if "onstant" in str(w.message)]


def test_the_unet_is_a_factory_of_its_own_with_other_parameters():
    X = make_shapes(40, random_state=0)[0]
    network = partial(UNet, image_shape=(1, 28, 28), widths=(4, 8), attention=True)
    est = DenoisingScoreEstimator(
        network=network, image_shape=(1, 28, 28), max_iter=1, random_state=0
    ).fit(X)
    assert est.sample(2, random_state=0, n_steps=2).shape == (2, 784)


def test_at_one_level_the_network_is_told_which():
    est = small(sigma=0.3, max_iter=1).fit(images(40))
    (network,) = (m for m in est._design.build().modules() if isinstance(m, Bound))
    assert network.condition.item() == pytest.approx(math.log(0.3))
