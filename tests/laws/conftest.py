"""What the laws share: exact data, woken networks and derivatives by autograd, all in float64."""

import numpy as np
import pytest
import torch


def _whitened(n, d, seed=0):
    """Return rows with sample mean zero and sample covariance exactly the identity."""
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(dim=0)
    L = torch.linalg.cholesky(x.T @ x / n)
    return torch.linalg.solve_triangular(L, x.T, upper=False).T


def _woken(module, seed=1):
    """Return a float64 module with no weight at zero, so that a last layer hides nothing."""
    stream = torch.Generator().manual_seed(seed)
    module = module.to(torch.float64)
    for p in module.parameters():
        noise = torch.randn(p.shape, generator=stream, dtype=torch.float64)
        p.data = noise / max(1, p.shape[0]) ** 0.5 if p.ndim == 2 else 0.5 * noise
    return module


def _jacobian(score, x, create_graph=False):
    """Return ``ds_i/dx_j`` of each row, (n, i, j), by reverse mode; rows must not mix."""
    J = torch.autograd.functional.jacobian(
        lambda rows: score(rows).sum(dim=0), x, create_graph=create_graph
    )
    return J.permute(1, 0, 2)


def _central_jacobian(field, X, steps):
    """Return ``ds_i/dx_j`` of each row, (n, i, j), by central differences, one step a column."""
    columns = []
    for j, h in enumerate(steps):
        e = np.zeros(X.shape[1])
        e[j] = h
        above, below = X + e, X - e  # at an offset the step that is taken is not quite h
        columns.append((field(above) - field(below)) / (above - below)[:, j, None])
    return np.stack(columns, axis=-1)


def _gradient_error(loss, module, n_directions=20, h=1e-5):
    """Return the largest relative gap of a parameter gradient and central differences."""
    weights = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
    parameters = list(module.parameters())
    parts = torch.autograd.grad(loss(), parameters, allow_unused=True, materialize_grads=True)
    gradient = torch.cat([part.reshape(-1) for part in parts])
    stream = torch.Generator().manual_seed(7)
    errors = []
    for _ in range(n_directions):
        v = torch.randn(weights.shape, generator=stream, dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            torch.nn.utils.vector_to_parameters(weights + sign * h * v, module.parameters())
            ends.append(float(loss().detach()))
        slope = (ends[0] - ends[1]) / (2 * h)
        errors.append(abs(slope - float(gradient @ v)) / float(gradient.norm()))
    torch.nn.utils.vector_to_parameters(weights, module.parameters())
    return max(errors)


@pytest.fixture(scope="session")
def whitened():
    return _whitened


@pytest.fixture(scope="session")
def woken():
    return _woken


@pytest.fixture(scope="session")
def jacobian():
    return _jacobian


@pytest.fixture(scope="session")
def central_jacobian():
    return _central_jacobian


@pytest.fixture(scope="session")
def gradient_error():
    return _gradient_error
