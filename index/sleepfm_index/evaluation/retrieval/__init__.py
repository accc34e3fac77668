"""Cross-modal retrieval: recall, rank, and paired differences between stores."""
