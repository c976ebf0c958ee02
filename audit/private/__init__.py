"""Test images that may not leave the house: withheld, challenged, proved."""
