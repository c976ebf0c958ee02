"""Tests of bundle/formats."""
