"""The tests report no use of anything either."""

from bundle.telemetry import turn_off

turn_off()
