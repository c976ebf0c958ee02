"""Test images that stay with their owner: withheld, challenged, proved."""
