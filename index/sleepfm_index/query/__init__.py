"""Queries: look up the query vectors, search, and build the table of the nearest clips."""
