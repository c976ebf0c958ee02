"""Makes models: data preparation, adversarial training, export, attacks, certification, attestation."""

from bundle.process import end_with_dvc, set_up

set_up()
end_with_dvc()  # before torch is imported, which takes seconds
