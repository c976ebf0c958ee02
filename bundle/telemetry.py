"""Usage reports of the libraries underneath: all are off. Every room's __init__ says so before it imports anything else.

Each of them reads its variable when it is imported or first used, so one that is set later changes nothing. A variable
that is set already, by whoever runs this, stays as it is.
"""

from __future__ import annotations

import os

OFF = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime: an id of the device, the model's names and hashes, errors
    "BENTOML_DO_NOT_TRACK": "True",  # BentoML: commands, the machine, how long a service runs
    "DVC_NO_ANALYTICS": "1",  # DVC: commands; .dvc/config has its look for a newer version off as well
}


def turn_off() -> None:
    """Sets the variables, for this process and those that it starts."""
    for variable, value in OFF.items():
        os.environ[variable] = os.environ.get(variable) or value
