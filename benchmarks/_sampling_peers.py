"""Who draws samples in `sampling.py`, by name: ours and other packages, trained on rows.

Each is a function ``(X, seed, quick) -> (draw, estimator)`` with ``draw(n, seed)`` the new rows;
the estimator is ours, None for others.

The others are used as their documentation does it, on standardised columns: torchebm's network for
tabular data, its README's batch, rate and 3,000 steps, by flow matching and by noise prediction;
azula's README, which leaves the network and the number of steps to the user (here three layers of
256 and 8,000 steps of 256 rows); sbi's NPSE, which needs a context and gets a constant one, until
its own rule stops it.
"""

import os
import tempfile
import warnings
from contextlib import chdir
from functools import partial
from importlib.util import find_spec
from itertools import pairwise

import torch

from skscore import DenoisingScoreEstimator

BATCH, RATE = 256, 1e-3
STEPS = {"torchebm": 3_000, "azula": 8_000}
QUICK_STEPS, QUICK_EPOCHS = 20, 5


def ours(X, seed, quick):
    estimator = DenoisingScoreEstimator(random_state=seed)
    if quick:
        estimator.set_params(max_iter=QUICK_EPOCHS)
    estimator.fit(X)
    return lambda n, seed: estimator.sample(n, random_state=seed), estimator


def standardised(train, X, seed, quick):
    """Let `train` draw in standardised columns."""
    torch.manual_seed(seed)
    mean, scale = X.mean(axis=0), X.std(axis=0)
    draw_rows = train(torch.as_tensor((X - mean) / scale, dtype=torch.float32), quick)

    def draw(n, seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            return mean + scale * draw_rows(n).double().numpy()

    return draw, None


def minimise(loss, parameters, rows, steps):
    """Take Adam steps on ``loss(batch)``."""
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(rows[torch.randint(len(rows), (BATCH,))]).backward()
        optimizer.step()


def torchebm_flow(rows, quick):
    from torchebm.losses import FlowMatchingLoss
    from torchebm.models import TimeConditionedMLP
    from torchebm.samplers import FlowSampler

    d = rows.shape[1]
    field = TimeConditionedMLP(in_dim=d)
    loss = FlowMatchingLoss(model=field, interpolant="linear")
    minimise(loss, field.parameters(), rows, QUICK_STEPS if quick else STEPS["torchebm"])
    sampler = FlowSampler(model=field, interpolant="linear", integrator="heun")
    return lambda n: sampler.sample(x=torch.randn(n, d), n_steps=50)


def torchebm_diffusion(rows, quick):
    from torchebm.interpolants import VariancePreservingInterpolant
    from torchebm.models import TimeConditionedMLP
    from torchebm.samplers import FlowSampler

    d = rows.shape[1]
    field, interpolant = TimeConditionedMLP(in_dim=d), VariancePreservingInterpolant()

    def loss(x):
        noise, t = torch.randn_like(x), torch.rand(len(x))
        blurred, _ = interpolant.interpolate(noise, x, t)
        return (field(blurred, t) - noise).square().mean()

    minimise(loss, field.parameters(), rows, QUICK_STEPS if quick else STEPS["torchebm"])
    sampler = FlowSampler(model=field, mode="sde", interpolant="vp", prediction="noise")
    return lambda n: sampler.sample(x=torch.randn(n, d), n_steps=20 if quick else 250)


class Backbone(torch.nn.Module):
    """A network of (x, t), which azula leaves to the user."""

    def __init__(self, n_features, width=256, n_frequencies=16):
        super().__init__()
        self.frequencies = torch.arange(1, n_frequencies + 1) / 4  # of log sigma, within +-7
        sizes = [n_features + 2 * n_frequencies, width, width, width]
        layers = []
        for n_in, n_out in pairwise(sizes):
            layers += [torch.nn.Linear(n_in, n_out), torch.nn.SiLU()]
        self.net = torch.nn.Sequential(*layers, torch.nn.Linear(width, n_features))

    def forward(self, x, t):
        phase = t.expand(len(x))[:, None] * self.frequencies
        return self.net(torch.cat([x, phase.sin(), phase.cos()], dim=1))


def azula(rows, quick):
    from azula.denoise import KarrasDenoiser
    from azula.noise import VPSchedule
    from azula.sample import DDPMSampler

    d = rows.shape[1]
    denoiser = KarrasDenoiser(Backbone(d), schedule=VPSchedule())
    minimise(
        lambda x: denoiser.loss(x, torch.rand(len(x))),
        denoiser.parameters(),
        rows,
        QUICK_STEPS if quick else STEPS["azula"],
    )
    sampler = DDPMSampler(denoiser.eval(), steps=20 if quick else 1_000, silent=True)
    return lambda n: sampler(sampler.init((n, d)))


def npse(rows, quick):
    from sbi.inference import NPSE

    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # it writes a log where it stands
        inference = NPSE(show_progress_bars=False).append_simulations(
            rows, torch.zeros(len(rows), 1)
        )
        epochs = {"max_num_epochs": 2} if quick else {}
        posterior = inference.build_posterior(inference.train(**epochs))
    context = torch.zeros(1, 1)
    return lambda n: posterior.sample((n,), x=context, show_progress_bars=False)


# By name: the module that it needs, and what it does.
PEERS = {
    "azula": ("azula", azula),
    "torchebm-flow": ("torchebm", torchebm_flow),
    "torchebm-diffusion": ("torchebm", torchebm_diffusion),
    "sbi-npse": ("sbi", npse),
}
ESTIMATORS = {"ours": ours} | {name: partial(standardised, f) for name, (_, f) in PEERS.items()}


def missing(name):
    """Return the package that a peer needs and that is not installed, or None."""
    package = PEERS[name][0] if name in PEERS else "skscore"
    if find_spec(package) is None:
        return package
    if name in PEERS:
        try:  # a package may be there without what it needs
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                __import__({"sbi": "sbi.inference"}.get(package, package))
        except ImportError as error:
            return f"{package} ({os.path.basename(str(error))})"
    return None
