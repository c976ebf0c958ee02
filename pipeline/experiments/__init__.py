"""Experiments: a plan of named runs, the queue that works it off, results as data, and the tables made from them."""
