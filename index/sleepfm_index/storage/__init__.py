"""The store on disk: manifest, segments, vectors, metadata, snapshots, and the commit.

Vectors, metadata and manifest are the truth; everything else can be made again from them. All
writes go through :mod:`~sleepfm_index.storage.files`.
"""
