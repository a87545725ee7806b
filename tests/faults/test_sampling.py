"""What `sample` refuses, and what its rows may depend on."""

import contextlib
import os
import re
import time

import numpy as np
import pytest

from skscore.exceptions import DivergenceError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("n_samples", [0, -1, 2.5, 3.0, "3", None, True, [3], NAN, INF])
def test_a_bad_number_of_samples_is_refused_by_name(make_any, X, n_samples):
    fitted = make_any().fit(X)
    with pytest.raises(ValueError, match=r"n_samples=.* is not valid: it must be an integer >= 1"):
        fitted.sample(n_samples)


@pytest.mark.parametrize("n_samples", [np.int64(3), np.uint8(3), 3])
def test_a_number_of_samples_of_another_integer_type(make, X, n_samples):
    drawn = make().fit(X).sample(n_samples, random_state=0)
    np.testing.assert_array_equal(drawn, make().fit(X).sample(3, random_state=0))


@pytest.mark.parametrize("n_samples", [10**10, 10**13, 10**30])
def test_more_samples_than_memory_are_refused_at_once(make_any, X, n_samples):
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if n_samples * X.shape[1] * 8 <= memory:
        pytest.skip("they fit into this machine")
    fitted = make_any().fit(X)
    start = time.perf_counter()
    with pytest.raises(MemoryError, match=rf"n_samples={n_samples} .*GiB.*in parts"):
        fitted.sample(n_samples)
    assert time.perf_counter() - start < 1.0


SHAPES = [(4, 2), (3, 3), (3,), (1, 4, 3)]
BAD_INIT = [*map(np.ones, SHAPES), *(np.full((4, 3), bad) for bad in (NAN, INF, 1j))]
BAD = {
    "step_size": [0, 0.0, -1, NAN, INF, "a", True, [0.1], 1j, 10**400],
    "n_steps": [0, -1, 2.5, "3", None, True, NAN],
    "callback": [3, "print", [print]],
    "init": [*BAD_INIT, "rows", [[1, 2, 3], [1]], 7],
    "sampler": ["nope", "exact", None, 3, "", "Langevin", ["langevin"]],
    "random_state": ["a", -1, 2**32, 1.5, [1]],
}
CASES = [
    pytest.param(name, value, id=f"{name}-{i}")
    for name, values in BAD.items()
    for i, value in enumerate(values)
]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_a_bad_keyword_of_a_chain_is_refused_by_name(make_net, X, name, value):
    fitted = make_net().fit(X)
    with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
        fitted.sample(4, **{name: value})


def test_samplers_and_keywords_that_a_model_does_not_have(make_any, X):
    fitted = make_any().fit(X)
    kernel = make_any.kind.startswith("kde")
    with pytest.raises(TypeError, match=r"unexpected keyword 'stepsize'.* take "):
        fitted.sample(3, stepsize=0.1)
    missing = [] if hasattr(fitted, "energy") else ["mala"]
    missing += ["langevin"] if kernel else ["exact"]
    for sampler in missing:
        with pytest.raises(ValueError, match=rf"sampler='{sampler}' is not valid.*one of 'auto'"):
            fitted.sample(3, sampler=sampler)
    if kernel:
        with pytest.raises(TypeError, match=r"'n_steps'.*take no further parameters"):
            fitted.sample(3, n_steps=5)


@pytest.mark.parametrize("step_size", [10.0, 1e6, 1e30, 1e300])
def test_a_step_that_explodes_is_an_error_that_names_step_and_remedy(
    make_net, X, draw, attempt, step_size
):
    fitted = make_net().fit(X)
    for sampler in ("langevin", "auto"):
        _, error = attempt(
            (DivergenceError, ValueError),
            lambda how: draw(fitted, 20, **how),
            {"step_size": step_size, "sampler": sampler},
        )
        assert "step_size" in str(error)
        if isinstance(error, DivergenceError):
            assert re.search(r"step.*[Uu]se step_size <", str(error))


def test_a_refused_sample_leaves_the_model_usable(make_net, X, draw):
    fitted = make_net().fit(X)
    wanted, field = draw(fitted, 5), fitted.score_samples(X)
    with pytest.raises(DivergenceError):
        fitted.sample(5, step_size=1e6)
    with pytest.raises(ZeroDivisionError):
        fitted.sample(5, callback=lambda step, which, rows: 1 / 0)
    np.testing.assert_array_equal(draw(fitted, 5), wanted)
    np.testing.assert_array_equal(fitted.score_samples(X), field)


def test_chains_start_from_init(make_net, X):
    fitted = make_net().fit(X)
    init = np.asfortranarray(X[::-1][:40])
    before = init.tobytes()
    drawn = fitted.sample(40, init=init, n_steps=1, step_size=1e-10, random_state=0)
    np.testing.assert_allclose(drawn, init, atol=1e-3)
    assert init.tobytes() == before
    np.testing.assert_array_equal(
        fitted.sample(40, init=init.tolist(), n_steps=3, random_state=0),
        fitted.sample(40, init=init.copy(), n_steps=3, random_state=0),
    )


@pytest.mark.parametrize("init", [1e6, 1e30, 1e40, 1e300])
def test_chains_that_start_far_away_are_finite_or_refused(make_net, X, init):
    fitted = make_net().fit(X)
    with contextlib.suppress(DivergenceError, ValueError):
        drawn = fitted.sample(4, init=np.full((4, 3), init), n_steps=50)
        assert np.isfinite(drawn).all()
        assert np.abs(drawn).max() <= init


def test_a_callback_cannot_change_the_chains(make_net, X):
    fitted = make_net().fit(X)

    def meddle(step, which, rows):
        rows[:] = NAN

    wanted = fitted.sample(5, random_state=0, n_steps=4)
    np.testing.assert_array_equal(
        fitted.sample(5, random_state=0, n_steps=4, callback=meddle), wanted
    )


def test_the_rows_of_a_result_are_the_callers(make_any, X, draw):
    fitted = make_any().fit(X)
    first = draw(fitted, 5)
    kept = first.copy()
    first[:] = NAN
    np.testing.assert_array_equal(draw(fitted, 5), kept)


def test_a_row_depends_on_the_seed_and_its_place_alone(make_any, X, draw):
    fitted = make_any().fit(X)
    many = draw(fitted, 600, random_state=3)
    for n in (1, 255, 256, 257, 512):  # at the edges of the blocks
        few = draw(fitted, n, random_state=3)
        np.testing.assert_allclose(few, many[:n], rtol=1e-4, atol=1e-5)
    assert len(np.unique(many, axis=0)) == 600


def test_seeds_of_every_kind(make_any, X, draw, global_seeds):
    fitted = make_any().fit(X)

    def rows(seed=None):
        return draw(fitted, 5, random_state=seed)

    first = rows(7)
    np.testing.assert_array_equal(rows(np.int64(7)), first)
    np.testing.assert_array_equal(rows(np.random.RandomState(7)), first)
    assert not np.array_equal(rows(8), first)
    stream = np.random.RandomState(7)
    assert not np.array_equal(rows(stream), rows(stream))
    global_seeds(5)
    drawn = rows()
    assert not np.array_equal(rows(), drawn)
    global_seeds(5)
    np.testing.assert_array_equal(rows(), drawn)


def test_the_constructors_seed_has_no_part_in_a_sample(make_net, X, draw):
    fitted = make_net().fit(X)
    assert not np.array_equal(
        draw(fitted, 5, random_state=None), draw(fitted, 5, random_state=None)
    )
    drawn = draw(fitted, 5)
    np.testing.assert_array_equal(draw(fitted.set_params(random_state=9), 5), drawn)


def test_chains_without_training_rows(make_net, X):
    fitted = make_net(keep_rows=False).fit(X)
    drawn = fitted.sample(200, n_steps=30, random_state=0)
    assert np.isfinite(drawn).all()
    assert (np.abs(drawn.mean(axis=0) - X.mean(axis=0)) < X.std(axis=0)).all()
    for name, value in vars(fitted).items():
        assert np.shape(value)[:1] != (len(X),), f"{name} has as many rows as the data"
