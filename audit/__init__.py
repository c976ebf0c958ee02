"""Checks models: the `hallmark` command. No torch here."""

from bundle.process import turn_off

turn_off()
