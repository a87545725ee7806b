"""When codes bend, and when their divergence from the prior begins to count."""

import numpy as np
import pytest
from vaes import BOTH, SMALL, KnownDecoder, rows

from skscore import GaussianVAE, ImplicitVAE
from skscore.latent import _training
from skscore.latent._encoders import HUMPS, NORMAL

KNOWN = {"decoder": KnownDecoder(np.ones((4, 2)), np.zeros(4)), "noise_scale": 0.5}


@pytest.mark.parametrize("d", [2, 5])
def test_codes_do_not_bend_before_half_of_training(d, monkeypatch):
    bent, straight = (ImplicitVAE(d, **SMALL | {"max_iter": 12}) for _ in range(2))
    bent.fit(rows(d=6))
    monkeypatch.setattr(_training, "BENDS_FROM", 1.0)
    straight.fit(rows(d=6))
    curves = np.array([bent.loss_curve_, straight.loss_curve_])
    np.testing.assert_array_equal(curves[0] == curves[1], np.arange(12) < 6)
    assert not straight._model.encoder.bend.weights[-1].any()


def test_until_then_both_classes_train_alike():
    """They have the same first weights, batches and noise; rounding differs."""
    X = rows(d=6)
    gaussian, implicit = (
        cls(3, **SMALL | {"max_iter": 12}).fit(X) for cls in (GaussianVAE, ImplicitVAE)
    )
    for name in ("loss_curve_", "reconstruction_curve_", "prior_curve_"):
        a, b = np.array(getattr(gaussian, name)), np.array(getattr(implicit, name))
        np.testing.assert_allclose(a[:6], b[:6], rtol=1e-5)
        assert (np.abs(a[7:] - b[7:]) > 1e-4).all()


@pytest.mark.parametrize(("decoder", "humps", "bent"), [({}, NORMAL, 0), (KNOWN, HUMPS, 2)])
def test_codes_of_a_known_decoder_bend_at_once_and_in_parts(decoder, humps, bent):
    fitted = ImplicitVAE(**SMALL | {"max_iter": 1} | decoder).fit(rows())
    encoder = fitted._model.encoder
    assert encoder.humps == humps
    assert int((encoder.bend.biases[-1] != 0).sum()) == bent


@pytest.mark.parametrize(("decoder", "draws"), [({}, {4}), (KNOWN, {16})])
def test_the_score_of_a_known_decoders_codes_has_more_draws(decoder, draws, monkeypatch):
    """With 4, branches of a hyperbola are lost in 5 fits of 8 (`benchmarks/latent.py`)."""
    seen, step = set(), _training.score_step

    def spied(score, optimiser, u, *others):
        seen.add(len(u))
        step(score, optimiser, u, *others)

    monkeypatch.setattr(_training, "score_step", spied)
    ImplicitVAE(**SMALL | decoder).fit(rows())
    assert seen == draws


@BOTH
def test_codes_are_put_to_use_before_their_divergence_counts(cls):
    """On a ring, whose Gaussian density has -2.1 nats per row; codes without a use have that."""
    random = np.random.default_rng(0)
    angle = random.uniform(0, 2 * np.pi, 1000)
    X = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.05 * random.normal(size=(1000, 2))
    vae = cls(2, hidden_layer_sizes=(64, 64), max_iter=60, random_state=0).fit(X)
    assert vae.score(X[:100]) > -1.3
