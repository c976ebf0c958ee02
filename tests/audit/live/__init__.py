"""Tests of audit/live."""
