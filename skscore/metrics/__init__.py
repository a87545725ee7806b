"""Measures of score fields and of samples: numpy arrays in, a Python float out, or one to a row."""

from skscore.metrics._c2st import c2st
from skscore.metrics._energy_distance import energy_distance
from skscore.metrics._fisher_divergence import fisher_divergence
from skscore.metrics._hyvarinen_score import hyvarinen_rows, hyvarinen_score
from skscore.metrics._mean_score_error import mean_score_error
from skscore.metrics._path_divergence import path_divergence

__all__ = [
    "c2st",
    "energy_distance",
    "fisher_divergence",
    "hyvarinen_rows",
    "hyvarinen_score",
    "mean_score_error",
    "path_divergence",
]
