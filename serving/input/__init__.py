"""From a request's bytes to images."""
