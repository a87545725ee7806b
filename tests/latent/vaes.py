"""Small autoencoders, rows for them, and a decoder that is known."""

import numpy as np
import pytest
import torch

from skscore import GaussianVAE, ImplicitVAE

SMALL = {"hidden_layer_sizes": (8, 8), "max_iter": 2, "random_state": 0}
BOTH = pytest.mark.parametrize("cls", [GaussianVAE, ImplicitVAE])


class Linear(torch.nn.Module):
    """A known decoder, ``x = z W' + m``."""

    def __init__(self, W, m):
        super().__init__()
        self.register_buffer("W", torch.tensor(W))
        self.register_buffer("m", torch.tensor(m))

    def forward(self, z):
        return z @ self.W.T + self.m


class KnownDecoder:
    """A factory that pickles."""

    def __init__(self, W, m):
        self.W, self.m = W, m

    def __call__(self, n_components, n_features, *, generator):
        return Linear(self.W, self.m)


def rows(n=60, d=4, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 2)) @ random.normal(size=(2, d)) + random.normal(size=(n, d))
