"""Settings of the process and connections to clusters."""
