"""Names of the files and folders of a store."""

from __future__ import annotations

from typing import Final

MANIFEST: Final = "manifest.json"
"""The only file that a commit replaces."""
SEGMENTS: Final = "segments"
INDEXES: Final = "indexes"
SNAPSHOTS: Final = "snapshots"
PRIVATE: Final = "private"
LABELS: Final = "labels"
"""Label columns; not changed by commits."""
QUARANTINE: Final = "quarantine"
LOCK: Final = ".lock"
