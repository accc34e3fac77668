"""Hypnograms and events: what the scorer wrote, in the words and units of this project."""
