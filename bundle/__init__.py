"""Carries models: the bundle's files, its outcome table, its claims, its attestation and signature. No torch here."""

from bundle.process import spare_full_disk, turn_off

spare_full_disk()
turn_off()
