"""Making and maintaining indexes: choose a kind, train, code, calibrate, update."""
