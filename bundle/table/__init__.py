"""One row per image: the outcome table, what was planned to be in it, and the threats."""
