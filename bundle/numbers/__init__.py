"""From the table to every number that is claimed."""
