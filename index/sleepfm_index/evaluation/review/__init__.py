"""What is odd in a store: likely label errors, outliers, duplicates, flat embeddings."""
