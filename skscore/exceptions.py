"""Errors and warnings of skscore that a caller may want to catch by name."""

__all__ = ["DataWarning", "DegenerateDataError", "DivergenceError", "SamplingWarning"]


class DegenerateDataError(ValueError):
    """The training rows have no density that a score could belong to (zero variance)."""


class DivergenceError(FloatingPointError):
    """Training or a Markov chain left the finite numbers; the message names the step and remedy."""


class DataWarning(UserWarning):
    """The data can be fitted, but part of them has no density: constant or discrete columns."""


class SamplingWarning(UserWarning):
    """The samples can be used, but some chains ran away and had to begin again."""
