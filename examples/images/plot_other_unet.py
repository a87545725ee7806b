"""
=========================
A U-Net of another library
=========================

Any torch module may stand for the built-in U-Net: the estimator calls a factory with the number of
columns, and the module gets flattened images and the log of their noise level. Here it is
``UNet2DModel`` of diffusers, with self-attention. The estimator puts its own preconditioning around
it, gates it to begin at zero, averages its weights, and samples as ever.

Needs ``pip install "skscore[images]"``. Run it as a script; pictures go to ``pictures/``.
"""

# %%
# The factory
# -----------
# Parameters are drawn by diffusers from torch's global stream, which the estimator seeds for the
# call and restores.
import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from diffusers import UNet2DModel
from sklearn.datasets import load_digits

from skscore import DenoisingScoreEstimator

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip("= \n"))
parser.add_argument("--pictures", type=Path, default=Path("pictures"), help="where pictures go")
settings, _ = parser.parse_known_args()
settings.pictures.mkdir(parents=True, exist_ok=True)
started = time.perf_counter()


class Diffusers(torch.nn.Module):
    """Rows in and rows out, around a network of images and time steps."""

    def __init__(self):
        super().__init__()
        self.network = UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
        )

    def forward(self, x, log_sigma):
        images = x.view(-1, 1, 8, 8)
        return self.network(images, 100 * log_sigma[:, 0]).sample.flatten(1)


def factory(n_features, n_outputs, *, generator):
    """Return a new network."""
    return Diffusers()


# %%
# The fit, and samples
# --------------------
X = load_digits().data / 16
est = DenoisingScoreEstimator(
    network=factory, image_shape=(1, 8, 8), max_iter=4, learning_rate_init=2e-3, random_state=0
).fit(X)
S = est.sample(40, random_state=0, n_steps=30)
figure, ax = plt.subplots(figsize=(6, 2.6))
ax.imshow(
    S.reshape(4, 10, 8, 8).transpose(0, 2, 1, 3).reshape(32, 80), cmap="gray_r", vmin=0, vmax=1
)
ax.set_title("samples of a fit with the U-Net of diffusers", fontsize=9)
ax.axis("off")
figure.tight_layout()
figure.savefig(settings.pictures / "other_unet.png", dpi=100)
print(f"held-out loss {-est.validation_scores_[0]:.1f} -> {-est.validation_scores_[-1]:.1f}")
print(f"{time.perf_counter() - started:.0f} s in all")
