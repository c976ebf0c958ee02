"""Makes models: data preparation, adversarial training, export, attacks, certification, attestation."""

from bundle.process import turn_off

turn_off()
