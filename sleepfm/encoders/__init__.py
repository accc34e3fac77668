"""The three encoders, their weights, and how they run."""
