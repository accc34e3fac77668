"""Export of vectors and metadata, and publication into a vector database."""
