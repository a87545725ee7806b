"""Laws of the mixture beside the network: its derivatives, its share, and what a fit makes of it.

``s = (1 - a) s_network + a s_mixture``, float64.
"""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sklearn.mixture
import torch
from threadpoolctl import threadpool_info
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from skscore import DenoisingScoreEstimator, ScoreMatchingEstimator, SlicedScoreEstimator
from skscore._autodiff import (
    TANGENT_BYTES,
    divergence_by_tangents,
    value_and_curvature,
    value_and_divergence,
    value_and_jvp,
)
from skscore._denoiser import Denoiser
from skscore._linear import eigen
from skscore._mixture import Average, Mixture, OverGaussian
from skscore._model import ScoreModel
from skscore.datasets import Gaussian, GaussianMixture, Ring, TwistedGaussian
from skscore.estimators import _many_levels, _mixture, _share
from skscore.estimators._mixture import FoundMixture, _counted, likely_mixture
from skscore.estimators._share import best_share
from skscore.networks import MLP, Conjugate, NoiseConditionalMLP

D, K, N = 3, 4, 7
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


def draw(*shape, seed=1):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=stream, dtype=torch.float64)


def parts(seed=0):
    """Return weights, means and covariances."""
    A = draw(K, D, D, seed=seed)
    C = A @ A.mT + 0.2 * torch.eye(D, dtype=torch.float64)
    return torch.softmax(draw(K, seed=seed + 1), 0), 2 * draw(K, D, seed=seed + 2), C


def mixture_of(weights, means, covariances):
    variances, bases = torch.linalg.eigh(covariances)
    return Mixture(weights.log(), means, variances, bases)


def law_of(weights, means, covariances, sigma=0.0):
    C = covariances + sigma**2 * torch.eye(D, dtype=torch.float64)
    return MixtureSameFamily(Categorical(weights), MultivariateNormal(means, C))


def score_of(law, x):
    u = x.clone().requires_grad_()
    return torch.autograd.grad(law.log_prob(u).sum(), u)[0]


def precision():
    B = draw(D, D, seed=9)
    return B @ B.T + torch.eye(D, dtype=torch.float64)


@pytest.fixture
def x():
    return 2 * draw(N, D, seed=5)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 2.0])
def test_the_score_of_a_blurred_mixture(sigma, x):
    own = mixture_of(*parts())
    law = law_of(*parts(), sigma)
    for s in (own.at(sigma)(x), own(x, torch.full((N, 1), sigma, dtype=x.dtype))):
        torch.testing.assert_close(s, score_of(law, x), **TIGHT)
    shift = own.at(sigma).energy(x) + law.log_prob(x)
    torch.testing.assert_close(shift, shift[:1].expand(N), **TIGHT)


def test_each_row_has_its_own_level(x):
    own, sigma = mixture_of(*parts()), draw(N, 1, seed=6).abs()
    each = [own.at(float(level))(row[None])[0] for level, row in zip(sigma, x, strict=True)]
    torch.testing.assert_close(own(x, sigma), torch.stack(each), **TIGHT)


def test_stacked_mixtures_have_rows_of_their_own(x):
    mixtures = [mixture_of(*parts(seed)) for seed in (0, 20)]
    rows = torch.stack([x, x + 1])
    s, divergence = Mixture.stacked(mixtures).value_and_divergence(rows)
    for k, own in enumerate(mixtures):
        torch.testing.assert_close(s[k], own(rows[k]), **TIGHT)
        torch.testing.assert_close(divergence[k], own.value_and_divergence(rows[k])[1], **TIGHT)


def fields(woken):
    """Return each kind of field that this room adds, by name."""
    own, P = mixture_of(*parts()), precision()
    network = woken(MLP(D, D, generator=torch.Generator().manual_seed(0)))
    energy = woken(MLP(D, 1, generator=torch.Generator().manual_seed(0)))
    return {
        "mixture": own,
        "over": OverGaussian(own, P),
        "over a number": OverGaussian(own, P[0, 0]),
        "average": Average(network, own, 0.3),
        "model": ScoreModel(network, P, energy=False).mixed(own, 0.3),
        "energy": ScoreModel(energy, P, energy=True).mixed(own, 0.3),
    }


@pytest.mark.parametrize("name", ["mixture", "over", "over a number", "average", "model", "energy"])
def test_derivatives_equal_autograd(name, x, woken, jacobian):
    field = fields(woken)[name]
    J = jacobian(field, x)
    v, A = draw(4, N, D, seed=2), precision() + 1.0
    s, jv = value_and_jvp(field, x, v)
    r, curvature = value_and_curvature(field, x, v, v.flip(0))
    torch.testing.assert_close(jv, torch.einsum("nij,mnj->mni", J, v), **TIGHT)
    torch.testing.assert_close(curvature, torch.einsum("mni,nij,mnj->mn", v.flip(0), J, v), **TIGHT)
    for metric in (None, A):
        q, divergence = value_and_divergence(field, x, metric)
        trace = J if metric is None else J @ A
        torch.testing.assert_close(divergence, torch.einsum("nii->n", trace), **TIGHT)
        torch.testing.assert_close(q, field(x), **TIGHT)
    for value in (s, r):
        torch.testing.assert_close(value, field(x), **TIGHT)


@pytest.mark.parametrize("name", ["mixture", "over", "energy"])
def test_a_field_is_minus_the_gradient_of_its_energy(name, x, woken):
    field = fields(woken)[name]
    u = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(field.energy(u).sum(), u)
    torch.testing.assert_close(field(x), -gradient, **TIGHT)


@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
def test_a_model_with_a_share_is_the_average(energy, x, woken):
    network = woken(MLP(D, 1 if energy else D, generator=torch.Generator().manual_seed(0)))
    plain, own = ScoreModel(network, precision(), energy=energy), mixture_of(*parts())
    for share in (0.0, 0.25, 1.0):
        mixed = plain.mixed(own, share)
        expected = (1 - share) * plain(x) + share * own(x)
        torch.testing.assert_close(mixed(x), expected, **TIGHT)
        assert mixed.network is network
        again = mixed.mixed(own, 0.5)(x)  # a share takes the place of another
        torch.testing.assert_close(again, 0.5 * plain(x) + 0.5 * own(x), **TIGHT)


@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
@pytest.mark.parametrize("sigma", [0.05, 1.0, 4.0])
def test_a_model_at_many_levels_is_the_average_at_each(energy, sigma, x, woken):
    stream = torch.Generator().manual_seed(0)
    network = woken(NoiseConditionalMLP(D, 1 if energy else D, generator=stream))
    plain, own = Denoiser(network, precision(), energy=energy), mixture_of(*parts())
    mixed = plain.mixed(own, 0.4)
    truth = score_of(law_of(*parts(), sigma), x)
    expected = 0.6 * plain.at(sigma)(x) + 0.4 * truth
    torch.testing.assert_close(mixed.at(sigma)(x), expected, **TIGHT)
    levels = torch.full((N, 1), sigma, dtype=x.dtype)
    torch.testing.assert_close(mixed(x, levels), expected, **TIGHT)
    # The flow: -sigma^2 S_sigma^-1/2 r(S_sigma^1/2 w).
    eigenvalues, Q = eigen(precision())
    blurred = 1 / eigenvalues + sigma**2
    residual = expected + x @ (Q / blurred) @ Q.T
    w = x @ (Q / blurred.sqrt()) @ Q.T
    velocity = -(sigma**2) * residual @ (Q / blurred.sqrt()) @ Q.T
    torch.testing.assert_close(mixed.flow(sigma)(w), velocity, rtol=1e-8, atol=1e-8)


# The share --------------------------------------------------------------------------------------


def objective_at(A, B):
    return [a * A + a * a * B / 2 for a in (0.0, 0.5, 1.0)]


@pytest.mark.parametrize(
    ("share", "noise", "found"),
    [
        (0.4, 0.01, 0.4),
        (-0.5, 0.01, 0.0),  # it is an average, and goes no farther than its ends
        (1.7, 0.01, 1.0),
        (0.35, 16.0, 0.0),  # one and a half standard errors are .375
        (0.7, 14.0, 1.0),  # they are .328: it is not 0 ...
        (0.7, 12.0, 0.7),  # ... and here, .281, it is not 1 either
    ],
)
def test_the_share_and_its_standard_error(share, noise, found):
    n = 1024
    sign = 1 - 2 * (torch.arange(n, dtype=torch.float64) % 2)
    B = torch.full((n,), 2.0, dtype=torch.float64)
    rows = objective_at(noise * sign - share * B, B)
    assert best_share(*rows) == pytest.approx(found, abs=1e-12)


def test_a_share_that_nobody_can_know_is_none():
    zeros, one = torch.zeros(9), torch.ones(1)
    assert best_share(zeros, zeros, zeros) == 0.0  # the two fields are one
    assert best_share(one, 0 * one, one) == 0.0  # one row has no spread
    wild = torch.tensor([0.0, torch.inf, 0.0])
    assert best_share(zeros[:3], wild, zeros[:3]) == 0.0


# The mixture ------------------------------------------------------------------------------------

FOUR = GaussianMixture.four()
ROWS = FOUR.sample(1000, random_state=0)
BANANA = TwistedGaussian(n_features=2).sample(2000, random_state=0)


def test_the_number_of_components_is_found():
    g = likely_mixture(ROWS, 0)
    assert (g.n_components, g.covariance_type) == (4, "tied")
    uneven = GaussianMixture([[-3.0, 0.0], [3.0, 0.0]], [0.1, 1.0]).sample(1000, random_state=0)
    g = likely_mixture(uneven, 0)
    assert (g.n_components, g.covariance_type) == (2, "full")


@pytest.mark.parametrize("d", [1, 2, 5])
def test_one_gaussian_is_no_mixture(d):
    assert likely_mixture(Gaussian(n_features=d).sample(1000, random_state=0), 0) is None


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("seed", range(4))
def test_the_likelier_start_goes_on_to_its_end(seed):
    random = np.random.RandomState(seed)
    options = {"tol": 1e-4, "reg_covar": 1e-6, "warm_start": True, "random_state": random}
    starts = [sklearn.mixture.GaussianMixture(5, max_iter=3, **options) for _ in range(2)]
    likelier = max((g.fit(BANANA) for g in starts), key=lambda g: g.lower_bound_)
    likelier.set_params(max_iter=100).fit(BANANA)
    g, criterion = _counted(BANANA, 5, np.random.RandomState(seed), np.inf)
    assert g.converged_
    assert likelier.converged_
    np.testing.assert_allclose(g.lower_bound_, likelier.lower_bound_, atol=1e-10)
    np.testing.assert_allclose(criterion, likelier.bic(BANANA), rtol=1e-10)


def test_a_number_that_will_not_do_is_given_up(monkeypatch):
    steps = []
    fit = sklearn.mixture.GaussianMixture.fit

    def counted(self, rows):
        found = fit(self, rows)
        steps.append(self.n_iter_)
        return found

    monkeypatch.setattr(sklearn.mixture.GaussianMixture, "fit", counted)
    _, criterion = _counted(BANANA, 12, np.random.RandomState(0), np.inf)
    n_all = len(steps)
    steps.clear()
    _counted(BANANA, 12, np.random.RandomState(0), criterion - 1000)
    assert len(steps) == 3 < n_all  # two starts, and the stretch that shows it


def test_numbers_are_tried_on_some_rows_and_the_best_fitted_to_all(monkeypatch):
    monkeypatch.setattr(_mixture, "COUNTED", 200)
    seen = []
    fit = sklearn.mixture.GaussianMixture.fit

    def recorded(self, rows):
        seen.append(len(rows))
        return fit(self, rows)

    monkeypatch.setattr(sklearn.mixture.GaussianMixture, "fit", recorded)
    g = likely_mixture(ROWS, 0)
    assert (g.n_components, g.covariance_type) == (4, "tied")
    assert {*seen[:-1]} == {200}
    assert seen[-1] == len(ROWS)
    best = sklearn.mixture.GaussianMixture(4, covariance_type="tied", tol=1e-6, random_state=0)
    assert abs(g.score(ROWS) - best.fit(ROWS).score(ROWS)) < 1e-3


def test_components_on_single_points_are_refused():
    rows = np.repeat(np.random.default_rng(0).standard_normal((5, 2)), 100, axis=0)
    assert likely_mixture(rows, 0) is None
    assert likely_mixture(ROWS[:30], 0) is None  # ten rows to a column of each component


def test_the_log_density_of_what_is_found():
    """Of blurred rows, in coordinates of any scale."""
    M = np.array([[30.0, 10.0], [0.0, 0.02]])
    found = FoundMixture.of(ROWS @ M, 0.0, seed=0)
    log_det = np.linalg.slogdet(M)[1]
    whole = found.log_density(ROWS @ M)
    away = whole - FOUR.log_density(ROWS) + log_det
    assert np.abs(away).mean() < 0.2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_mixture, "AT_ONCE", 300)  # in parts
        np.testing.assert_allclose(found.log_density(ROWS @ M), whole, rtol=1e-12)
    blurred = FoundMixture.of(ROWS, 0.5, seed=0).log_density(ROWS)
    assert np.abs(blurred - FOUR.blurred(0.5).log_density(ROWS)).mean() < 0.1


# What a fit makes of it -------------------------------------------------------------------------

QUICK = {"max_iter": 1, "random_state": 0, "device": "cpu"}
every = pytest.mark.parametrize(
    "make",
    [
        SlicedScoreEstimator,
        ScoreMatchingEstimator,
        DenoisingScoreEstimator,
        lambda **p: SlicedScoreEstimator(n_members=1, **p),
        lambda **p: SlicedScoreEstimator(parametrization="energy", hidden_layer_sizes=(8,), **p),
        lambda **p: DenoisingScoreEstimator(parametrization="energy", hidden_layer_sizes=(8,), **p),
        lambda **p: DenoisingScoreEstimator(sigma=[3.0, 1.0, 0.3, 0.05], **p),
    ],
    ids=["sliced", "exact", "denoising", "one", "energy", "denoising-energy", "ladder"],
)


def blur_of(est):
    """Return the lowest noise level in the units of X; the columns have one scale."""
    return est.sigmas_[-1] * ROWS.std() if hasattr(est, "sigmas_") else 0.0


@every
def test_a_mixture_is_known_as_well_as_by_maximum_likelihood(make):
    est = make(**QUICK).fit(ROWS)
    assert est.mixture_share_ == 1.0
    truth = FOUR.blurred(blur_of(est)).score(ROWS)
    error = np.linalg.norm(est.score_samples(ROWS) - truth, axis=1).mean()
    assert error < 0.4  # about .2 here; predicting zero has 2.5, and one Gaussian 2.4


@every
def test_it_can_be_switched_off(make):
    est = make(**QUICK, mixture=False).fit(ROWS)
    assert est.mixture_share_ == 0.0
    truth = FOUR.blurred(blur_of(est)).score(ROWS)
    assert np.linalg.norm(est.score_samples(ROWS) - truth, axis=1).mean() > 0.8


@every
def test_copies_have_the_same_share(make):
    est = make(**QUICK).fit(ROWS)
    copy = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(copy.score_samples(ROWS), est.score_samples(ROWS))
    if est.get_params().get("sigma") != [3.0, 1.0, 0.3, 0.05]:  # too coarse to sample from
        drawn = [each.sample(5, random_state=0) for each in (est, copy)]
        np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("params", [{"mixture": True}, {"mixture": False}])
def test_a_warm_start_weighs_anew(params):
    est = SlicedScoreEstimator(**QUICK, warm_start=True).fit(ROWS)
    est.set_params(**params).fit(ROWS)
    assert est.mixture_share_ == float(params["mixture"])


def test_a_sharper_network_than_any_mixture_keeps_the_field():
    X = Ring().sample(3000, random_state=0)
    est = SlicedScoreEstimator(n_members=1, max_iter=100, random_state=0).fit(X)
    assert est.mixture_share_ == 0.0


@pytest.mark.parametrize("standardize", ["full", "diag", None])
def test_the_mixture_does_not_depend_on_coordinates(standardize):
    """Of components of one shape: columns scaled and mixed have the score that belongs to them."""
    M = np.array([[30.0, 10.0], [0.0, 0.02]])
    est = SlicedScoreEstimator(**QUICK, standardize="full").fit(ROWS)
    other = SlicedScoreEstimator(**QUICK, standardize=standardize).fit(ROWS @ M)
    assert est.mixture_share_ == other.mixture_share_ == 1.0
    back = other.score_samples(ROWS @ M) @ M.T
    np.testing.assert_allclose(back, est.score_samples(ROWS), rtol=1e-8, atol=1e-8)


def test_the_density_of_a_mixture_is_that_of_the_flow():
    est = DenoisingScoreEstimator(**QUICK).fit(ROWS)
    field = est._model.mixture.at(est.sigmas_[-1])
    u = torch.tensor(est._affine.transform(ROWS[:50]))
    constant = 0.5 * 2 * np.log(2 * np.pi) - est._affine.log_det
    expected = -field.energy(u).numpy() - constant
    np.testing.assert_allclose(est.log_density(ROWS[:50], n_steps=80), expected, atol=3e-3)


@pytest.mark.parametrize("n_members", [1, 3])
def test_a_mixture_is_weighed_on_rows_it_has_not_seen(n_members, monkeypatch):
    seen = {}

    def again(g, Z):
        seen.setdefault("fitted", []).append(Z)
        return own(g, Z)

    def weigh(model, judge, U, train, x_held_out, **params):
        seen["held_out"] = x_held_out.reshape(n_members, -1, U.shape[1]).numpy()
        seen["of"] = _mixture._Whitened(U)
        return weighed(model, judge, U, train, x_held_out, **params)

    own, weighed = _mixture._again, _share.weigh
    monkeypatch.setattr(_mixture, "_again", again)
    monkeypatch.setattr("skscore.estimators._base.weigh", weigh)
    monkeypatch.setattr(_share, "likely_products", lambda *args, **params: None)
    SlicedScoreEstimator(n_members=n_members, **QUICK).fit(ROWS)
    of_all, *of_members = seen["fitted"]
    assert len(of_all) == len(ROWS)
    assert len(of_members) == n_members
    for fitted, held_out in zip(of_members, seen["held_out"], strict=True):
        both = np.concatenate([fitted, seen["of"].of(held_out.astype(np.float64))])
        assert len(fitted) == 900
        assert len(np.unique(both.round(5), axis=0)) == 1000  # together they are all the rows


def test_at_many_levels_a_mixture_is_weighed_on_more_noise_than_the_network_is_judged_on(
    monkeypatch,
):
    """The noise, and not the rows, is most of the error of a share."""
    evaluated = []

    def weigh(model, judge, U, train, x_held_out, **params):
        class Zero:
            def weighed_error(self, y, target, sigma):
                evaluated.append(y[..., 0])
                return torch.zeros_like(y)

        assert judge(Zero()).shape == x_held_out.shape[:-1]

    monkeypatch.setattr("skscore.estimators._base.weigh", weigh)
    DenoisingScoreEstimator(**QUICK).fit(FOUR.sample(4_000, 0))
    seen = torch.cat(evaluated, dim=-1)
    assert seen.shape[-1] == 2 * _many_levels.WEIGHED * 400  # a tenth is held out
    assert seen.shape[-1] > 3 * 2 * _many_levels.JUDGED
    assert len(seen[0].unique()) > 0.99 * seen.shape[-1]  # noise of its own each time


@pytest.mark.parametrize(
    "params", [{"early_stopping": False}, {"mixture": False}], ids=["no held-out rows", "off"]
)
def test_no_mixture_is_fitted_where_none_is_asked_for(params, monkeypatch):
    monkeypatch.setattr("skscore.estimators._base.weigh", None)
    assert SlicedScoreEstimator(**QUICK, **params).fit(ROWS).mixture_share_ == 0.0


@pytest.mark.parametrize(("n_rows", "weighed"), [(190, 0), (200, 1)])
def test_a_mixture_is_weighed_on_twenty_rows_at_least(n_rows, weighed, monkeypatch):
    tried = []
    monkeypatch.setattr(_share, "_candidates", lambda *args: tried.append(args) or iter(()))
    SlicedScoreEstimator(**QUICK, n_members=1).fit(ROWS[:n_rows])
    assert len(tried) == weighed


def test_more_columns_than_a_mixture_is_fitted_to():
    X = np.random.default_rng(0).standard_normal((700, 65)) + 4 * np.arange(700)[:, None] % 8
    est = SlicedScoreEstimator(**QUICK, hidden_layer_sizes=(4,)).fit(X)
    assert est.mixture_share_ == 0.0


def test_rows_of_a_noise_level_have_the_mixture_of_that_level():
    est = SlicedScoreEstimator(**QUICK, sigma=0.5).fit(ROWS)
    assert est.mixture_share_ == 1.0
    truth = FOUR.blurred(0.5 * ROWS.std()).score(ROWS)
    assert np.linalg.norm(est.score_samples(ROWS) - truth, axis=1).mean() < 0.2


def test_an_interrupted_mixture_leaves_the_network(monkeypatch):
    def weigh(*args, **params):
        raise KeyboardInterrupt

    plain = SlicedScoreEstimator(**QUICK, mixture=False).fit(ROWS)
    monkeypatch.setattr("skscore.estimators._base.weigh", weigh)
    est = SlicedScoreEstimator(**QUICK)
    with pytest.raises(KeyboardInterrupt):
        est.fit(ROWS)
    np.testing.assert_array_equal(est.score_samples(ROWS), plain.score_samples(ROWS))
    assert est.mixture_share_ == 0.0


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_rows_whose_covariance_leaves_the_numbers_have_no_mixture(scale):
    with np.errstate(all="ignore"):
        assert not _mixture._Whitened(scale * ROWS).usable
        assert _mixture._Whitened(1e-100 * ROWS).usable
        assert not _mixture._Whitened(np.hstack([ROWS, 0 * ROWS])).usable


def test_a_caller_who_wants_errors_of_numpy_gets_none_from_the_mixture():
    far = np.sign(ROWS) * 100 + ROWS  # the shares of other components underflow
    plain = SlicedScoreEstimator(**QUICK).fit(far)
    with np.errstate(all="raise"):
        est = SlicedScoreEstimator(**QUICK).fit(far)
    assert est.mixture_share_ == plain.mixture_share_ > 0


def test_directions_of_a_flow_fit_in_memory(monkeypatch):
    """With many components and columns they go a few at a time, whatever wraps the mixture."""
    at_once = []

    def jvp(self, x, v):
        at_once.append(v[:, :, 0].numel() * self.means.shape[0] * x.shape[1])
        return own(self, x, v)

    d, k, n = 30, 10, 4000
    own = Mixture.value_and_jvp
    monkeypatch.setattr(Mixture, "value_and_jvp", jvp)
    eye = torch.eye(d, dtype=torch.float64)
    mixture = Mixture(torch.zeros(k), draw(k, d), torch.ones(k, d), eye.expand(k, d, d))
    network = MLP(d, d, generator=torch.Generator().manual_seed(0)).to(torch.float64)
    model = ScoreModel(network, eye, energy=False).mixed(mixture.to(torch.float64), 0.5)
    with torch.no_grad():
        divergence_by_tangents(Conjugate(model.residual, eye, eye), draw(n, d))
    assert len(at_once) > 1
    assert 8 * max(at_once) <= TANGENT_BYTES / 4


@pytest.mark.slow
def test_fits_that_overlap_leave_the_process_as_it_was():
    def state():
        return [pool["num_threads"] for pool in threadpool_info()], list(warnings.filters)

    SlicedScoreEstimator(**QUICK).fit(ROWS)  # what is imported late
    before = state()
    batches = [ROWS[:400], ROWS[:700], ROWS, ROWS[::2]] * 2
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda rows: SlicedScoreEstimator(**QUICK).fit(rows), batches))
    assert state() == before


def test_what_is_weighed_is_fitted_to_training_rows(monkeypatch):
    """The mixture that stays is that of all rows, and the one that was judged is not."""
    weighed = []

    def mixed(self, mixture, share):
        weighed.append(mixture)
        return own(self, mixture, share)

    own = ScoreModel.mixed
    monkeypatch.setattr(ScoreModel, "mixed", mixed)
    SlicedScoreEstimator(n_members=1, **QUICK).fit(ROWS)
    *judged, final = weighed
    assert len(judged) == 3
    for each in judged:
        assert not torch.allclose(each.means, final.means.to(each.means), rtol=1e-4, atol=1e-4)


def test_rows_in_the_order_of_their_groups(monkeypatch):
    monkeypatch.setattr(_share, "MOST_ROWS", 200)  # fewer than the first group has
    ordered = ROWS[np.lexsort(np.sign(ROWS).T)]
    assert SlicedScoreEstimator(**QUICK).fit(ordered).mixture_share_ == 1.0


def test_the_mixture_of_blurred_rows_is_weighed_on_blurred_rows(monkeypatch):
    seen = {}

    def weigh(model, judge, U, train, x_held_out, **params):
        seen.update(params, variance=float(x_held_out.var()))

    monkeypatch.setattr("skscore.estimators._base.weigh", weigh)
    SlicedScoreEstimator(**QUICK, sigma=2.0).fit(ROWS)
    assert seen["sigma"] == 2.0
    assert 4.0 < seen["variance"] < 6.0  # one of the rows and four of the noise
