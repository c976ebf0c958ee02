"""Tests of bundle/images."""
