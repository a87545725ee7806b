"""Laws of what a network remembers: it is a kernel density estimate, and no row sees itself."""

import math

import numpy as np
import pytest
import torch

from skscore._denoiser import Denoiser
from skscore.kernel import _gaussian
from skscore.networks import Ensemble, Memory, UNet
from skscore.networks._memory import N_BANDWIDTHS

D = 6
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


def draw(*shape, seed=1):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=stream, dtype=torch.float64)


def holding(rows):
    memory = Memory().to(rows.dtype)
    memory.remember(rows)
    return memory


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 2.0, 50.0])
def test_it_is_where_the_field_of_a_kernel_density_estimate_leads(sigma):
    rows, x = draw(40, D), draw(5, D, seed=2)
    memory = holding(rows)
    width = math.sqrt(sigma**2 + memory.variance)
    leads = x + width**2 * _gaussian.score(x, rows, width)
    levels = torch.full((5, 1), sigma, dtype=x.dtype)
    torch.testing.assert_close(memory(x, levels), leads, rtol=1e-7, atol=1e-7)


def test_each_row_has_a_level_of_its_own():
    memory, x = holding(draw(40, D)), draw(3, D, seed=2)
    levels = torch.tensor([[0.1], [1.0], [9.0]], dtype=x.dtype)
    alone = [memory(a[None], level[None]) for a, level in zip(x, levels, strict=True)]
    torch.testing.assert_close(memory(x, levels), torch.cat(alone), **TIGHT)


def test_rows_do_not_see_themselves():
    """One of two that are equal stays in sight."""
    rows = draw(12, D)
    rows[7] = rows[2]
    memory, x, levels = holding(rows), draw(3, D, seed=2), 0.5 + draw(3, 1, seed=3) ** 2
    seen = memory(x, levels)
    memory.own = rows[[2, 5, 0]] + 1e-6  # as float32 leaves of it
    for i, away in enumerate((7, 5, 0)):
        kept = np.setdiff1d(np.arange(12), away)
        others = holding(rows)
        others.rows, others.offsets = rows[kept], others.offsets[kept]
        expected = others(x[i : i + 1], levels[i : i + 1])
        torch.testing.assert_close(memory(x, levels)[i : i + 1], expected, **TIGHT)
    assert (memory(x, levels) - seen).abs().amax(dim=1).min() > 1e-3
    memory.own = rows[[2, 5, 0]] + 4e-3  # that is another row
    torch.testing.assert_close(memory(x, levels), seen, **TIGHT)


def test_a_memory_of_one_row_stays_finite():
    memory = holding(draw(1, D))
    memory.own = memory.rows
    assert torch.isfinite(memory(draw(1, D, seed=2), torch.ones(1, 1, dtype=torch.float64))).all()


def test_rows_that_agree_along_one_direction_are_not_one():
    memory, x, levels = holding(draw(12, D)), draw(1, D, seed=2), torch.ones(1, 1)
    seen = memory(x, levels)
    for direction in memory.projections.T:  # rows apart by what one projection does not see
        away = draw(D, seed=3)
        away -= direction * (away @ direction) / (direction @ direction)
        memory.own = memory.rows[:1] + away
        torch.testing.assert_close(memory(x, levels), seen, **TIGHT)


@pytest.mark.parametrize("n", [40, 600])
@pytest.mark.parametrize("tightness", [1.0, 0.02])
def test_the_bandwidth_is_the_best_for_rows_that_are_left_out(n, tightness):
    """By brute force over the same bandwidths, all distances as they are; groups of four rows."""
    rows = draw(n // 4, D).repeat(4, 1) + tightness * draw(n, D, seed=2)
    memory = holding(rows)
    asked = np.arange(0, n, -(-n // 256))
    spread = float(rows.var(dim=0, correction=0).sum())
    distance = torch.cdist(rows[asked], rows) ** 2
    distance[np.arange(len(asked)), asked] = torch.inf
    errors = []
    for k in range(N_BANDWIDTHS):
        weights = torch.softmax(-distance / (2 * spread / 2**k), dim=1)
        errors.append(float((weights @ rows - rows[asked]).square().sum()))
    assert memory.variance == pytest.approx(spread / 2 ** int(np.argmin(errors)))
    assert (0 < np.argmin(errors) < N_BANDWIDTHS - 1) == (tightness == 1.0)


def test_rows_that_repeat_are_known_to_repeat():
    """Four images, many times each: the mean without a row is the best denoiser of these four."""
    four = draw(4, D)
    memory, x, levels = holding(four.repeat(25, 1)), draw(4, D, seed=2), torch.full((4, 1), 0.7)
    memory.own = four
    best = torch.softmax(-(torch.cdist(x, four) ** 2) / (2 * 0.7**2), dim=1) @ four
    torch.testing.assert_close(memory(x, levels.to(x)), best, rtol=0.0, atol=0.05)
    assert math.sqrt(memory.variance) < 0.2


def denoiser(rows, n_members=1, energy=False):
    """Return a denoiser whose networks remember rows, of data with deviation two."""
    members = []
    for seed in range(n_members):
        stream = torch.Generator().manual_seed(seed)
        shape = {"image_shape": (1, 1, D), "widths": (4,)}
        network = UNet(D, 1 if energy else D, generator=stream, **shape).to(torch.float64)
        for p in network.parameters():
            p.data += 0.3 * draw(*p.shape, seed=seed)
        network.remember(rows / 2)
        members.append(network)
    network = members[0] if n_members == 1 else Ensemble(members)
    return Denoiser(network, torch.tensor(0.25, dtype=torch.float64), energy=energy)


@pytest.mark.parametrize("energy", [False, True], ids=["score", "energy"])
@pytest.mark.parametrize("n_members", [1, 2])
def test_training_hides_from_each_row_what_it_was(n_members, energy):
    """The error is that of networks which have forgotten the row; they remember it afterwards."""
    rows = 2 * draw(9, D)
    model = denoiser(rows, n_members, energy)
    sigma = torch.tensor([[0.3], [1.5], [7.0]], dtype=torch.float64)
    own = torch.stack([rows[[4, 1, 8]], rows[[0, 8, 3]]])[:n_members]
    z = draw(n_members, 3, D, seed=3)
    x, target = own + sigma * z, -z / sigma
    batch = (x, target) if n_members > 1 else (x[0], target[0])
    seen = model(batch[0], sigma)
    error = model.weighed_error(*batch, sigma)
    everywhere = model.weigh(seen - batch[1], sigma)
    assert (error - everywhere).abs().amax(dim=-1).min() > 1e-4
    torch.testing.assert_close(model(batch[0], sigma), seen, **TIGHT)
    for i in range(3):
        forgetful = denoiser(rows, n_members, energy)
        memories = [m for m in forgetful.modules() if isinstance(m, Memory)]
        for memory, row in zip(memories, own[:, i], strict=True):
            kept = (memory.rows - row / 2).abs().amax(dim=1) > 1e-9
            memory.rows, memory.offsets = memory.rows[kept], memory.offsets[kept]
        expected = forgetful.weigh(forgetful(batch[0], sigma) - batch[1], sigma)
        torch.testing.assert_close(error[..., i, :], expected[..., i, :], **TIGHT)


def test_what_is_remembered_changes_nothing_until_it_is_learnt_from():
    stream = torch.Generator().manual_seed(0)
    network = UNet(D, D, generator=stream, image_shape=(1, 1, D), widths=(4,))
    network.out.weight.data.fill_(0.1)
    x, level = draw(3, D).to(torch.float32), draw(3, 1).to(torch.float32)
    before, floats = network(x, level), network.floats_per_pass
    network.remember(draw(50, D).to(torch.float32))
    assert network.floats_per_pass >= floats + 50
    torch.testing.assert_close(network(x, level), before, rtol=0.0, atol=0.0)
    network.recall.weight.data.fill_(0.1)
    assert (network(x, level) - before).abs().amax(dim=1).min() > 1e-3


def test_weights_keep_their_digits_in_bfloat16():
    """Inner products of images are in the hundreds, where bfloat16 counts by twos and fours."""
    rows = (2 + draw(50, 784)).to(torch.float32)
    memory, x = holding(rows), rows[:4] + 3 * draw(4, 784, seed=2).to(torch.float32)
    levels = torch.full((4, 1), 3.0)
    memory.variance = 500.0
    exact = memory(x, levels)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = memory(x, levels).float()
    assert (mixed - exact).norm() < 0.05 * (exact - rows.mean(dim=0)).norm()
