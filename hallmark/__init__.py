"""Hallmark in Python: open and verify bundles, evaluate a model of your own in one line, ask a service.

    import hallmark

    bundle = hallmark.open_bundle("out/bundle")          # verified, or a HallmarkError that says what is wrong
    found = hallmark.evaluate(model, images, labels, eps_255=8, tier="quick")
    with hallmark.Client("http://127.0.0.1:3000") as client:
        client.predict("digit.png")

The names below are what is kept from version to version; what the rooms behind them hold may change.
"""

# ruff: noqa: E402  # what is imported below reads the environment that set_up makes
from bundle.process import set_up

set_up()

from importlib.metadata import PackageNotFoundError, version

from audit.client import Client, ClientError, Prediction
from audit.verification import Verification, verify
from bundle.bundle import Bundle, open_bundle
from bundle.command_line import DISTRIBUTION
from bundle.errors import HallmarkError
from bundle.table.outcomes import Outcomes
from hallmark.evaluation import Measurement, Proportion, evaluate

try:
    __version__ = version(DISTRIBUTION)
except PackageNotFoundError:  # the code was copied without its metadata
    __version__ = "unknown"

__all__ = [
    "Bundle",
    "Client",
    "ClientError",
    "HallmarkError",
    "Measurement",
    "Outcomes",
    "Prediction",
    "Proportion",
    "Verification",
    "evaluate",
    "open_bundle",
    "verify",
]
