"""Queries: from a question to a table of the nearest clips."""
