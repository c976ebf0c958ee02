"""Carries models: the bundle's files, its outcome table, its claims, its attestation and signature. No torch here."""

from bundle.process import turn_off

turn_off()
