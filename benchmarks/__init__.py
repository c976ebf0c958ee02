"""Measurements: attacks, the service, and what it does with bad requests."""

from bundle.process import set_up

set_up()
