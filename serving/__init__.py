"""Answers over HTTP from a verified bundle, and reports its measured robustness. No torch here."""
