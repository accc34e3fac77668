"""The command ``sleepfm-index``: parsing and rendering only."""
