"""Networks: ``network(n_features, n_outputs, *, generator, **hyper) -> nn.Module``."""

from skscore.networks._activations import ACTIVATIONS, KINKED
from skscore.networks._ensemble import Ensemble
from skscore.networks._mlp import MLP

NETWORKS = {"mlp": MLP}

__all__ = ["ACTIVATIONS", "KINKED", "MLP", "NETWORKS", "Ensemble"]
