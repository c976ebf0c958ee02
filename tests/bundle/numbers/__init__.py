"""Tests of bundle/numbers."""
