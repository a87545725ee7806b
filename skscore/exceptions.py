"""Errors and warnings of skscore that a caller may want to catch by name."""

__all__ = ["DataWarning", "DegenerateDataError", "DivergenceError", "SamplingWarning"]


class DegenerateDataError(ValueError):
    """The training rows have no density that a score could belong to (zero variance)."""


class DivergenceError(FloatingPointError):
    """Training or a chain ran away, or left the finite numbers; the message says at which step."""


class DataWarning(UserWarning):
    """The data can be fitted, but part of them has no density: constant or discrete columns."""


class SamplingWarning(UserWarning):
    """The samples can be used, but chains ran away and began again, or the levels are too few."""
