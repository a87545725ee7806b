"""A posterior that is known, curved and in two parts: the implicit encoder is nearer to it."""

import numpy as np
import pytest
import torch

from skscore import GaussianVAE, ImplicitVAE
from skscore.metrics import energy_distance

NOISE = 0.3


class Folded(torch.nn.Module):
    """``x = (z_1^2, z_2 - z_1^2 / 2)``: each x has codes at either sign of z_1."""

    def forward(self, z):
        square = z[:, :1] ** 2
        return torch.cat([square, z[:, 1:] - 0.5 * square], dim=1)


def folded(n_components, n_features, *, generator):
    return Folded()


def rows(n, random):
    z = torch.tensor(random.normal(size=(n, 2)))
    return Folded()(z).numpy() + NOISE * random.normal(size=(n, 2))


def exact_draws(x, n, random):
    """Draw from p(z | x) on a grid of 901 x 901 cells."""
    axis = np.linspace(-4.5, 4.5, 901)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    gap = (x - Folded()(torch.tensor(grid)).numpy()) / NOISE
    log_p = -0.5 * (gap**2).sum(axis=1) - 0.5 * (grid**2).sum(axis=1)
    p = np.exp(log_p - log_p.max())
    which = random.choice(len(p), n, p=p / p.sum())
    return grid[which] + random.uniform(-0.005, 0.005, size=(n, 2))


@pytest.mark.slow
def test_the_implicit_encoder_is_nearer_to_a_curved_posterior_in_two_parts():
    random = np.random.default_rng(0)
    X, queries = rows(3000, random), rows(6, random)
    exact = [exact_draws(x, 500, random) for x in queries]
    distance = {}
    for cls in (GaussianVAE, ImplicitVAE):
        vae = cls(
            decoder=folded,
            noise_scale=NOISE,
            hidden_layer_sizes=(64, 64),
            max_iter=45,
            random_state=0,
        ).fit(X)
        Z = vae.encode(queries, 500, random_state=0)
        distance[cls] = np.mean([energy_distance(Z[:, i], exact[i]) for i in range(6)])
        if cls is ImplicitVAE:
            far = queries[:, 0] > 1
            signs = (Z[:, far, 0] > 0).mean(axis=0)
            assert far.any()
            assert ((signs > 0.25) & (signs < 0.75)).all()
    assert distance[GaussianVAE] > 4 * distance[ImplicitVAE]
