"""A row's likelihood and codes are its own: whatever the other rows are, and however many draws."""

import resource

import numpy as np
import pytest

from skscore import GaussianVAE, ImplicitVAE

SMALL = {"hidden_layer_sizes": (8, 8), "max_iter": 2, "random_state": 0}
BOTH = pytest.mark.parametrize("cls", [GaussianVAE, ImplicitVAE])


def rows(n=60, d=4, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 2)) @ random.normal(size=(2, d)) + random.normal(size=(n, d))


@BOTH
def test_a_likelihood_is_a_function_of_the_row(cls):
    """Also where some rows have a good proposal at once, and others look for theirs for long."""
    X = np.concatenate([rows(40), 5 * rows(20, seed=1)])
    vae = cls(**SMALL | {"max_iter": 20}).fit(X)
    found = vae.log_density(X)
    np.testing.assert_allclose(vae.log_density(X[::-1])[::-1], found, atol=1e-4)
    np.testing.assert_allclose([vae.log_density(row[None])[0] for row in X], found, atol=1e-4)
    other = vae.log_density(X + 1e-9)  # a row that differs has noise of its own
    assert np.abs(other - found).mean() > 1e-4


@BOTH
def test_each_code_depends_on_its_row_and_on_which_draw_it_is(cls):
    X = rows(300)
    vae = cls(**SMALL).fit(X)
    Z = vae.encode(X, 300, random_state=0)
    np.testing.assert_allclose(vae.encode(X[:7], 3, random_state=0), Z[:3, :7], atol=1e-12)
    twice = vae.encode(X[[0, 0]], 300, random_state=0)
    assert np.abs(twice[:, 0] - twice[:, 1]).min() > 0  # noise of its own, though it is a copy
    flat = Z[:, :5].reshape(300, -1)
    assert len(np.unique(flat, axis=0)) == 300  # the second block of draws is not the first again
    codes = vae.transform(X[:5])
    error = Z[:, :5].std(axis=0) / np.sqrt(300)
    assert (np.abs(Z[:, :5].mean(axis=0) - codes) < 5 * error + 0.1 * error).all()


def test_many_draws_take_little_more_memory_than_the_codes():
    X = rows(256)
    vae = ImplicitVAE(**SMALL | {"hidden_layer_sizes": (96, 96), "max_iter": 1}).fit(X)
    vae.encode(X, 300, random_state=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    codes = vae.encode(X, 4_000, random_state=0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kB
    assert 1024 * grown < 4 * codes.nbytes + 2**27


@BOTH
def test_draws_beyond_the_memory_are_refused_before_they_are_drawn(cls):
    X = rows()
    vae = cls(**SMALL).fit(X)
    with pytest.raises(MemoryError, match="n_draws=100000000000"):
        vae.score_details(X[:2], n_draws=10**11)


@BOTH
@pytest.mark.parametrize("far", [1e19, 1e39, 1e150])
def test_a_row_that_is_far_too_far_is_named(cls, far):
    X = rows()
    vae = cls(**SMALL).fit(X)
    for method in (vae.log_density, vae.score, vae.score_details):
        with pytest.raises(ValueError, match="X is too large: row 1 "):
            method(np.stack([X[0], far * X[1]]))
    assert np.isfinite(vae.log_density(1e6 * X[:2])).all()


@BOTH
def test_one_row_has_no_standard_error(cls):
    X = rows()
    details = cls(**SMALL).fit(X).score_details(X[:1])
    assert np.isfinite(details.value)
    assert np.isnan(details.standard_error)
