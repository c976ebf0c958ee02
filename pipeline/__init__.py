"""Makes models: data preparation, adversarial training, export, attacks, certification, attestation."""
