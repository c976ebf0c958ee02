"""Makes models: data preparation, adversarial training, export, attacks, certification, attestation."""

from bundle.telemetry import turn_off

turn_off()
