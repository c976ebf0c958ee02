"""The crosswalk to norms and laws."""
