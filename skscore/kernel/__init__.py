"""Kernel estimators of the score."""

from skscore.kernel._kde import KDEScoreBaseline

__all__ = ["KDEScoreBaseline"]
