"""Milvus as an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sleepfm.progress import Progress
from sleepfm_index.reader import Reader
from sleepfm_index.sharing.engine import Engine, Published
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
        """Synchronise a collection with a store, and verify the result.

        Parameters
        ----------
        reader, uri, collection, targets, index, progress
            As in :meth:`sleepfm_index.sharing.engine.Engine.publish`.

        Returns
        -------
        Published

        Raises
        ------
        StoreError
            If Milvus cannot be reached, rejects a request, holds another store under this name, or
            returns other answers than the store.
        """
        return publish(reader, uri, collection, targets, index, progress)

    def connect(self, uri: str, *, collection: str, store: Path | None) -> Served:
        """Open a published store.

        Parameters
        ----------
        uri, collection, store
            As in :meth:`sleepfm_index.sharing.engine.Engine.connect`.

        Returns
        -------
        Served

        Raises
        ------
        StoreError
            If Milvus cannot be reached, or has no such collection.
        """
        return Served(uri, collection, store=store)


ENGINE: Final[Engine] = Milvus()
