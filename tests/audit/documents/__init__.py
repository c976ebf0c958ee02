"""Tests of audit/documents."""
