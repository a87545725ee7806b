"""Estimate the score of a distribution, grad log p(x), from data, and sample from it."""

from importlib import import_module

__version__ = "0.1.0"

# Public names and their homes; loaded at first use, so that datasets and metrics need no torch.
_HOMES = {
    "DenoisingScoreEstimator": "skscore.estimators",
    "GaussianVAE": "skscore.latent",
    "ImplicitVAE": "skscore.latent",
    "KDEScoreBaseline": "skscore.kernel",
    "KernelScoreEstimator": "skscore.kernel",
    "ScoreMatchingEstimator": "skscore.estimators",
    "SlicedScoreEstimator": "skscore.estimators",
}
_ROOMS = (
    "datasets",
    "density",
    "exceptions",
    "metrics",
    "networks",
    "noise",
    "objectives",
    "samplers",
    "testing",
)

__all__ = ["__version__", *_HOMES, *_ROOMS]


def __getattr__(name):
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
