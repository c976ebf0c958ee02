"""Tests of audit/versions."""
