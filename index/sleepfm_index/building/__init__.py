"""From recordings to committed segments.

Read :mod:`~sleepfm_index.building.recording_task` first: one recording becomes clips, vectors and
rows there. :mod:`~sleepfm_index.building.pipeline` does it for every file and commits.
"""
