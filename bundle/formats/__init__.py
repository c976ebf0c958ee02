"""Readers of the formats that strangers send, each with its limits."""
