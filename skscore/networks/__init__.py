"""Networks: ``network(n_features, n_outputs, *, generator, **hyper) -> nn.Module``."""

from skscore.networks._activations import ACTIVATIONS, KINKED
from skscore.networks._conjugate import Bound, Conjugate, Gated, bind, conjugate
from skscore.networks._ensemble import Ensemble
from skscore.networks._memory import Memory
from skscore.networks._mlp import MLP
from skscore.networks._noise_conditional import NoiseConditionalMLP
from skscore.networks._restricted import RESTRICTED, restrict, widen
from skscore.networks._unet import UNet

NETWORKS = {"mlp": MLP, "noise_conditional": NoiseConditionalMLP, "unet": UNet}

__all__ = [
    "ACTIVATIONS",
    "KINKED",
    "MLP",
    "NETWORKS",
    "RESTRICTED",
    "Bound",
    "Conjugate",
    "Ensemble",
    "Gated",
    "Memory",
    "NoiseConditionalMLP",
    "UNet",
    "bind",
    "conjugate",
    "restrict",
    "widen",
]
