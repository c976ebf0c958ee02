"""Evaluations of one model joined image by image."""
