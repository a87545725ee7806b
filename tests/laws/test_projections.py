"""Laws of the random directions of sliced score matching.

``v`` directions with ``E[vv'] = I``, ``S`` the symmetric part of ``ds/dx``. Random tests: fixed
seeds, alpha = 1e-6 two-sided for each number compared.
"""

import math
from functools import partial

import pytest
import torch

from skscore.objectives import PROJECTIONS, exact, sliced

Z = 4.89  # alpha = 1e-6, two-sided
D = 6
DRAWS = 400_000

# E[v_i^2 v_j^2] - E[v_i v_j]^2 off and on the diagonal, and the variance of v' S v.
MOMENTS = {
    "gaussian": (1.0, 2.0),
    "rademacher": (1.0, 0.0),
    "sphere": (D / (D + 2), 3 * D / (D + 2) - 1),
}


def quadratic_variance(name, S):
    square, trace = float((S * S).sum()), float(S.trace())
    return {
        "gaussian": 2 * square,
        "rademacher": 2 * (square - float((S.diagonal() ** 2).sum())),
        "sphere": 2 * D / (D + 2) * (square - trace**2 / D),
    }[name]


def draw(law, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return law((DRAWS, D), stream, torch.empty(0, dtype=torch.float64))


def second_moment_z(name, v):
    """The largest z of the entries of mean(vv') - I; an entry without variance must be exact."""
    off, on = MOMENTS[name]
    variance = torch.full((D, D), off, dtype=torch.float64).fill_diagonal_(on)
    gap = (v.T @ v / len(v) - torch.eye(D, dtype=torch.float64)).abs()
    return float((gap / (variance / len(v) + 1e-24).sqrt()).max())


@pytest.mark.parametrize("name", PROJECTIONS)
def test_second_moment_is_the_identity(name):
    v = draw(PROJECTIONS[name])
    assert second_moment_z(name, v) < Z
    assert float(v.mean(dim=0).abs().max()) < Z / math.sqrt(DRAWS)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_wrong_radii_are_seen(name):
    v = draw(PROJECTIONS[name])
    assert second_moment_z(name, v / math.sqrt(D)) > Z
    assert second_moment_z(name, 1.01 * v) > Z


def test_sphere_has_the_radius_and_rademacher_the_signs():
    radius = draw(PROJECTIONS["sphere"]).norm(dim=1)
    torch.testing.assert_close(radius, torch.full_like(radius, math.sqrt(D)), rtol=1e-12, atol=0)
    assert set(draw(PROJECTIONS["rademacher"]).unique().tolist()) == {-1.0, 1.0}


@pytest.fixture(scope="module")
def field():
    """An affine field that is no gradient, and the symmetric part of its Jacobian."""
    A = torch.randn(D, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return lambda x: 1.0 - x @ A.T, -(A + A.T) / 2


def hutchinson_z(name, objective, field):
    """z of the mean and of the variance of the sliced objective, over equal rows."""
    score, S = field
    x = torch.full((DRAWS, D), 0.3, dtype=torch.float64)
    rows = objective(score, x, generator=torch.Generator().manual_seed(5), projection=name)
    gap = rows - exact(score, x[:1])
    expected = quadratic_variance(name, S)
    mean_z = float(gap.mean()) / math.sqrt(expected / DRAWS)
    spread = float(((gap**2 - expected) ** 2).mean().sqrt()) / math.sqrt(DRAWS)
    return abs(mean_z), abs(float((gap**2).mean()) - expected) / spread


@pytest.mark.parametrize("name", PROJECTIONS)
def test_hutchinson_variance(name, field):
    assert max(hutchinson_z(name, sliced, field)) < Z


@pytest.mark.parametrize("name", PROJECTIONS)
def test_wrong_directions_change_mean_or_variance(name, field):
    def unit(score, x, *, generator, projection):
        v = PROJECTIONS[projection]((1, *x.shape), generator, x) / math.sqrt(x.shape[1])
        return sliced(score, x, directions=v)

    assert max(hutchinson_z(name, unit, field)) > Z
    other = {"gaussian": "sphere", "sphere": "rademacher", "rademacher": "gaussian"}[name]
    swapped = partial(lambda *a, projection, **k: sliced(*a, projection=other, **k))
    assert max(hutchinson_z(name, swapped, field)) > Z


def test_rademacher_variance_by_enumeration(field):
    score, S = field
    x = torch.full((1, D), 0.3, dtype=torch.float64)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * D)
    rows = torch.stack([sliced(score, x, directions=v[None, None]) for v in signs])
    assert float(rows.var(correction=0)) == pytest.approx(
        quadratic_variance("rademacher", S), rel=1e-10
    )


@pytest.mark.parametrize("reduced", [True, False])
def test_plain_and_reduced_norms_have_one_mean(reduced, field):
    score, _ = field
    x = torch.full((DRAWS, D), 0.3, dtype=torch.float64)
    for name in PROJECTIONS:
        rows = sliced(
            score,
            x,
            generator=torch.Generator().manual_seed(9),
            projection=name,
            variance_reduction=reduced,
        )
        gap = rows - exact(score, x[:1])
        assert abs(float(gap.mean() / gap.std())) * math.sqrt(DRAWS) < Z


@pytest.mark.parametrize("name", PROJECTIONS)
def test_the_generator_decides_the_directions(name, field):
    x = torch.ones(50, D, dtype=torch.float64)
    before = torch.get_rng_state()
    a, b, c = (
        sliced(
            field[0],
            x,
            generator=torch.Generator().manual_seed(seed),
            projection=name,
            n_projections=3,
        )
        for seed in (0, 0, 1)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())
