"""Around every request: the log, access, CORS, the end of a connection."""
