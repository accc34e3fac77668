"""Errors of a store; each docstring says whether to retry."""

from sleepfm.errors import SleepFMError


class StoreError(SleepFMError):
    """The store cannot do what was asked; retrying does not help."""


class FormatError(StoreError):
    """The store is damaged or of a format this version does not know; retrying does not help."""


class CommitConflict(StoreError):
    """Another writer moved the store on; open it again and retry."""


class StoreLocked(StoreError):
    """Another process is writing; retry when it is done."""


class SnapshotGone(StoreError):
    """A compaction removed the files of the snapshot that was open; open it again and retry."""


class UncompactedError(StoreError):
    """Deleted clips share a segment with others; compact the store and retry."""


class QueryError(StoreError):
    """The question does not fit the store: an unknown clip, column or modality; change it."""
