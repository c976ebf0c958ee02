"""Carries models: the bundle's files, its outcome table, its claims, its attestation and signature. No torch here."""

from bundle.process import set_up

set_up()
