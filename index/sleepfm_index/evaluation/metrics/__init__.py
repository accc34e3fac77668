"""Scores, confidence intervals, and the table made of them."""
