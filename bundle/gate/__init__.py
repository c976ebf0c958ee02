"""A release policy and its answer about one bundle: for whoever releases, and for a service before it starts."""
