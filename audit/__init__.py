"""Checks models: the `hallmark` command. No torch here."""
