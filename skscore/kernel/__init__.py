"""Kernel estimators of the score."""

from skscore.kernel._kde import KDEScoreBaseline
from skscore.kernel._kernel_score import KernelScoreEstimator

__all__ = ["KDEScoreBaseline", "KernelScoreEstimator"]
