"""Milvus as an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sleepfm_index.reader import Reader
from sleepfm_index.sharing.engine import Engine, Progress, Published
from sleepfm_index.sharing.milvus.client import Served
from sleepfm_index.sharing.milvus.publish import publish


class Milvus:
    """A Milvus server, or milvus-lite in a file."""

    def publish(
        self,
        reader: Reader,
        uri: str,
        *,
        collection: str,
        targets: tuple[str, ...],
        index: str,
        progress: Progress | None,
    ) -> Published:
        """Make a collection hold exactly the clips of a store; see :class:`.engine.Engine`."""
        return publish(reader, uri, collection, targets, index, progress)

    def connect(self, uri: str, *, collection: str, store: Path | None) -> Served:
        """Open a published store; see :class:`.engine.Engine`."""
        return Served(uri, collection, store=store)


ENGINE: Final[Engine] = Milvus()
