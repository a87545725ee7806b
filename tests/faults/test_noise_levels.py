"""Denoising at many levels: the levels, densities, codes, and samples from noise."""

import copy
import functools
import pickle
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch

from skscore.exceptions import DataWarning, DivergenceError, SamplingWarning
from skscore.samplers import FROM_NOISE

NAN, INF = float("nan"), float("inf")
MANY = pytest.mark.parametrize("kind", ["denoising", "ladder", "denoising-energy"])
COARSE = pytest.mark.filterwarnings("ignore:A ladder of .* is too coarse")


@pytest.fixture
def fitted(make_kind, X):
    return make_kind("denoising").fit(X)


def steps(fitted, n_steps, sampler="auto"):
    """Return the keyword; on a ladder only Langevin's chains have a number of steps."""
    ladder = len(fitted.sigmas_) > 2 and sampler in ("auto", *FROM_NOISE)
    return {} if ladder and sampler != "annealed_langevin" else {"n_steps": n_steps}


def inner_level(fitted):
    high, low = fitted.sigmas_[[0, -1]]
    return float(fitted.sigmas_[1]) if len(fitted.sigmas_) > 2 else float(np.sqrt(high * low))


# The levels ---------------------------------------------------------------------------------------

ENDS = {
    "turned round": {"sigma_min": 1.0, "sigma_max": 0.5},
    "equal": {"sigma_min": 1.0, "sigma_max": 1},
    "below the automatic": {"sigma_min": 1e3},
    "above the automatic": {"sigma_max": 1e-3},
    "of a ladder": {"sigma_min": 2.0, "sigma_max": 1.0, "n_noise_levels": 5},
}


@pytest.mark.parametrize("case", ENDS)
def test_ends_that_are_no_range_are_named_with_their_values(make_kind, X, case):
    estimator = make_kind("denoising", **ENDS[case])
    with pytest.raises(ValueError, match=r"sigma_min=[\d.e+-]+ must be below sigma_max=") as error:
        estimator.fit(X)
    for name in ("sigma_min", "sigma_max"):
        if name in ENDS[case]:
            assert f"{name}={ENDS[case][name]:g}" in str(error.value)
    assert "auto" in str(error.value)
    assert not hasattr(estimator, "sigmas_")


NARROW = {
    "neighbours": {"sigma": [1.0, np.nextafter(1.0, 0)]},
    "a range of one": {"sigma_min": 0.5, "sigma_max": np.nextafter(0.5, 1)},
    "many in a narrow range": {"sigma_min": 0.5, "sigma_max": 0.5 + 1e-7, "n_noise_levels": 50},
    "a wide range": {"sigma_min": 1e-6, "sigma_max": 1e6},
    "tiny": {"sigma_min": 1e-8},
}


@COARSE
@pytest.mark.parametrize("case", NARROW)
def test_a_strange_range_is_finite_or_refused(make_kind, X, attempt, case):
    fitted, error = attempt(
        (ValueError, DivergenceError), make_kind("denoising", **NARROW[case]).fit, X
    )
    if error is not None:
        assert "sigma" in str(error)
        return
    assert np.isfinite(fitted.score_samples(X)).all()
    assert np.isfinite(fitted.log_density(X[:5])).all()
    assert np.isfinite(fitted.inverse_transform(fitted.transform(X[:5]))).all()
    for sampler in FROM_NOISE:
        few = {} if "sigma" in NARROW[case] else steps(fitted, 5, sampler)
        assert np.isfinite(fitted.sample(3, sampler=sampler, random_state=0, **few)).all()


@MANY
@pytest.mark.parametrize("sigma", [1e-4, 0.0999, 1e-300, 50.0, 1e9, 1e300])
def test_a_level_outside_the_range_is_refused_with_the_range(make_kind, X, kind, sigma):
    fitted = make_kind(kind, **({} if kind == "ladder" else {"sigma_min": 0.1})).fit(X)
    calls = [fitted.score_samples, *([fitted.energy] if hasattr(fitted, "energy") else [])]
    for call in calls:
        with pytest.raises(ValueError, match=r"trained at noise levels") as error:
            call(X, sigma=sigma)
        for named in (f"sigma={sigma!r}", f"{fitted.sigmas_[0]:g}", f"{fitted.sigmas_[-1]:g}"):
            assert named in str(error.value)
        for end in fitted.sigmas_[[0, -1]]:  # the ends are inside, rounded or not
            values = [call(X, sigma=float(s)) for s in (end, end * (1 + 1e-12), end * (1 - 1e-12))]
            assert np.isfinite(values).all()
        np.testing.assert_array_equal(call(X), call(X, sigma=float(fitted.sigmas_[-1])))
        assert np.abs(call(X, sigma=inner_level(fitted)) - call(X)).max() > 1e-3
        if kind == "ladder":  # as it is printed, and none between its levels
            level = float(fitted.sigmas_[2])
            np.testing.assert_array_equal(call(X, sigma=float(f"{level:g}")), call(X, sigma=level))
            np.testing.assert_array_equal(call(X, sigma=np.float32(level)), call(X, sigma=level))
            with pytest.raises(ValueError, match=r"sigma=1\.0 .* 6, 3\.80697, 2\.4155, "):
                call(X, sigma=1.0)


@pytest.mark.parametrize("sigma", [0, -1.0, NAN, INF, "x", [1.0], True, 1j, np.ones(2)])
@pytest.mark.parametrize("kind", ["denoising", "one-level"])
def test_a_level_that_is_no_positive_number_is_refused(make_kind, X, kind, sigma):
    with pytest.raises(ValueError, match=r"sigma=.* is not valid: it must be a finite number"):
        make_kind(kind).fit(X).score_samples(X, sigma=sigma)


def test_one_level_knows_that_level_alone(make_kind, X):
    fitted = make_kind("one-level").fit(X)
    field = fitted.score_samples(X)
    np.testing.assert_array_equal(fitted.score_samples(X, sigma=np.float64(0.3)), field)
    with pytest.raises(ValueError, match=r"sigma=0\.31 .* noise levels? 0\.3"):
        fitted.score_samples(X, sigma=0.31)
    assert fitted.sigmas_.tolist() == [0.3]
    for name in ("transform", "fit_transform", "inverse_transform", "log_density"):
        assert not hasattr(fitted, name)
    for sampler in FROM_NOISE:
        with pytest.raises(ValueError, match=rf"sampler='{sampler}' is not valid"):
            fitted.sample(3, sampler=sampler)
    for name in ("n_corrections", "churn"):
        with pytest.raises(TypeError, match=f"got .*'{name}'"):
            fitted.sample(3, **{name: 1})


# Densities ----------------------------------------------------------------------------------------

BAD_QUERIES = {
    "n_steps": [0, -1, 2.5, "3", True, NAN],
    "n_probes": [1, 0, -1, 2.5, None, True, "9"],
    "trace": ["nope", "", None, 1, True, ["exact"], "Exact"],
    "random_state": ["a", -1, 2**32, 1.5, [1]],
    "return_std": ["yes", 3, None, 1.0],
}


@pytest.mark.parametrize("name", BAD_QUERIES)
def test_a_bad_keyword_of_log_density_is_refused_by_name(fitted, X, name):
    for value in BAD_QUERIES[name]:
        with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
            fitted.log_density(X[:2], **{name: value})


@MANY
def test_the_estimated_density_is_the_exact_one_within_its_error(make_kind, X, kind):
    fitted = make_kind(kind).fit(X)
    rows, few = X[:12], {} if kind == "ladder" else {"n_steps": 8}
    exact, none = fitted.log_density(rows, return_std=True, **few)
    assert (none == 0).all()
    how = {"trace": "hutchinson", "return_std": True, "random_state": 0} | few
    value, error = fitted.log_density(rows, n_probes=64, **how)
    assert value.shape == error.shape == (12,)
    assert (error > 0).all()
    assert (np.abs(value - exact) < 5 * error).all()
    assert np.abs(value - exact).max() > 0  # it is an estimate
    more = fitted.log_density(rows, n_probes=256, **how)[1]
    assert 0.35 < np.median(more / error) < 0.65  # a half, by the root of the directions
    again = fitted.log_density(rows, n_probes=64, **how)
    np.testing.assert_array_equal(again, (value, error))
    np.testing.assert_array_equal(fitted.log_density(rows, trace="exact", **few), exact)
    other = fitted.log_density(rows, n_probes=64, **how | {"random_state": 1})[0]
    assert not np.array_equal(other, value)


def test_an_exact_density_draws_nothing(fitted, X, global_seeds):
    global_seeds(5)
    state = np.random.get_state()[2]  # noqa: NPY002
    first = fitted.log_density(X[:4])
    np.testing.assert_array_equal(first, fitted.log_density(X[:4], random_state=3))
    assert np.random.get_state()[2] == state  # noqa: NPY002


def test_the_density_of_many_columns_is_estimated(make_kind):
    rows = np.random.RandomState(0).normal(size=(80, 70))
    fitted = make_kind("denoising").fit(rows)
    how = {"n_steps": 2, "random_state": 0, "return_std": True}
    error = fitted.log_density(rows[:3], **how)[1]
    assert (error > 0).all()
    value, none = fitted.log_density(rows[:3], trace="exact", **how)
    assert (none == 0).all()
    auto = fitted.log_density(rows[:3], **how)
    assert (np.abs(auto[0] - value) < 5 * auto[1]).all()


SCALES = {
    "1e-6": 1e-6,
    "1e6": 1e6,
    "1e-12": 1e-12,
    "1e12": 1e12,
    "mixed": np.array([1e-6, 1.0, 1e6]),
    "offset": 1.0,
}


@COARSE
@pytest.mark.parametrize("case", SCALES)
@pytest.mark.parametrize("standardize", ["diag", "full", None])
@pytest.mark.parametrize("kind", ["denoising", "ladder"])
def test_densities_codes_and_samples_have_the_units_of_the_data(
    make_kind, X, standardize, case, kind
):
    c, offset = SCALES[case], 1e8 * (case == "offset")
    unit, parameters = (1.0, {}) if standardize else (c, {"sigma": None})
    if standardize is None and (np.ndim(c) or kind == "ladder"):
        pytest.skip("one unit for all columns, and levels in that unit")
    plain = make_kind(kind, standardize=standardize, **parameters).fit(X)
    other = make_kind(kind, standardize=standardize, **parameters).fit(c * X + offset)
    rows, moved = X[:20], c * X[:20] + offset
    np.testing.assert_allclose(other.sigmas_, plain.sigmas_ * unit, rtol=1e-6)
    logs = np.log(np.broadcast_to(c, 3)).sum()
    np.testing.assert_allclose(
        other.log_density(moved), plain.log_density(rows) - logs, rtol=1e-6, atol=2e-3
    )
    np.testing.assert_allclose(other.transform(moved), plain.transform(rows), atol=2e-3)
    codes = plain.transform(rows)
    back = (other.inverse_transform(codes) - offset) / c
    np.testing.assert_allclose(back, plain.inverse_transform(codes), atol=2e-3)
    level = float(plain.sigmas_[1] if kind == "ladder" else plain.sigmas_[0] / 3)
    field, wanted = c * other.score_samples(moved, level * unit), plain.score_samples(rows, level)
    assert np.abs(field - wanted).max() < 1e-3 * np.abs(wanted).max()
    few = {"random_state": 0} | steps(plain, 6)
    for how in ({}, {"sampler": "probability_flow"}, {"given": True}):
        a, b = (
            e.sample(20, **few, **how | ({"given": given} if how.get("given") else {}))
            for e, given in ((plain, rows * [1, NAN, NAN]), (other, moved * [1, NAN, NAN]))
        )
        np.testing.assert_allclose((b - offset) / c, a, atol=5e-3)


# Codes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 2), (5, 4), (3,), (0, 3), (1, 2, 3), (5, 0)], ids=str)
def test_codes_of_another_shape_are_refused(fitted, shape):
    with pytest.raises(ValueError, match=r"Z has|sample|dim|2D|feature"):
        fitted.inverse_transform(np.ones(shape))


def test_codes_that_are_no_finite_numbers_are_refused(fitted):
    for bad, said in ((NAN, "Z contains NaN"), (INF, "Z contains infinity"), ("a", "string|float")):
        with pytest.raises(ValueError, match=said):
            fitted.inverse_transform([[bad, 0.0, 0.0]])
    with pytest.raises(ValueError, match=r"Z has 4 columns, but codes of Denoising.* have 3"):
        fitted.inverse_transform(np.ones((2, 4)))


@pytest.mark.parametrize("far", [1e2, 1e6, 1e12, 1e150, 1e300, 1.7e308])
def test_codes_of_far_rows_are_finite_and_return_or_are_refused(fitted, attempt, far):
    for rows in (np.full((2, 3), far), [[far, -far, 0.0], [0.0, 1.0, -far]]):
        with np.errstate(all="ignore"):
            codes, error = attempt(ValueError, fitted.transform, rows)
            if error is None:
                back = fitted.inverse_transform(codes)
                np.testing.assert_allclose(back / far, np.asarray(rows) / far, atol=1e-2)
            else:
                assert "too large" in str(error)
            value, error = attempt(ValueError, fitted.log_density, rows)
        assert error is None or "too large" in str(error)
        assert error is not None or (value < -np.log(far)).all()


def test_codes_of_a_row_do_not_depend_on_the_others(fitted, X):
    codes = fitted.transform(X)
    halves = np.concatenate([fitted.transform(X[:7]), fitted.transform(X[7:])])
    np.testing.assert_allclose(halves, codes, rtol=1e-9, atol=1e-12)
    back = fitted.inverse_transform(codes)
    alone = np.concatenate([fitted.inverse_transform(codes[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(alone, back[:9], rtol=1e-9, atol=1e-12)


# Data without a density ---------------------------------------------------------------------------


def degenerate(X):
    whole = np.round(X)
    return {
        "whole numbers": (whole, 3),
        "flags": (np.column_stack([X[:, 0] > 1, X[:, 1] > -2]).astype(float), 2),
        "copies": (np.repeat(X[:30], 2, axis=0), 3),
        "two rows": (X[:2], 1),
        "two rows, many times": (X[np.arange(60) % 2], 1),
        "five rows of twenty columns": (np.random.RandomState(1).normal(size=(5, 20)), 4),
        "collinear": (np.column_stack([X, X @ [1.0, -1.0, 2.0]]), 3),
        "collinear whole numbers": (np.column_stack([whole, whole.sum(axis=1)]), 3),
    }


CASES = list(degenerate(np.ones((60, 3))))


@pytest.mark.parametrize("standardize", ["diag", "full", None])
@pytest.mark.parametrize("case", CASES)
def test_data_without_a_density_are_fitted_in_silence(make_kind, X, draw, standardize, case):
    rows, rank = degenerate(X)[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Columns .* are collinear")
        fitted = make_kind("denoising", standardize=standardize, max_iter=2).fit(rows)
    few = rows[:10]
    assert np.isfinite(fitted.log_density(few)).all()
    assert np.isfinite(fitted.score(rows))
    codes = fitted.transform(few)
    assert codes.shape == (len(few), rank)
    assert len(fitted.get_feature_names_out()) == rank
    np.testing.assert_allclose(fitted.inverse_transform(codes), few, atol=1e-3)
    drawn = draw(fitted, 8)
    assert np.isfinite(drawn).all()
    # Samples and decoded codes are in the span of the rows.
    centred, there = rows - rows.mean(axis=0), drawn - rows.mean(axis=0)
    _, values, V = np.linalg.svd(centred, full_matrices=False)
    V = V[values > 1e-9 * values[0]]
    assert len(V) == rank
    np.testing.assert_allclose(there @ V.T @ V, there, atol=1e-6)
    with pytest.raises(ValueError, match=rf"codes of .* have {rank}"):
        fitted.inverse_transform(np.ones((2, rank + 1)))


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e12, 1e-200])
@pytest.mark.parametrize("standardize", ["diag", "full", None])
def test_a_constant_column_has_no_code_and_returns(make_kind, X, draw, standardize, constant):
    parameters = {"standardize": standardize, "max_iter": 2}
    wide = np.insert(X, 1, constant, axis=1)
    with pytest.warns(DataWarning, match=r"Constant columns \[1\]"):
        fitted = make_kind("denoising", **parameters).fit(wide)
    alone = make_kind("denoising", **parameters).fit(X)
    np.testing.assert_allclose(fitted.transform(wide), alone.transform(X), rtol=1e-9)
    back = fitted.inverse_transform(alone.transform(X))
    assert (back[:, 1] == constant).all()
    np.testing.assert_allclose(back[:, [0, 2, 3]], X, atol=1e-3)
    # A standard normal of its own: the field there is -(x - mean).
    null = -0.5 * np.log(2 * np.pi)
    wanted = alone.log_density(X) + null
    np.testing.assert_allclose(fitted.log_density(wide), wanted, rtol=1e-9)
    if abs(constant) < 1:
        off = fitted.log_density(wide + np.array([0, 2.0, 0, 0]))
        np.testing.assert_allclose(off, wanted - 2.0, rtol=1e-9)
    assert (draw(fitted, 5)[:, 1] == constant).all()
    np.testing.assert_allclose(fitted.sigmas_, alone.sigmas_)


# Samples from noise -------------------------------------------------------------------------------

OWN = {
    "annealed_langevin": {"step_size"},
    "predictor_corrector": {"step_size", "n_corrections", "given"},
    "churned_heun": {"churn"},
    "reverse_sde": set(),
    "dpm_solver": {"n_corrections"},
    "probability_flow": set(),
    "langevin": {"step_size"},
}
VALUES = {"step_size": 2e-5, "n_corrections": 2, "churn": 0.1, "given": [1.0, NAN, NAN]}


@pytest.mark.parametrize("sampler", OWN)
def test_a_keyword_of_another_sampler_is_refused_by_name(fitted, sampler):
    assert set(OWN) == set(fitted._samplers)
    few = {"n_steps": 8, "random_state": 0, "sampler": sampler}
    plain = fitted.sample(3, **few)
    for name, value in VALUES.items():
        if name in OWN[sampler]:
            assert not np.array_equal(fitted.sample(3, **few, **{name: value}), plain)
        else:
            message = rf"got '{name}', which sampler='{sampler}' does not take: it takes .*n_steps"
            with pytest.raises(TypeError, match=message):
                fitted.sample(3, **few, **{name: value})
    with pytest.raises(TypeError, match=r"unexpected keyword 'stepsize'.*take .*churn.*given"):
        fitted.sample(3, **few, stepsize=0.1)


def test_corrections_are_where_the_noise_is_a_quarter_of_the_data_to_as_much(
    make_kind, monkeypatch, X
):
    est = make_kind("denoising", standardize=None, mixture=False, max_iter=1)
    est, walk, seen = est.fit(7 * X), FROM_NOISE["dpm_solver"], []

    @functools.wraps(walk)  # its keywords are read
    def watched(score, x, **kwargs):
        seen.append(kwargs["corrected"])
        return walk(score, x, **kwargs)

    monkeypatch.setitem(FROM_NOISE, "dpm_solver", watched)
    few = {"n_steps": 8, "random_state": 0}
    plain = est.sample(2, **few)
    np.testing.assert_array_equal(est.sample(2, n_corrections=0, **few), plain)
    assert np.abs(est.sample(2, n_corrections=3, **few) - plain).max() > 1e-3
    unit = np.sqrt(np.trace(est.covariance_) / X.shape[1])
    np.testing.assert_allclose(seen, [[unit / 4, unit]] * 3, rtol=1e-4)
    assert unit > 2


def test_the_automatic_sampler_is_one_of_them(fitted):
    few = {"n_steps": 3, "random_state": 0}
    drawn = fitted.sample(3, **few)
    assert any(
        np.array_equal(drawn, fitted.sample(3, sampler=sampler, **few)) for sampler in FROM_NOISE
    )


BAD_KEYWORDS = [
    *(("n_steps", sampler, [0, -1, 2.5, "3", True, NAN]) for sampler in FROM_NOISE),
    ("n_corrections", "predictor_corrector", [0, -1, 1.5, "2", True, NAN]),
    ("n_corrections", "dpm_solver", [-1, 1.5, "2", True, NAN]),
    ("churn", "churned_heun", [-1, -1e-9, NAN, INF, "a", True, [1.0], 10**400]),
    *(
        ("step_size", sampler, [0, -1, NAN, INF, "a", True, [0.1], 1j, 1e30, 10**400])
        for sampler in ("predictor_corrector", "annealed_langevin")
    ),
    *(("callback", sampler, [3, "print", [print]]) for sampler in FROM_NOISE),
    *(
        ("init", sampler, [np.ones((4, 2)), np.ones(3), np.full((4, 3), NAN), "rows", 7])
        for sampler in FROM_NOISE
    ),
]


@pytest.mark.parametrize(
    ("name", "sampler", "values"), BAD_KEYWORDS, ids=[f"{n}-{s}" for n, s, _ in BAD_KEYWORDS]
)
def test_a_bad_keyword_of_a_descent_is_refused_by_name(fitted, name, sampler, values):
    for value in values:
        with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
            fitted.sample(4, sampler=sampler, **{name: value})


def test_the_automatic_step_can_be_asked_for(fitted):
    """As for Langevin's chain, whose message recommends it."""
    for sampler in ("langevin", "predictor_corrector", "annealed_langevin"):
        few = {"n_steps": 2, "random_state": 0, "sampler": sampler}
        np.testing.assert_array_equal(
            fitted.sample(3, step_size=None, **few), fitted.sample(3, **few)
        )


@pytest.mark.parametrize("n_steps", [None, 5, 30])
@pytest.mark.parametrize("step_size", [3.0, 10.0, 1e2, 1e6, 1e20, 9e29])
@pytest.mark.parametrize("sampler", ["predictor_corrector", "annealed_langevin"])
def test_a_step_that_explodes_is_an_error_that_names_step_and_remedy(
    fitted, X, attempt, sampler, step_size, n_steps
):
    how = {"sampler": sampler, "step_size": step_size, "n_steps": n_steps, "random_state": 0}
    drawn, error = attempt(DivergenceError, lambda: fitted.sample(20, **how))
    if error is None:  # a few large steps do not get far
        assert np.isfinite(drawn).all()
        away = np.abs(drawn - X.mean(axis=0)) / X.std(axis=0)
        assert away.max() < 30, "rows that are nowhere, without a word"
    else:
        assert re.search(r"diverged at step \d+: use .*step_size", str(error))


@pytest.mark.parametrize("sampler", FROM_NOISE)
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_few_steps_are_finite(fitted, X, sampler, n_steps):
    drawn = fitted.sample(50, sampler=sampler, n_steps=n_steps, random_state=0)
    assert np.isfinite(drawn).all()
    assert (np.abs(drawn - X.mean(axis=0)) / X.std(axis=0)).max() < 20
    for churn in (0, 1e29):
        drawn = fitted.sample(9, sampler="churned_heun", n_steps=n_steps, churn=churn)
        assert np.isfinite(drawn).all()


@COARSE
@pytest.mark.parametrize("sampler", FROM_NOISE)
@pytest.mark.parametrize("kind", ["denoising", "ladder"])
def test_a_callback_sees_each_step_of_each_block(make_kind, X, sampler, kind):
    fitted = make_kind(kind).fit(X)
    # Two steps at each level, or one from level to level; and the last, without noise.
    n_levels = 10 if kind == "ladder" else 50
    last = 2 * n_levels + 1 if sampler == "annealed_langevin" else 10 if kind == "ladder" else 2
    seen = []

    def note(step, which, rows):
        seen.append((step, which, rows.copy()))
        rows[:] = NAN  # what it does to them is no concern of the chains

    few = {"sampler": sampler, "random_state": 0} | steps(fitted, 2, sampler)
    drawn = fitted.sample(300, callback=note, **few)
    np.testing.assert_array_equal(drawn, fitted.sample(300, **few))
    blocks = [slice(0, 256), slice(256, 300)]
    wanted = [(step, which) for which in blocks for step in range(1, last + 1)]
    assert [(step, which) for step, which, _ in seen] == wanted
    assert all(rows.shape == (which.stop - which.start, 3) for _, which, rows in seen)
    for which in blocks:
        (end,) = (rows for step, there, rows in seen if there == which and step == last)
        np.testing.assert_array_equal(end, drawn[which])


def test_a_ladder_refuses_a_number_of_steps(make_kind, X):
    fitted = make_kind("ladder").fit(X)
    for sampler in set(FROM_NOISE) - {"annealed_langevin"}:
        with pytest.raises(ValueError, match="n_steps=7 has no meaning on a ladder"):
            fitted.sample(3, sampler=sampler, n_steps=7)
    with pytest.raises(ValueError, match="n_steps=7 has no meaning on a ladder"):
        fitted.log_density(X, n_steps=7)


def test_a_ladder_of_few_levels_is_warned_of(make_kind, X):
    fitted = make_kind("ladder", sigma=[6.0, 2.0, 0.5, 0.1]).fit(X)
    codes = X[:2]
    annealed = partial(fitted.sample, 3, sampler="annealed_langevin")
    walks = (fitted.sample, annealed, lambda: fitted.log_density(X), lambda: fitted.transform(X))
    for walk in (*walks, lambda: fitted.inverse_transform(codes)):
        with pytest.warns(SamplingWarning, match=r"A ladder of 4 .* too coarse") as caught:
            walk()
        assert {w.filename for w in caught} == {__file__}  # it points at the caller's line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        annealed(n_steps=2)


@pytest.mark.parametrize("sampler", FROM_NOISE)
def test_descents_start_from_init(fitted, X, sampler):
    init = np.asfortranarray(5 * X[::-1][:40])
    before = init.tobytes()
    few = {"sampler": sampler, "n_steps": 3, "random_state": 0}
    drawn = fitted.sample(40, init=init, **few)
    assert init.tobytes() == before
    np.testing.assert_array_equal(drawn, fitted.sample(40, init=init.tolist(), **few))
    other = init.copy()
    other[7] += 30.0
    moved = np.abs(fitted.sample(40, init=other, **few) - drawn).max(axis=1)
    assert np.argmax(moved) == 7
    assert moved[7] > 1e-3
    assert np.delete(moved, 7).max() < 1e-4 * moved[7] + 1e-5


def test_an_error_in_a_callback_leaves_the_model_usable(fitted, X):
    few = {"n_steps": 3, "random_state": 0}
    wanted, field = fitted.sample(5, **few), fitted.score_samples(X, sigma=1.0)
    with pytest.raises(ZeroDivisionError):
        fitted.sample(5, callback=lambda *step: 1 / 0, **few)
    with pytest.raises(DivergenceError):
        fitted.sample(5, sampler="annealed_langevin", step_size=1e6, random_state=0)
    np.testing.assert_array_equal(fitted.sample(5, **few), wanted)
    np.testing.assert_array_equal(fitted.score_samples(X, sigma=1.0), field)


# Copies and threads -------------------------------------------------------------------------------


def seen_of(fitted, rows):
    codes = fitted.transform(rows)
    few = {} if len(fitted.sigmas_) > 2 else {"n_steps": 2}
    samplers = [*fitted._samplers, "auto"]
    return [
        fitted.score_samples(rows, sigma=inner_level(fitted)),
        fitted.log_density(rows, **few),
        fitted.log_density(rows, trace="hutchinson", random_state=0, **few),
        codes,
        fitted.inverse_transform(codes),
        fitted.sigmas_,
        *(fitted.sample(4, 0, sampler=name, **steps(fitted, 3, name)) for name in samplers),
        fitted.sample(4, 0, given=[0.5, NAN, NAN], **steps(fitted, 3)),
    ]


@COARSE
@MANY
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies_keep_densities_codes_and_samples(make_kind, X, kind, copied):
    fitted = make_kind(kind).fit(X)
    wanted = seen_of(fitted, X[:6])
    other = copied(fitted)
    fitted.fit(2 * X + 1)  # nothing is shared
    for value, expected in zip(seen_of(other, X[:6]), wanted, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.slow
def test_eight_threads_share_codes_densities_and_samples(make_kind, X):
    fitted = make_kind("denoising").fit(X)
    parts = [X[i : i + 6] for i in range(8)]
    wanted = [seen_of(fitted, rows) for rows in parts]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda rows: seen_of(fitted, rows), parts))
    for result, expected in zip(results, wanted, strict=True):
        for a, b in zip(result, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("setting", ["dtype", "grad", "raise"])
def test_densities_and_codes_do_not_depend_on_the_callers_settings(fitted, X, setting):
    wanted = seen_of(fitted, X[:4])
    before = torch.get_default_dtype()
    try:
        if setting == "dtype":
            torch.set_default_dtype(torch.float16)
        with (
            torch.inference_mode(setting == "grad"),
            np.errstate(all="raise" if setting == "raise" else "warn"),
        ):
            found = seen_of(fitted, X[:4])
    finally:
        torch.set_default_dtype(before)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
