"""`python -m pipeline.networks` prints the networks: name, parameters, default width, source."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.table import Table

from bundle.command_line import run_command
from pipeline.networks.names import ARCHITECTURES
from pipeline.networks.registry import build_network


def parameter_count(name: str) -> int:
    """Trainable parameters with 10 classes and 3 channels; nothing is allocated."""
    with torch.device("meta"):
        network = build_network(name, classes=10, channels=3)
    return sum(parameter.numel() for parameter in network.parameters())


def table() -> Table:
    """One row a network."""
    result = Table(title="Networks (parameters with 10 classes, 3 channels)")
    result.add_column("name", no_wrap=True)
    result.add_column("parameters", justify="right", no_wrap=True)
    result.add_column("width", justify="right", no_wrap=True)
    result.add_column("source")
    for name, plan in ARCHITECTURES.items():
        result.add_row(name, f"{parameter_count(name):,}", str(plan.width), plan.source)
    return result


def main() -> None:
    """Prints the networks: name, parameters, default width, source."""
    Console().print(table())


if __name__ == "__main__":
    run_command(main)
