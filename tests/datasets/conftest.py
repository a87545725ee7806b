"""The table of distributions that every law runs on."""

import numpy as np
import pytest

from skscore.datasets import (
    Checkerboard,
    Funnel,
    Gaussian,
    GaussianMixture,
    Ring,
    StudentT,
    TwistedGaussian,
    TwoMoons,
)

CORRELATED = [[2.0, 0.6], [0.6, 0.5]]

TABLE = {
    "gaussian": lambda: Gaussian(),
    "gaussian-1d": lambda: Gaussian(mean=[3.0], covariance=[[4.0]]),
    "gaussian-shifted": lambda: Gaussian(mean=[1.0, -2.0], covariance=CORRELATED),
    "gaussian-5d": lambda: Gaussian.random(5, condition_number=50.0, random_state=3),
    "mixture": lambda: GaussianMixture(
        [[0.0, 0.0], [3.0, 1.0]], [CORRELATED, np.eye(2).tolist()], weights=[1.0, 3.0]
    ),
    "mixture-10d": lambda: GaussianMixture.random(),
    "four": lambda: GaussianMixture.four(),
    "eight": lambda: GaussianMixture.eight(),
    "moons": lambda: TwoMoons(),
    "ring": lambda: Ring(radius=1.5),
    "ring-wide": lambda: Ring(radius=1.0, std=0.4),
    "twisted": lambda: TwistedGaussian(),
    "twisted-20d": lambda: TwistedGaussian(20, scale=10.0, bend=-0.03),
    "funnel": lambda: Funnel(),
    "funnel-5d": lambda: Funnel(5, std=1.0),
    "student": lambda: StudentT(),
    "student-shifted": lambda: StudentT(df=3.0, mean=[1.0, -2.0], shape=CORRELATED),
    "checkerboard": lambda: Checkerboard(),
    "checkerboard-odd": lambda: Checkerboard(n_squares=3, width=2.0, smoothing=0.3),
}


@pytest.fixture(scope="session", params=TABLE)
def law(request):
    """Every distribution of the table in turn."""
    return TABLE[request.param]()


@pytest.fixture(scope="session")
def make_law():
    """Make one distribution of the table by its name."""
    return lambda name: TABLE[name]()
