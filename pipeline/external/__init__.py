"""Models that were trained elsewhere: found weights, checked networks."""
