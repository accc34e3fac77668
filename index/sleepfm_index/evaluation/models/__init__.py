"""Classifiers of clips: probes, k-nearest neighbours, supervised baselines."""
