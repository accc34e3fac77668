"""Measures, confidence intervals, and their tables."""
