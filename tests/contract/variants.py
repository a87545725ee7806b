"""The table of estimators that every contract runs on: each class, and each branch of it."""

import torch

from skscore import (
    DenoisingScoreEstimator,
    KDEScoreBaseline,
    KernelScoreEstimator,
    ScoreMatchingEstimator,
    SlicedScoreEstimator,
)


class Plain(torch.nn.Module):
    """A network that skscore did not write."""

    def __init__(self, n_features, n_outputs, generator):
        super().__init__()
        self.first = torch.nn.Parameter(torch.randn(n_features, 8, generator=generator))
        self.last = torch.nn.Parameter(0.1 * torch.randn(8, n_outputs, generator=generator))

    def forward(self, x):
        return torch.nn.functional.softplus(x @ self.first) @ self.last


class WithNoise(Plain):
    """A network that skscore did not write, and that sees the noise level."""

    def __init__(self, n_features, n_outputs, generator):
        super().__init__(n_features + 1, n_outputs, generator)

    def forward(self, x, log_sigma):
        return super().forward(torch.cat([x, log_sigma], dim=-1))


def small_network(n_features, n_outputs, *, generator):
    return Plain(n_features, n_outputs, generator)


def linear_network(n_features, n_outputs, *, generator):
    """Return a network of torch's own layers."""
    with torch.random.fork_rng(devices=[]):  # their constructor draws from the global stream
        hidden, last = torch.nn.Linear(n_features, 8), torch.nn.Linear(8, n_outputs)
    for parameter in (*hidden.parameters(), *last.parameters()):
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return torch.nn.Sequential(hidden, torch.nn.Softplus(), last)


def _small(cls, **params):
    return cls(**{"max_iter": 3, "hidden_layer_sizes": (16, 16), "n_members": 1} | params)


def _sliced(**params):
    return _small(SlicedScoreEstimator, **params)


def noise_network(n_features, n_outputs, *, generator):
    """Return a network of one's own that sees the noise level."""
    return WithNoise(n_features, n_outputs, generator)


def _denoising(**params):
    return _small(DenoisingScoreEstimator, **params)


def _exact(**params):
    return _small(ScoreMatchingEstimator, **params)


VARIANTS = {
    "kde": KDEScoreBaseline(),
    "kde-float": KDEScoreBaseline(bandwidth=1.0),
    "kde-cv": KDEScoreBaseline(bandwidth="cv"),
    "kde-silverman": KDEScoreBaseline(bandwidth="silverman"),
    "kernel": KernelScoreEstimator(),
    "kernel-numbers": KernelScoreEstimator(bandwidth=1.0, alpha=1e-3),
    "kernel-few": KernelScoreEstimator(alpha=0.01, n_components=20, standardize="diag"),
    "sliced": SlicedScoreEstimator(max_iter=3),
    "sliced-one": _sliced(n_projections=1),
    "sliced-four": _sliced(n_projections=4),
    "sliced-deep": _sliced(hidden_layer_sizes=(16, 16, 16)),
    "sliced-unreduced": _sliced(n_projections=2, variance_reduction=False),
    "sliced-centred": _sliced(standardize=None, n_projections=1, projection="sphere"),
    "sliced-diag": _sliced(standardize="diag", n_projections=1, projection="gaussian"),
    "sliced-warm": _sliced(warm_start=True, early_stopping=False),
    "sliced-ensemble": _sliced(n_members=3),
    "sliced-sigma": _sliced(sigma=0.3),
    "sliced-plain": _sliced(
        curl_penalty=0.0,
        frequency_spread=1.0,
        learning_rate="constant",
        average=False,
        residual_test=False,
    ),
    "denoising": DenoisingScoreEstimator(max_iter=2),
    "denoising-one": _denoising(sigma=0.3),
    "denoising-one-energy": _denoising(sigma=0.3, parametrization="energy"),
    "denoising-ladder": _denoising(sigma=[5.0, 1.0, 0.3, 0.1], n_members=2),
    "denoising-geometric": _denoising(n_noise_levels=5, standardize="full"),
    "denoising-energy": _denoising(parametrization="energy"),
    "denoising-network": _denoising(network=noise_network, n_members=2),
    "denoising-blind": _denoising(network=small_network, standardize=None),
    "exact": ScoreMatchingEstimator(max_iter=3),
    "exact-energy": _exact(parametrization="energy", hidden_layer_sizes=(8, 8), n_members=2),
    "exact-deep": _exact(hidden_layer_sizes=(16, 16, 16), activation="tanh"),
    "exact-linear": _exact(hidden_layer_sizes=()),
    "exact-network": _exact(network=small_network),
    "exact-linear-network": _exact(network=linear_network, n_members=2),
    "exact-no-rows": _exact(keep_rows=False, activation="silu"),
    "exact-gelu": _exact(activation="gelu"),
}
