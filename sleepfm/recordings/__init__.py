"""Readers, one per format, and what they give."""
