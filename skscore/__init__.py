"""Estimate the score of a distribution, grad log p(x), from data, and sample from it."""

from importlib import import_module

__version__ = "0.1.0"

# Public names and their rooms; loaded at first use, so that datasets and metrics need no torch.
_HOMES = {
    "DenoisingScoreEstimator": "skscore.estimators",
    "GaussianVAE": "skscore.latent",
    "ImplicitVAE": "skscore.latent",
    "KDEScoreBaseline": "skscore.kernel",
    "KernelScoreEstimator": "skscore.kernel",
    "ScoreMatchingEstimator": "skscore.estimators",
    "SlicedScoreEstimator": "skscore.estimators",
    "datasets": "skscore",
    "exceptions": "skscore",
    "metrics": "skscore",
    "testing": "skscore",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    return (
        import_module(f"{home}.{name}") if home == __name__ else getattr(import_module(home), name)
    )


def __dir__():
    return sorted(__all__)
