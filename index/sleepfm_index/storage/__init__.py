"""The store on disk: manifest, segments, vectors, metadata, snapshots, and the commit.

Vectors, metadata and manifest are the primary data; everything else can be rebuilt from them. All
writes go through :mod:`~sleepfm_index.storage.files`.
"""
