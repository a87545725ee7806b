"""An interrupted fit keeps its best weights, is usable, and says that it was interrupted."""

import warnings

import numpy as np
import pytest
import torch

import skscore.kernel._kde
from skscore.networks import MLP, NoiseConditionalMLP

EPOCHS = 3


class Ending:
    """Return True, or raise, at the end of the third epoch: a callback of scikit-learn's."""

    def __init__(self, error=None):
        self.error, self.n_epochs = error, 0

    def setup(self, estimator, context):
        self.n_epochs = 0

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name != "epoch":
            return False
        self.n_epochs += 1
        if self.n_epochs < EPOCHS:
            return False
        if self.error is not None:
            raise self.error
        return True


def stopped(make, X, **parameters):
    """Fit, and stop at the end of the third epoch: what an interrupted fit should hold."""
    pytest.importorskip("sklearn.callback")
    estimator = make(max_iter=40, **parameters).set_callbacks(Ending())
    return estimator.fit(X)


def assert_holds(estimator, wanted, X):
    np.testing.assert_array_equal(estimator.score_samples(X), wanted.score_samples(X))
    np.testing.assert_array_equal(
        estimator.sample(3, random_state=0), wanted.sample(3, random_state=0)
    )
    assert estimator.n_iter_ == wanted.n_iter_ == EPOCHS
    assert estimator.loss_curve_ == wanted.loss_curve_
    assert np.isfinite(estimator.score(X))


NETS = pytest.mark.parametrize(
    "make_net", ["sliced", "exact", "energy", "denoising", "one-level"], indirect=True
)


@NETS
def test_an_interrupt_between_epochs_keeps_the_weights(make_net, X):
    wanted = stopped(make_net, X)
    estimator = make_net(max_iter=40).set_callbacks(Ending(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    assert_holds(estimator, wanted, X)
    np.testing.assert_array_equal(
        estimator.set_callbacks().fit(X).score_samples(X),
        make_net(max_iter=40).fit(X).score_samples(X),
    )


class Interrupting(MLP):
    """A network that raises in a step of its training."""

    steps = 0
    at = 0

    def _count(self):
        if self.training_step:
            Interrupting.steps += 1
            if Interrupting.steps == Interrupting.at:
                raise KeyboardInterrupt

    @property
    def training_step(self):
        return next(self.parameters()).requires_grad

    def value_and_jvp(self, x, v):
        self._count()
        return super().value_and_jvp(x, v)

    def value_and_products(self, x, v, w):
        self._count()
        return super().value_and_products(x, v, w)

    def value_and_divergence(self, x, metric=None):
        self._count()
        return super().value_and_divergence(x, metric)


class InterruptingAtLevels(NoiseConditionalMLP):
    """The same, of a network that sees the noise level."""

    def forward(self, x, condition):
        if next(self.parameters()).requires_grad and torch.is_grad_enabled():
            Interrupting.steps += 1
            if Interrupting.steps == Interrupting.at:
                raise KeyboardInterrupt
        return super().forward(x, condition)


def interrupting_at_levels(n_features, n_outputs, *, generator):
    return InterruptingAtLevels(
        n_features, n_outputs, generator=generator, hidden_layer_sizes=(16, 16)
    )


def interrupting(n_features, n_outputs, *, generator):
    return Interrupting(n_features, n_outputs, generator=generator, hidden_layer_sizes=(16, 16))


@pytest.mark.parametrize("kind", ["sliced", "exact"])
def test_an_interrupt_within_an_epoch_keeps_the_last_epochs_weights(make_kind, X, kind):
    def make(**parameters):
        return make_kind(kind, network=interrupting, batch_size=20, **parameters)

    Interrupting.at = 0
    wanted = stopped(make, X)
    Interrupting.steps, Interrupting.at = 0, 3 * EPOCHS + 2
    estimator = make(max_iter=40)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    assert_holds(estimator, wanted, X)


@pytest.mark.filterwarnings("ignore:A ladder of .* is too coarse")
@pytest.mark.parametrize("kind", ["denoising", "ladder", "denoising-energy"])
def test_an_interrupt_of_denoising_leaves_it_usable(make_kind, X, kind):
    def make(**parameters):
        return make_kind(kind, network=interrupting_at_levels, batch_size=20, **parameters)

    Interrupting.at = 0
    wanted = stopped(make, X)
    Interrupting.steps, Interrupting.at = 0, 3 * EPOCHS + 2
    estimator = make(max_iter=40)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    assert_holds(estimator, wanted, X)
    np.testing.assert_array_equal(estimator.log_density(X[:5]), wanted.log_density(X[:5]))
    np.testing.assert_array_equal(estimator.sigmas_, wanted.sigmas_)
    codes = estimator.transform(X[:5])
    np.testing.assert_allclose(estimator.inverse_transform(codes), X[:5], atol=1e-3)
    # Interrupted in the first step of a refit: wholly the new model, with its own levels.
    Interrupting.steps, Interrupting.at = 0, 1
    other = 3 * np.hstack([X, X[:, :1] ** 2])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(other)
    assert np.isfinite(estimator.log_density(other[:5])).all()
    assert estimator.sample(2, random_state=0).shape == (2, 4)


@pytest.mark.parametrize("kind", ["sliced", "exact"])
def test_an_interrupted_refit_is_wholly_the_new_model(make_kind, X, kind):
    other = np.hstack([3 * X + 1, X[:, :1] ** 2])
    Interrupting.steps, Interrupting.at = 0, 3
    estimator = make_kind(kind).fit(X).set_params(network=interrupting)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(other)
    assert estimator.n_features_in_ == 4
    assert np.isfinite(estimator.score_samples(other)).all()
    np.testing.assert_allclose(estimator.location_, other.mean(axis=0))


def test_an_interrupted_search_for_a_bandwidth_leaves_the_old_model(make_kind, X, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    fitted = make_kind("kde-cv").fit(X)
    wanted = fitted.score_samples(X)
    monkeypatch.setattr(skscore.kernel._kde, "search", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(np.hstack([X, X[:, :1] ** 2]))
    np.testing.assert_array_equal(fitted.score_samples(X), wanted)


SIGINT = """
    import os, signal, threading, time
    import numpy as np
    from skscore import ScoreMatchingEstimator, SlicedScoreEstimator

    random = np.random.RandomState(0)  # two groups: much to gain over a Gaussian
    X = random.normal(size=(2_000, 5)) + 3 * random.choice([-1, 1], size=(2_000, 1))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    handler = signal.getsignal(signal.SIGINT)
    for cls in (SlicedScoreEstimator, ScoreMatchingEstimator):
        sent = []

        def send():
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        estimator = cls(hidden_layer_sizes=(64, 64), max_iter=10**5, random_state=0)
        timer = threading.Timer(4.0, send)  # after some checks, on a busy machine too
        timer.start()
        try:
            estimator.fit(X)
        except KeyboardInterrupt:
            late = time.monotonic() - sent[0]
        else:
            raise SystemExit("the interrupt was swallowed")
        assert late < 2.0, late
        assert estimator.n_iter_ >= 1
        scores = estimator.validation_scores_
        untrained = cls(max_iter=1, learning_rate_init=1e-12, random_state=0).fit(X)
        assert max(scores) > scores[0]
        assert estimator.score(X) > untrained.score(X), "the best weights are not kept"
        assert np.isfinite(estimator.score_samples(X)).all()
        assert np.isfinite(estimator.sample(3, n_steps=5)).all()
        assert signal.getsignal(signal.SIGINT) is handler
    print("ok")
"""


@pytest.mark.slow
def test_a_signal_stops_a_fit_within_two_seconds_and_keeps_the_best_weights(run_python):
    assert run_python(SIGINT, timeout=120).endswith("ok\n")


@NETS
def test_an_error_of_the_users_own_is_not_swallowed(make_net, X):
    pytest.importorskip("sklearn.callback")
    estimator = make_net().fit(X)
    wanted = estimator.score_samples(X)
    with pytest.raises(ZeroDivisionError), warnings.catch_warnings():
        estimator.set_callbacks(Ending(ZeroDivisionError())).fit(2 * X)
    np.testing.assert_array_equal(estimator.score_samples(X), wanted)
