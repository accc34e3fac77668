"""What reads labels from vectors: probes, k-nearest neighbours, supervised baselines."""
