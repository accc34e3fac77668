"""The command ``sleepfm-index``: it parses and renders, nothing else."""
