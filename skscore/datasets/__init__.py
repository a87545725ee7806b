"""Distributions whose score is known exactly, to learn from and to judge estimates by."""

from skscore.datasets._checkerboard import Checkerboard
from skscore.datasets._funnel import Funnel
from skscore.datasets._gaussian import Gaussian
from skscore.datasets._gaussian_mixture import GaussianMixture
from skscore.datasets._ring import Ring
from skscore.datasets._shapes import SHAPES, make_shapes, shape_masks
from skscore.datasets._student_t import StudentT
from skscore.datasets._twisted_gaussian import TwistedGaussian
from skscore.datasets._two_moons import TwoMoons

__all__ = [
    "SHAPES",
    "Checkerboard",
    "Funnel",
    "Gaussian",
    "GaussianMixture",
    "Ring",
    "StudentT",
    "TwistedGaussian",
    "TwoMoons",
    "make_shapes",
    "shape_masks",
]
