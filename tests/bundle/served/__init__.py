"""Tests of bundle/served."""
