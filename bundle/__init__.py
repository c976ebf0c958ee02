"""Carries models: the bundle's files, its outcome table, its claims, its attestation and signature. No torch here."""
