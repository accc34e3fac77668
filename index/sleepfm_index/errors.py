"""Errors of a store; each docstring states whether to retry."""

from sleepfm.errors import SleepFMError


class StoreError(SleepFMError):
    """An operation on the store failed; retrying does not help."""


class FormatError(StoreError):
    """The store is damaged or has an unknown format; retrying does not help."""


class CommitConflict(StoreError):
    """Another writer changed the store; open it again and retry."""


class StoreLocked(StoreError):
    """Another process is writing; retry when it is done."""


class SnapshotGone(StoreError):
    """A compaction removed the files of the open snapshot; open the store again and retry."""


class UncompactedError(StoreError):
    """Deleted clips share a segment with others; compact the store and retry."""


class QueryError(StoreError):
    """The query does not match the store: an unknown clip, column or modality; change the query."""
