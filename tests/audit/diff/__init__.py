"""Tests of audit/diff."""
