"""A row's likelihood and codes are its own: whatever the other rows are, and however many draws."""

import tracemalloc

import numpy as np
import pytest
import torch
from vaes import BOTH, SMALL, rows

from skscore import ImplicitVAE
from skscore.latent._encoders import ImplicitEncoder


class Far(torch.nn.Module):
    """Nearly 50, whatever the code is."""

    def __init__(self, n_components, n_features, *, generator):
        super().__init__()

    def forward(self, z):
        return 50 + 0.01 * z.repeat(1, 2)


@BOTH
def test_a_likelihood_is_a_function_of_the_row(cls):
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


def test_many_draws_are_encoded_a_block_at_a_time(monkeypatch):
    """The hidden layers of all draws would take many times what the codes take."""
    X = rows(300)
    vae = ImplicitVAE(**SMALL).fit(X)
    sizes, standard = [], ImplicitEncoder.standard

    def seen(self, eps, reading):
        sizes.append(eps.shape[:2])
        return standard(self, eps, reading)

    monkeypatch.setattr(ImplicitEncoder, "standard", seen)
    assert vae.encode(X, 600, random_state=0).shape == (600, 300, 2)
    assert sizes == [(m, n) for n in (256, 44) for m in (256, 256, 88)]


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


@BOTH
def test_what_a_scaler_rounds_is_no_fault(cls):
    X = np.random.default_rng(0).uniform(size=(50, 3))
    X[0], X[1] = 0, 1
    vae = cls(likelihood="bernoulli", **SMALL)
    plain = vae.fit(X).score(X)
    rounded = X * (1 + 1e-15) - 1e-17
    assert rounded.max() > 1
    assert rounded.min() < 0
    assert vae.fit(rounded).score(rounded) == pytest.approx(plain, abs=0.05)
    with pytest.raises(ValueError, match=r"column 0 goes from 0 to 1\.0001"):
        vae.score(1.0001 * X)


@BOTH
@pytest.mark.parametrize("grey", [0.0, 0.1, 1.0])
def test_equal_pixels_have_one_scale(cls, grey):
    """The deviation of 50 times 0.1 is no number but what was rounded."""
    vae = cls(likelihood="bernoulli", **SMALL).fit(np.full((50, 3), grey))
    assert np.isfinite(vae.score(np.full((5, 3), 0.5)))


@BOTH
def test_wide_rows_take_no_matrix(cls):
    X = np.random.default_rng(0).normal(size=(4, 20_000))
    vae = cls(1, **SMALL | {"hidden_layer_sizes": (2,), "max_iter": 1})
    tracemalloc.start()
    vae.fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * X.nbytes  # a covariance is 5,000 times as large


@BOTH
def test_noise_may_be_larger_than_the_columns(cls):
    """Where a given decoder cannot reach the rows: here they are 50 deviations away."""
    X = rows(200)
    vae = cls(decoder=Far, **SMALL | {"max_iter": 600, "learning_rate_init": 0.02}).fit(X)
    noise = vae._model.decoder.log_s.exp().numpy() * vae._design.columns.scale
    np.testing.assert_allclose(noise, np.sqrt(np.mean((X - 50) ** 2, axis=0)), rtol=0.05)
