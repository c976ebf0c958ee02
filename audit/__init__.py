"""Checks models: the `hallmark` command. No torch here."""

from bundle.process import set_up

set_up()
