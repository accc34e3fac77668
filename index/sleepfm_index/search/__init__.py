"""Nearest-neighbour search: exact, or through an index that is measured against exact search.

Read :mod:`~sleepfm_index.search.searcher` first; it decides which of the two answers a query.
"""
