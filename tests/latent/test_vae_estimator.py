"""`GaussianVAE` and `ImplicitVAE` as estimators: scikit-learn's checks, inputs, seeds and state."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from vaes import BOTH, SMALL, KnownDecoder, rows

from skscore import GaussianVAE, ImplicitVAE
from skscore.exceptions import DataWarning, DegenerateDataError, DivergenceError

QUIET = pytest.mark.filterwarnings("ignore::skscore.exceptions.DataWarning")


@QUIET
@parametrize_with_checks([cls(**SMALL) for cls in (GaussianVAE, ImplicitVAE)])
def test_sklearn_checks(estimator, check):
    check(estimator)


# The units of X --------------------------------------------------------------------------------


@BOTH
def test_score_of_a_known_linear_decoder_is_the_gaussian_log_density(cls):
    """In nats and the units of X, however X is scaled and whatever the encoder has learnt."""
    random = np.random.default_rng(3)
    W = random.normal(size=(5, 2)) * np.array([[100.0], [1], [1], [1], [0.1]])
    m, noise = np.array([1e3, 0.0, -2.0, 5.0, 0.0]), 0.5
    X = random.normal(size=(100, 2)) @ W.T + m + noise * random.normal(size=(100, 5))
    vae = cls(decoder=KnownDecoder(W, m), noise_scale=noise, **SMALL).fit(X)
    law = stats.multivariate_normal(m, W @ W.T + noise**2 * np.eye(5))
    details = vae.score_details(X)
    error = 4.9 * details.importance_error + 0.5 * abs(details.importance_bias) + 1e-3
    assert details.value == pytest.approx(law.logpdf(X).mean(), abs=error)
    assert error < 0.2
    found = vae.log_density(X)
    gaps = found - law.logpdf(X)
    assert found.mean() == pytest.approx(details.value)
    assert np.corrcoef(found, law.logpdf(X))[0, 1] > 0.99
    assert np.abs(gaps).max() < 1.5
    drawn = vae.sample(20_000, random_state=0)
    error = X.std(axis=0) / np.sqrt(20_000)
    assert (np.abs(drawn.mean(axis=0) - m) < 6 * error).all()
    np.testing.assert_allclose(np.cov(drawn.T), law.cov, rtol=0.1, atol=0.05 * law.cov[1, 1])
    Z = vae.transform(X)
    np.testing.assert_allclose(vae.inverse_transform(Z), Z @ W.T + m, rtol=1e-9)
    means = vae.sample(5, random_state=0, mean=True)
    codes = np.linalg.lstsq(W, (means - m).T, rcond=None)[0]
    np.testing.assert_allclose(means, codes.T @ W.T + m, rtol=1e-6, atol=1e-6)


@BOTH
def test_verbose_prints_a_line_an_epoch(cls, capsys):
    vae = cls(**SMALL | {"max_iter": 3, "verbose": 1}).fit(rows(50))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Epoch {i}/3, loss {loss:.5f}" for i, loss in enumerate(vae.loss_curve_, 1)]


@BOTH
def test_scale_and_offset_of_the_columns_do_not_change_the_model(cls):
    X = rows(200)
    c, m = np.array([1e-3, 1.0, 50.0, 1e6]), np.array([0.0, 1e4, -3.0, 1e9])
    plain = cls(**SMALL).fit(X)
    moved = cls(**SMALL).fit(X * c + m)
    np.testing.assert_allclose(moved.transform(X * c + m), plain.transform(X), atol=1e-4)
    volume = np.log(c).sum()
    there, here = moved.score_details(X * c + m), plain.score_details(X)
    error = 5 * np.hypot(there.importance_error, here.importance_error)  # other rows, other noise
    assert there.value == pytest.approx(here.value - volume, abs=error)
    assert error < 0.02
    np.testing.assert_allclose(moved.loss_curve_, np.add(plain.loss_curve_, volume), atol=1e-3)


@BOTH
def test_a_constant_column_is_left_out(cls):
    X = rows(100)
    held = np.insert(X, 1, 7.0, axis=1)
    with pytest.warns(DataWarning, match=r"Constant columns \[1\]"):
        vae = cls(**SMALL).fit(held)
    assert np.isfinite(vae.score(held))
    assert (vae.sample(5, random_state=0)[:, 1] == 7.0).all()
    assert (vae.inverse_transform(vae.transform(held))[:, 1] == 7.0).all()


@pytest.mark.slow
@BOTH
def test_learns_a_linear_gaussian_model(cls):
    """Factor analysis with one factor: the maximum of the likelihood is nearly reached."""
    random = np.random.default_rng(5)
    W, noise = np.array([[1.5], [-1.0], [0.7]]), np.array([0.5, 0.3, 0.8])
    X = random.normal(size=(3000, 1)) @ W.T + noise * random.normal(size=(3000, 3))
    best = stats.multivariate_normal(X[:2000].mean(axis=0), np.cov(X[:2000].T)).logpdf(X[2000:])
    vae = cls(1, hidden_layer_sizes=(32,), max_iter=30, random_state=0).fit(X[:2000])
    assert vae.score(X[2000:]) > best.mean() - 0.05
    Z = vae.transform(X)[:, 0]
    truth = np.linalg.solve(np.cov(X.T), X.T).T @ W
    assert abs(np.corrcoef(Z, truth[:, 0])[0, 1]) > 0.98


def test_bernoulli_score_is_the_quadrature():
    """One latent column and a decoder that learns: the integral over it is exact on a grid."""
    random = np.random.default_rng(0)
    z = random.normal(size=(300, 1))
    X = (random.uniform(size=(300, 6)) < 1 / (1 + np.exp(-3 * z))).astype(float)
    for cls in (GaussianVAE, ImplicitVAE):
        vae = cls(1, likelihood="bernoulli", **SMALL | {"max_iter": 20}).fit(X)
        grid = np.linspace(-8, 8, 4001)[:, None]
        p = vae.inverse_transform(grid)
        log_p = X @ np.log(p).T + (1 - X) @ np.log1p(-p).T - 0.5 * grid.T**2
        weight = (grid[1, 0] - grid[0, 0]) / np.sqrt(2 * np.pi)
        wanted = np.log(np.exp(log_p).sum(axis=1) * weight).mean()
        details = vae.score_details(X)
        assert details.value == pytest.approx(wanted, abs=5 * details.importance_error + 1e-3)
        assert details.importance_error < 0.01
        assert set(np.unique(vae.sample(20, random_state=0))) <= {0.0, 1.0}
        assert details.standard_error == pytest.approx(
            vae.log_density(X).std(ddof=1) / np.sqrt(300), rel=1e-6
        )


# Seeds, state, frames --------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_state_survives_pickling_and_seeds_repeat(cls, likelihood):
    X = MinMaxScaler().fit_transform(rows())
    torch_before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    vae = cls(likelihood=likelihood, **SMALL).fit(X)
    again = clone(vae).fit(X)
    loaded = pickle.loads(pickle.dumps(vae))
    for other in (again, loaded):
        np.testing.assert_array_equal(other.transform(X), vae.transform(X))
        drawn = [m.encode(X, 3, random_state=1) for m in (vae, other)]
        np.testing.assert_array_equal(*drawn)
        assert other.score(X) == vae.score(X)
        np.testing.assert_array_equal(
            other.sample(7, random_state=1), vae.sample(7, random_state=1)
        )
    other_seed = clone(vae).set_params(random_state=1).fit(X)
    assert np.abs(other_seed.transform(X) - vae.transform(X)).max() > 1e-3
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert "_model" not in vae.__getstate__()
    arrays = vae.__getstate__()["_weights"].values()
    assert all(isinstance(a, np.ndarray) for a in arrays)


@BOTH
def test_draws_have_their_shape_and_seed(cls):
    X = rows(300)
    vae = cls(**SMALL).fit(X)
    Z = vae.encode(X, 5, random_state=0)
    assert Z.shape == (5, 300, 2)
    assert vae.encode(X).shape == (1, 300, 2)
    assert np.abs(vae.encode(X, 5, random_state=1) - Z).max() > 0.1
    gap = vae.encode(X[:20], 4000, random_state=0).mean(axis=0) - vae.transform(X[:20])
    assert np.abs(gap).max() < 0.15  # sd at most about one, and 4.9 standard errors are .08
    few, many = (vae.sample(n, random_state=0) for n in (3, 300))
    np.testing.assert_array_equal(many[:3], few)
    assert len(np.unique(many[:, 0])) == 300
    assert len(vae.loss_curve_) == len(vae.prior_curve_) == vae.n_iter_ == 2
    assert len(vae.reconstruction_curve_) == 2


@BOTH
def test_frames_names_pipelines_and_searches(cls):
    X = pd.DataFrame(rows(), columns=list("abcd"))
    vae = cls(**SMALL).set_output(transform="pandas").fit(X)
    name = cls.__name__.lower()
    assert list(vae.transform(X).columns) == [f"{name}0", f"{name}1"]
    with pytest.raises(ValueError, match="feature names"):
        vae.transform(X[list("dcba")])
    np.testing.assert_allclose(
        cls(**SMALL).fit(X.astype(np.float32)).transform(X), vae.transform(X), atol=1e-4
    )
    piped = make_pipeline(MinMaxScaler(), cls(likelihood="bernoulli", **SMALL)).fit(X)
    assert piped.transform(X).shape == (60, 2)
    search = GridSearchCV(cls(**SMALL), {"n_components": [1, 2]}, cv=2, error_score="raise")
    assert np.isfinite(search.fit(rows()).cv_results_["mean_test_score"]).all()


# What is refused -------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": 0}, "n_components=0"),
        ({"n_components": 5}, "n_components=5 is more than the data have: n_features=4"),
        ({"n_components": 1.5}, "n_components=1.5"),
        ({"likelihood": "poisson"}, "likelihood='poisson'"),
        ({"likelihood": "bernoulli"}, r"likelihood='bernoulli' needs X in \[0, 1\].*Scale X"),
        ({"noise_scale": 0}, "noise_scale=0"),
        ({"noise_scale": "learnt"}, "noise_scale='learnt'"),
        ({"likelihood": "bernoulli", "noise_scale": 0.3}, "noise_scale=0.3 has no meaning with"),
        ({"decoder": 3}, "decoder=3"),
        ({"decoder": torch.nn.Identity()}, "lambda n_components"),
        ({"decoder": lambda n_components, n_features, *, generator: 3}, "no nn.Module but a int"),
        ({"decoder": KnownDecoder(np.ones((3, 2)), np.zeros(3))}, r"shape \(2, 3\), not \(2, 4\)"),
        ({"hidden_layer_sizes": (0,)}, r"hidden_layer_sizes=\(0,\)"),
        ({"activation": "relu"}, "activation='relu'"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"batch_size": -5}, "batch_size=-5"),
        ({"learning_rate_init": 0.0}, "learning_rate_init=0.0"),
        ({"weight_decay": -1}, "weight_decay=-1"),
        ({"device": "tpu9"}, "device='tpu9'"),
        ({"random_state": "seed"}, "random_state='seed'"),
        ({"verbose": -1}, "verbose=-1"),
    ],
)
def test_bad_parameters_are_named(cls, params, message):
    vae = cls(**SMALL | params)
    with pytest.raises(ValueError, match=message):
        vae.fit(rows())
    assert not hasattr(vae, "n_features_in_")


@BOTH
def test_bad_rows_are_named(cls):
    X = rows()
    vae = cls(**SMALL)
    with pytest.raises(NotFittedError):
        vae.sample()
    broken = X.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        vae.fit(broken)
    with pytest.raises(DegenerateDataError, match="zero variance"):
        vae.fit(np.ones((20, 3)))
    grey = cls(**SMALL | {"likelihood": "bernoulli"})
    with pytest.raises(ValueError, match=r"column 1 goes from 0.5 to 1.0000001\. .*clip=True"):
        grey.fit(np.stack([np.full(20, 0.5), np.linspace(0.5, 1.0000001, 20)], axis=1))
    vae.fit(X)
    with pytest.raises(ValueError, match="NaN"):
        vae.transform(broken)
    with pytest.raises(ValueError, match=r"X has 3 features, but .* expecting 4"):
        vae.score(X[:, :3])
    with pytest.raises(ValueError, match=r"Z has 3 columns.*n_components=2"):
        vae.inverse_transform(X[:, :3])
    for n in (0, -1, 2.5, "3", None):
        with pytest.raises(ValueError, match="n_samples"):
            vae.sample(n)
        with pytest.raises(ValueError, match="n_draws"):
            vae.encode(X, n)
    with pytest.raises(MemoryError, match="n_samples"):
        vae.sample(10**12)
    with pytest.raises(ValueError, match="n_draws=1"):
        vae.score_details(X, n_draws=1)
    kept = vae.transform(X)
    with pytest.raises(ValueError, match="n_components=9"):
        vae.set_params(n_components=9).fit(X)
    np.testing.assert_array_equal(vae.transform(X), kept)
    grey = cls(likelihood="bernoulli", **SMALL).fit(MinMaxScaler().fit_transform(X))
    with pytest.raises(ValueError, match="likelihood='bernoulli'"):
        grey.score(X)


@BOTH
def test_divergence_is_told_and_the_model_stays_finite(cls):
    X = rows()
    vae = cls(**SMALL | {"learning_rate_init": 1e10, "max_iter": 50})
    with pytest.raises(DivergenceError, match="learning_rate_init below 1e\\+10"):
        vae.fit(X)
    assert np.isfinite(vae.transform(X)).all()


@BOTH
def test_an_interrupted_fit_can_be_used(cls, monkeypatch):
    from skscore.latent import _training

    step, calls = _training._Run._step, []

    def interrupted(self, *args):
        calls.append(args)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(_training._Run, "_step", interrupted)
    vae = cls(**SMALL | {"max_iter": 50, "batch_size": 30})
    with pytest.raises(KeyboardInterrupt):
        vae.fit(rows())
    assert vae.n_iter_ == 1
    assert vae.transform(rows()).shape == (60, 2)


@BOTH
def test_more_components_than_features_with_a_decoder_that_is_given(cls):
    X = np.random.default_rng(0).normal(size=(50, 1))
    W = np.ones((1, 3))
    vae = cls(3, decoder=KnownDecoder(W, np.zeros(1)), noise_scale=0.5, **SMALL).fit(X)
    assert vae.transform(X).shape == (50, 3)
