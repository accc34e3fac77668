"""Handing vectors and metadata on: exports, and collections in a vector database."""
