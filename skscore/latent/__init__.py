"""Latent variable models: encoders, decoders and the evidence of rows."""

from skscore.latent._gaussian import GaussianVAE
from skscore.latent._implicit import ImplicitVAE

__all__ = ["GaussianVAE", "ImplicitVAE"]
