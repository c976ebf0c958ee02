"""Tests of audit/merge."""
