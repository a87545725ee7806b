"""Who draws samples in `sampling.py`, by name: ours and other packages, trained on rows.

Each is a function ``(X, seed, quick) -> (draw, estimator)`` with ``draw(n, seed)`` the new rows;
the estimator is ours, None for others.

The others are used as their documentation does it, on standardised columns: torchebm's network for
tabular data, its README's batch, rate and 3,000 steps, by flow matching and by noise prediction;
azula's README, which leaves the network and the training to the user (here our network with three
layers of 256, and torchebm's batch, rate and steps); sbi's NPSE, which needs a context and gets a
constant one, until its own rule stops it.
"""

import os
import tempfile
import warnings
from contextlib import chdir
from functools import cache, partial
from importlib.util import find_spec

import numpy as np
import torch

from skscore import DenoisingScoreEstimator
from skscore.networks import NoiseConditionalMLP

BATCH, RATE, STEPS = 256, 1e-3, 3_000
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
    minimise(loss, field.parameters(), rows, QUICK_STEPS if quick else STEPS)
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

    minimise(loss, field.parameters(), rows, QUICK_STEPS if quick else STEPS)
    sampler = FlowSampler(model=field, mode="sde", interpolant="vp", prediction="noise")
    return lambda n: sampler.sample(x=torch.randn(n, d), n_steps=20 if quick else 250)


class Backbone(torch.nn.Module):
    """A network of rows and log noise levels, which azula leaves to the user: ours."""

    def __init__(self, n_features):
        super().__init__()
        stream = torch.Generator().manual_seed(torch.randint(2**31, ()).item())
        self.net = NoiseConditionalMLP(
            n_features, n_features, generator=stream, hidden_layer_sizes=(256, 256, 256)
        )

    def forward(self, x, t):
        return self.net(x, t.expand(len(x))[:, None])


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
        QUICK_STEPS if quick else STEPS,
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


@cache
def warm_up(name):
    """Pay once for imports and first calls, so that no fit's time has them.

    It is here and not in the script, whose functions go to other processes without their cache.
    """
    if name == "fresh":
        return
    X = np.random.default_rng(0).standard_normal((300, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ESTIMATORS[name](X, 0, True)[0](2, 0)


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
