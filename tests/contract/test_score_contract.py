"""Our own contract, on every variant; and the twins that it must find."""

import json
import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import twins_of_fit  # noqa: F401 (its classes enter TWINS)
import twins_of_sample  # noqa: F401
from quick import EACH
from twins import TWINS
from variants import VARIANTS

from skscore import KDEScoreBaseline
from skscore.testing import check_score_estimator, score_estimator_checks

CHECKS = {check.__name__: check for check in score_estimator_checks()}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("variant", EACH)
def test_variant_keeps_the_contract(variant, check):
    CHECKS[check](VARIANTS[variant])


FRESH = [
    "kde",
    "kernel-numbers",
    "sliced",
    "exact",
    "exact-energy",
    "exact-network",
    "exact-linear-network",
    "sliced-ensemble",
    "sliced-one",
    "denoising",
    "denoising-one",
    "denoising-energy",
    "denoising-network",
]


@pytest.fixture(scope="module")
def changed_by_the_first_fit():
    """What each variant changes in a process that has imported it, and fitted nothing."""
    lines = """
import json, sys
import skscore.estimators, skscore.kernel, skscore._torch
from skscore import testing
from variants import VARIANTS
changed = {}
for name in sys.argv[1:]:
    before = testing.global_state()
    fitted = testing._fitted(VARIANTS[name])
    fitted.score_samples(testing._data())
    fitted.score(testing._data())
    fitted.sample(2, random_state=0)
    after = testing.global_state()
    changed[name] = [what for what in before if before[what] != after[what]]
print(json.dumps(changed))
"""
    done = subprocess.run(
        [sys.executable, "-c", lines, *FRESH],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
        env={name: value for name, value in os.environ.items() if not name.startswith("TORCH")},
        timeout=120,
    )
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("variant", FRESH)
def test_the_first_fit_changes_nothing_global(variant, changed_by_the_first_fit):
    """Nor may what it imports on its way: `check_globals_are_left_alone` looks at a second fit."""
    assert changed_by_the_first_fit[variant] == []


def named_check(estimator):
    with pytest.raises(AssertionError) as caught:
        check_score_estimator(estimator)
    return str(caught.value)


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_twin_is_named(twin):
    assert named_check(twin()).startswith(TWINS[twin] + ":")


def test_every_check_has_a_twin():
    assert set(TWINS.values()) | {"check_globals_are_left_alone"} == set(CHECKS)


# What a library must not touch -----------------------------------------------------------------

TOUCHES = {
    "numpy random stream": np.random.random,
    "python random stream": random.random,
    "numpy error handling": lambda: np.seterr(all="ignore"),
    "warning filters": lambda: warnings.simplefilter("ignore", ImportWarning),
    "environment": lambda: os.environ.update(SKSCORE_TWIN="1"),
    "working directory": lambda: os.chdir(os.sep),
    "interrupt handler": lambda: signal.signal(signal.SIGINT, lambda *_: None),
    "torch random stream": lambda: torch.rand(1),
    "torch default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch threads": lambda: torch.set_num_threads(3),
    "torch grad mode": lambda: torch.set_grad_enabled(False),
    "torch deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "torch matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "cudnn benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
}


class Touches(KDEScoreBaseline):
    """Touches one of the globals, in one of its methods."""

    def __init__(self, bandwidth="scott", *, device="auto", what=None, when="fit"):
        super().__init__(bandwidth, device=device)
        self.what = what
        self.when = when

    def _touch(self, when):
        if self.when == when:
            TOUCHES[self.what]()

    def fit(self, X, y=None):
        self._touch("fit")
        return super().fit(X)

    def score_samples(self, X):
        self._touch("score_samples")
        return super().score_samples(X)

    def score(self, X, y=None):
        self._touch("score")
        return super().score(X)

    def sample(self, n_samples=1, random_state=None):
        self._touch("sample")
        return super().sample(n_samples, random_state)


@pytest.fixture
def restored(monkeypatch):
    """Put every global back."""
    monkeypatch.chdir(os.getcwd())
    monkeypatch.delenv("SKSCORE_TWIN", raising=False)
    before = {
        np.random.set_state: np.random.get_state(),  # noqa: NPY002
        random.setstate: random.getstate(),
        torch.set_rng_state: torch.get_rng_state(),
        torch.set_default_dtype: torch.get_default_dtype(),
        torch.set_num_threads: torch.get_num_threads(),
        torch.set_grad_enabled: torch.is_grad_enabled(),
        torch.use_deterministic_algorithms: torch.are_deterministic_algorithms_enabled(),
        torch.set_float32_matmul_precision: torch.get_float32_matmul_precision(),
    }
    handler = signal.getsignal(signal.SIGINT)
    benchmark = torch.backends.cudnn.benchmark
    with np.errstate(), warnings.catch_warnings():
        yield
    for restore, value in before.items():
        restore(value)
    signal.signal(signal.SIGINT, handler)
    torch.backends.cudnn.benchmark = benchmark
    os.environ.pop("SKSCORE_TWIN", None)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    ("what", "when"),
    [(what, "fit") for what in TOUCHES]
    + [("torch threads", when) for when in ("score_samples", "score", "sample")],
)
def test_touching_a_global_is_named(what, when):
    message = named_check(Touches(what=what, when=when))
    assert message.startswith("check_globals_are_left_alone:")
    assert what in message
