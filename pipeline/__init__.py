"""Makes models: data preparation, adversarial training, export, attacks, certification, attestation."""

from bundle.process import end_with_dvc, turn_off

turn_off()
end_with_dvc()  # before torch is imported, which takes seconds
