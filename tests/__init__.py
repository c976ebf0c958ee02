"""The tests report no use of anything either."""

from bundle.process import turn_off

turn_off()
