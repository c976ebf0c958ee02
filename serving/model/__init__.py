"""The classifier behind the routes: whom it trusts, how it batches."""
