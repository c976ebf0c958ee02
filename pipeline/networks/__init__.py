"""Networks by name: float images in [0, 1], (N, C, H, W), to logits (N, K), normalisation inside."""

from pipeline.networks.registry import NetworkError, build_network, describe, network_names, rebuild

__all__ = ["NetworkError", "build_network", "describe", "network_names", "rebuild"]
