"""Laws of refits and of samples: a change of units, and the exact law of the chains.

``W`` takes X to u, ``P`` the precision of the Gaussian there, ``eta`` the step in units of u.
"""

import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from skscore import (
    KDEScoreBaseline,
    KernelScoreEstimator,
    ScoreMatchingEstimator,
    SlicedScoreEstimator,
)
from skscore.datasets import GaussianMixture
from skscore.exceptions import DataWarning
from skscore.objectives import exact

ALPHA = 1e-6
FAST = {
    "hidden_layer_sizes": (16,),
    "n_members": 1,
    "max_iter": 8,
    "batch_size": 50,
    "early_stopping": False,
    "random_state": 0,
}
REFITS = {
    "exact": ScoreMatchingEstimator(**FAST),
    "exact, diag": ScoreMatchingEstimator(standardize="diag", **FAST),
    "energy": ScoreMatchingEstimator(parametrization="energy", **FAST),
    "members": ScoreMatchingEstimator(**FAST | {"n_members": 2}),
    "sigma": ScoreMatchingEstimator(sigma=0.3, **FAST),
    "sliced": SlicedScoreEstimator(**FAST),
    "sliced, diag": SlicedScoreEstimator(standardize="diag", **FAST),
    "kde": KDEScoreBaseline(),
    "kde, silverman": KDEScoreBaseline("silverman"),
    "kde, cv": KDEScoreBaseline("cv"),
    "kernel": KernelScoreEstimator(n_components=40, random_state=0),
    "kernel, diag": KernelScoreEstimator(n_components=40, standardize="diag", random_state=0),
}
SHIFTS_ONLY = {
    "exact, None": ScoreMatchingEstimator(standardize=None, **FAST),
    "kde, number": KDEScoreBaseline(0.8),
    "kernel, None": KernelScoreEstimator(n_components=40, standardize=None, random_state=0),
}


def hills(n=300, seed=0):
    law = GaussianMixture([[-1.0, 0.0, 1.0], [1.5, 1.0, 0.0]], [0.3, 0.8])
    return law.sample(n, random_state=seed) @ [[1.0, 0.4, 0.0], [0.0, 1.0, 0.0], [0.2, 0.0, 1.0]]


def gap(est, c, b):
    """The largest gap of ``c s'(c x + b)`` and ``s(x)``, relative to the field."""
    X, Q = hills(), hills(100, seed=1)
    before = est.fit(X).score_samples(Q)
    after = est.fit(c * X + b).score_samples(c * Q + b) * c
    return np.abs(after - before).max() / np.abs(before).max()


UNITS = np.array([1e-3, 7.0, 3e4])
SHIFT = np.array([1e2, -50.0, 3.0])


@pytest.mark.parametrize("name", REFITS)
def test_a_refit_in_other_units_is_the_same_field(name):
    assert gap(REFITS[name], UNITS, SHIFT * UNITS) < 1e-3


@pytest.mark.parametrize("name", SHIFTS_ONLY)
def test_without_standardising_units_matter(name):
    assert gap(SHIFTS_ONLY[name], UNITS, 0.0) > 1e-2


@pytest.mark.parametrize("name", [*REFITS, *SHIFTS_ONLY])
@pytest.mark.parametrize("shift", [SHIFT, 1e6, 1e8])
def test_a_shift_changes_nothing(name, shift):
    assert gap({**REFITS, **SHIFTS_ONLY}[name], 1.0, shift) < 1e-3


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize(("early_stopping", "n_seen"), [(True, 240), (False, 300)])
def test_a_fit_never_trains_on_the_rows_it_holds_out(early_stopping, n_seen, n_members):
    seen = []

    class Spied(ScoreMatchingEstimator):
        def _objective(self):
            def objective(score, x, *, generator, curl_penalty):
                seen.append(x.view(n_members, -1, x.shape[-1]).clone())
                return exact(score, x)

            return objective

    changes = {"early_stopping": early_stopping, "validation_fraction": 0.2, "batch_size": 30}
    Spied(**{**FAST, **changes, "n_members": n_members}).fit(hills())
    of_members = [rows.unique(dim=0) for rows in torch.cat(seen, dim=1)]
    assert [len(rows) for rows in of_members] == [n_seen] * n_members
    # Each holds out rows of its own: together they leave nothing out.
    assert len(torch.cat(of_members).unique(dim=0)) == (240 if n_seen == n_members * 240 else 300)


@pytest.mark.parametrize(
    ("n", "n_members", "share", "size"), [(300, 3, 0.2, 60), (50, 10, 0.1, 5), (10, 3, 0.5, 5)]
)
def test_members_hold_out_rows_of_their_own_while_there_are_enough(n, n_members, share, size):
    U = np.arange(float(n))[:, None]
    est = ScoreMatchingEstimator(n_members=n_members, validation_fraction=share)
    train, held_out = est._split(U, np.random.default_rng(0))
    assert train.shape == (n_members, n - size, 1)
    assert held_out.shape == (n_members, size, 1)
    for some, others in zip(train, held_out, strict=True):
        assert sorted(np.concatenate([some, others])[:, 0]) == U[:, 0].tolist()
    assert len(np.unique(held_out)) == min(n, n_members * size)
    alone = ScoreMatchingEstimator(n_members=1, validation_fraction=share)
    for part, rows in zip(
        alone._split(U, np.random.default_rng(0)), (train, held_out), strict=True
    ):
        np.testing.assert_array_equal(part, rows[0])


# Samples ----------------------------------------------------------------------------------------

AT_REST = {**FAST, "learning_rate_init": 1e-30, "weight_decay": 0.0, "max_iter": 1}


def gaussian(kind, **changes):
    """An estimator whose field is exactly that of a Gaussian, and its rows."""
    X = hills(500) * [1e-2, 1.0, 1e2] + [1.0, 0.0, 1e4]
    return ScoreMatchingEstimator(standardize=kind, **{**AT_REST, **changes}).fit(X), X


def p_values(rows, mean, covariance):
    """Exact p-values of means and the total variance, and of covariances by Fisher's z."""
    n, d = rows.shape
    V = (rows - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    yield from 2 * stats.norm.sf(np.abs(V.mean(axis=0)) * np.sqrt(n))
    for squares, df in ((V.var(axis=0) * n, n - 1), (V.var(axis=0).sum() * n, d * (n - 1))):
        yield from np.atleast_1d(
            2 * np.minimum(stats.chi2.cdf(squares, df), stats.chi2.sf(squares, df))
        )
    r = np.corrcoef(V.T)[np.triu_indices(V.shape[1], 1)]
    yield from 2 * stats.norm.sf(np.abs(np.arctanh(r)) * np.sqrt(n - 3))


def stationary(est, share):
    """The covariance in X of a Langevin chain with eta = share * d / E|s|^2 in u."""
    P = est._design.precision
    eta = share * len(P) / np.trace(P)  # E|s|^2 = tr P on rows whose covariance is P^-1
    V = np.linalg.inv(P @ (np.eye(len(P)) - eta / 2 * P))
    back = np.linalg.inv(est._affine.matrix)
    return back @ V @ back.T


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_langevin_by_default_has_the_exact_law(kind):
    est, X = gaussian(kind)
    rows = est.sample(8000, random_state=0)
    assert min(p_values(rows, X.mean(axis=0), stationary(est, 0.1))) > ALPHA
    assert min(p_values(rows, X.mean(axis=0), stationary(est, 0.2))) < ALPHA
    assert min(p_values(rows, X.mean(axis=0), est.covariance_)) < ALPHA


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_mala_by_default_has_the_law_of_the_model(kind):
    est, X = gaussian(kind, parametrization="energy", keep_rows=False)
    rows = est.sample(4000, random_state=0, n_steps=60)
    assert min(p_values(rows, X.mean(axis=0), est.covariance_)) > ALPHA
    assert min(p_values(rows, X.mean(axis=0), 1.2 * est.covariance_)) < ALPHA


@pytest.mark.parametrize("kind", ["full", "diag", None])
def test_chains_without_rows_start_from_the_fitted_gaussian(kind):
    est, X = gaussian(kind, keep_rows=False)
    rows = est.sample(20_000, random_state=0, n_steps=1, step_size=1e-12)
    assert min(p_values(rows, X.mean(axis=0), est.covariance_)) > ALPHA
    twin = np.linalg.inv(np.linalg.cholesky(np.linalg.inv(est.covariance_)))
    assert min(p_values(rows, X.mean(axis=0), twin @ twin.T)) < ALPHA


@pytest.mark.parametrize("kind", ["full", "diag", None])
def test_init_and_callback_are_in_the_units_of_x(kind):
    est, X = gaussian(kind)
    start, seen = hills(300, seed=3) * [1e-2, 1.0, 1e2] + [1.0, 0.0, 1e4], []
    rows = est.sample(
        300,
        random_state=0,
        init=start,
        n_steps=2,
        step_size=1e-18,
        callback=lambda step, which, points: seen.append((step, which, points)),
    )
    np.testing.assert_allclose((rows - start) / X.std(axis=0), 0, atol=1e-5)
    assert [(step, w.start, w.stop) for step, w, _ in seen] == [
        (1, 0, 256),
        (2, 0, 256),
        (1, 256, 300),
        (2, 256, 300),
    ]
    np.testing.assert_array_equal(np.vstack([seen[1][2], seen[3][2]]), rows)


@pytest.mark.parametrize("kind", ["full", "diag", None])
@pytest.mark.parametrize("keep_rows", [True, False])
def test_samples_keep_constants_and_relations(kind, keep_rows):
    X = hills()
    X = np.column_stack([X, np.full(len(X), 2.5), X[:, 0] - 2 * X[:, 1]])
    est = ScoreMatchingEstimator(standardize=kind, keep_rows=keep_rows, **AT_REST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        rows = est.fit(X).sample(300, random_state=0, n_steps=20)
    np.testing.assert_allclose(rows[:, 3], 2.5, atol=1e-12)
    np.testing.assert_allclose(rows[:, 4], rows[:, 0] - 2 * rows[:, 1], atol=1e-9)
    assert rows[:, 0].std() > 0.3
