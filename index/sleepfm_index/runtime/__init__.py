"""The process and the machine: threads, memory, clusters."""
