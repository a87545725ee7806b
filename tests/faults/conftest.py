"""Small, fast estimators of every kind, and plain data, that every fault is tried on."""

import os
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

import skscore
from skscore import (
    DenoisingScoreEstimator,
    KDEScoreBaseline,
    KernelScoreEstimator,
    ScoreMatchingEstimator,
    SlicedScoreEstimator,
)

# No early stopping: it may return to the Gaussian of the start, and then a test of the network
# would test nothing.
NET = {
    "hidden_layer_sizes": (16, 16),
    "n_members": 1,
    "max_iter": 4,
    "batch_size": 32,
    "learning_rate_init": 0.02,
    "early_stopping": False,
    "random_state": 0,
    "device": "cpu",
}
KDE = {"device": "cpu"}

ESTIMATORS = {
    "kde": (KDEScoreBaseline, KDE),
    "kde-silverman": (KDEScoreBaseline, KDE | {"bandwidth": "silverman"}),
    "kde-cv": (KDEScoreBaseline, KDE | {"bandwidth": "cv"}),
    "kde-number": (KDEScoreBaseline, KDE | {"bandwidth": 0.5}),
    "kernel": (KernelScoreEstimator, {"random_state": 0}),
    "kernel-numbers": (KernelScoreEstimator, {"bandwidth": 1.0, "alpha": 0.01, "random_state": 0}),
    "sliced": (SlicedScoreEstimator, NET),
    "exact": (ScoreMatchingEstimator, NET),
    "energy": (ScoreMatchingEstimator, NET | {"parametrization": "energy"}),
    "members": (SlicedScoreEstimator, NET | {"n_members": 2}),
    "denoising": (DenoisingScoreEstimator, NET),
    "ladder": (DenoisingScoreEstimator, NET | {"sigma": np.geomspace(6.0, 0.1, 10).tolist()}),
    "denoising-energy": (DenoisingScoreEstimator, NET | {"parametrization": "energy"}),
    "one-level": (DenoisingScoreEstimator, NET | {"sigma": 0.3}),
}


FIRST = ("kde", "kernel", "sliced", "exact", "denoising")  # of each class


@pytest.fixture(params=FIRST)
def make(request):
    """Make an estimator of one of the five classes, with other parameters if given."""
    return _maker(request.param)


OWN = ("ladder", "denoising-energy")  # they have tests of their own


@pytest.fixture(
    params=[
        pytest.param(kind, marks=() if kind in FIRST else (pytest.mark.slow,))
        for kind in ESTIMATORS
        if kind not in OWN
    ]
)
def make_any(request):
    """Make an estimator of every kind: each bandwidth, each objective, an energy.

    A quick run looks at the first of each class; the others are slow.
    """
    return _maker(request.param)


@pytest.fixture(params=["sliced", "exact", "energy"])
def make_net(request):
    """Make an estimator that trains a network; of score matching, if no test says otherwise."""
    return _maker(request.param)


@pytest.fixture(params=["kde", "kde-silverman", "kde-cv", "kde-number"])
def make_kde(request):
    """Make a kernel density estimate, with every kind of bandwidth."""
    return _maker(request.param)


@pytest.fixture
def make_kind():
    """Make an estimator of a named kind."""
    return lambda name, **parameters: _maker(name)(**parameters)


def _maker(name):
    cls, defaults = ESTIMATORS[name]

    def make(**parameters):
        return cls(**defaults | parameters)

    make.kind = name
    return make


@pytest.fixture
def attempt():
    """Call, and return the value and None, or None and the error of an expected class."""

    def attempt(errors, function, *args):
        try:
            return function(*args), None
        except errors as error:
            return None, error

    return attempt


@pytest.fixture
def global_seeds():
    """Seed the global streams of random numbers; they are put back in the end."""
    saved = np.random.get_state(), torch.get_rng_state(), random.getstate()  # noqa: NPY002

    def seed(number):
        np.random.seed(number)  # noqa: NPY002
        torch.manual_seed(number)
        random.seed(number)

    yield seed
    np.random.set_state(saved[0])  # noqa: NPY002
    torch.set_rng_state(saved[1])
    random.setstate(saved[2])


@pytest.fixture
def draw():
    """Draw rows from a fitted model, by chains of a few steps where it has chains."""

    def draw(fitted, n_samples, *, random_state=0, **params):
        if not isinstance(fitted, KDEScoreBaseline):
            params = {"n_steps": 8} | params
        return fitted.sample(n_samples, random_state=random_state, **params)

    return draw


@pytest.fixture
def everything(draw):
    """Return what a user can see of a fitted model."""

    def everything(fitted, X):
        values = [fitted.score_samples(X), fitted.score(X), draw(fitted, 40)]
        for name in ("energy", "log_density", "transform"):
            values += [getattr(fitted, name)(X)] if hasattr(fitted, name) else []
        return [np.asarray(v) for v in values]

    return everything


@pytest.fixture
def two_threads():
    """Two torch threads in this thread, and two of BLAS's, whatever they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(before)


@pytest.fixture
def X():
    """Return 60 correlated rows on a grid of 2^-16: an offset or a factor of 2^k is exact."""
    z = np.random.RandomState(0).normal(size=(60, 3))
    rows = z @ [[2.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 0.5]] + [1.0, -2.0, 3.0]
    return np.round(rows * 2**16) / 2**16


@pytest.fixture
def run_python():
    """Run a script in a process of its own; a hang fails after `timeout` seconds."""
    root = os.path.dirname(os.path.dirname(skscore.__file__))
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(script, timeout=60):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
