"""What people read of an attestation: report, card, bill of materials, figures."""
