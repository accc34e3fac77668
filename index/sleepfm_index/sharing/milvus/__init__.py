"""A store served by Milvus: published into a collection, and asked there.

``fields`` says how a clip becomes an entity, ``collection`` opens and makes collections,
``publishing`` fills them, ``expression`` translates conditions and ``served`` answers questions.
Needs ``pip install 'sleepfm-index[milvus]'``.
"""
