"""Milvus as an engine: a store is published into a collection and queried there.

:mod:`.entities` converts clips to entities and back, :mod:`.collection` creates and opens
collections, :mod:`.publish` fills them, :mod:`.filter_expression` translates SQL conditions, and
:mod:`.client` answers questions. Needs ``pip install 'sleepfm-index[milvus]'``.
"""
