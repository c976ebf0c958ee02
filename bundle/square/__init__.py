"""Square attack on the 8-bit grid, through the served file alone."""
