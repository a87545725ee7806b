"""Densities and codes along the probability flow."""

from skscore.density._flow import carry, flow_log_density, log_grid

__all__ = ["carry", "flow_log_density", "log_grid"]
