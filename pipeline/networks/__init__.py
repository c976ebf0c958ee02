"""Networks by name: float images in [0, 1], (N, C, H, W), to logits (N, K), normalisation inside."""

from pipeline.networks.names import NetworkError, network_names
from pipeline.networks.registry import build_network, describe, rebuild

__all__ = ["NetworkError", "build_network", "describe", "network_names", "rebuild"]
