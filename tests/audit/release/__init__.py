"""Tests of audit/release."""
