"""Tests of bundle/pages."""
