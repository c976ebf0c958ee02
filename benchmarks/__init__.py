"""Measurements: attacks, the service, and what it does with bad requests."""

from bundle.process import turn_off

turn_off()
