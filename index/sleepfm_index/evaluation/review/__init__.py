"""Review of a store: likely label errors, outliers, duplicates, flat embeddings."""
