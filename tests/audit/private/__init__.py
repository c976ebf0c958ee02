"""Tests of audit/private."""
