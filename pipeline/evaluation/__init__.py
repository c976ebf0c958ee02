"""Running attacks over a split, and the checks that a number must pass before it is believed."""
