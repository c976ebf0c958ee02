"""Tests of bundle/table."""
