"""The estimators that train a network."""

from skscore.estimators._denoising import DenoisingScoreEstimator
from skscore.estimators._score_matching import ScoreMatchingEstimator
from skscore.estimators._sliced import SlicedScoreEstimator

__all__ = ["DenoisingScoreEstimator", "ScoreMatchingEstimator", "SlicedScoreEstimator"]
