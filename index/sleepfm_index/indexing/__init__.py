"""Building and maintaining indexes: choose a kind, train, encode, calibrate, update."""
