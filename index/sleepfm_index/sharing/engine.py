"""The interface of an engine: a vector database with a published store, which answers queries.

To add an engine, write one package next to :mod:`~sleepfm_index.sharing.milvus` and one line of
:data:`ENGINES`. Three conventions hold for every engine. Clip ids are the store's own and never
reused, so that publishing again means comparing two sets of ids. The engine selects candidates;
their scores are recomputed in float64 from the vectors it holds, and equal scores are in order of
clip id. An answer has the columns of :func:`~sleepfm_index.query.answer_table.answer_table`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, cast

from sleepfm.progress import Progress
from sleepfm_index.errors import QueryError
from sleepfm_index.query.question import Question
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.storage.manifest import WeightsIdentity

ENGINES: Final = {"milvus": "sleepfm_index.sharing.milvus.engine"}
"""For each engine, the module that defines it as ``ENGINE``."""


@dataclass(frozen=True)
class Published:
    """The result of a publication.

    Parameters
    ----------
    collection : str
        Name of the collection.
    clips : int
        Clips in the collection, as many as in the store.
    added, removed : int
        Clips sent, and clips deleted from the collection because they are not in the store.
    recall : dict of str to float
        Recall@10 of each target, measured with sampled clips of other modalities.
    """

    collection: str
    clips: int
    added: int
    removed: int
    recall: dict[str, float]


class PublishedStore(Protocol):
    """A published store that answers queries; a context manager."""

    @property
    def weights(self) -> WeightsIdentity:
        """The weights that produced the vectors."""

    def answer(self, question: Question) -> Result:
        """Find the nearest clips, with the same result as from the store itself.

        Parameters
        ----------
        question : Question
            The query.

        Returns
        -------
        Result
            The same result as from :func:`~sleepfm_index.query.answer.answer`.

        Raises
        ------
        QueryError
            If the question is not valid for the collection, or the engine does not support it.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Engine(Protocol):
    """A vector database."""

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
        reader : Reader
            The store.
        uri : str
            Address of the engine.
        collection : str
            Name of the collection; it is created if it does not exist.
        targets : tuple of str
            Vector fields of a new collection.
        index : str
            Type of index, by the engine's name for it.
        progress : callable or None
            Called after each batch with (clips sent, clips to send).

        Returns
        -------
        Published

        Raises
        ------
        StoreError
            If the engine cannot be reached, holds another store under this name, or returns other
            answers than the store.
        """

    def connect(self, uri: str, *, collection: str, store: Path | None) -> PublishedStore:
        """Open a published store.

        Parameters
        ----------
        uri : str
            Address of the engine.
        collection : str
            Name of the collection.
        store : Path or None
            The store that was published, for conditions that the engine cannot evaluate.

        Returns
        -------
        PublishedStore

        Raises
        ------
        StoreError
            If the engine cannot be reached, or has no such collection.
        """


def engine(name: str) -> Engine:
    """Look up an engine by name.

    Parameters
    ----------
    name : str
        A key of :data:`ENGINES`.

    Returns
    -------
    Engine

    Raises
    ------
    QueryError
        If the engine is unknown.
    """
    if name not in ENGINES:
        raise QueryError(f"unknown engine {name!r}; choose from {', '.join(ENGINES)}")
    return cast(Engine, import_module(ENGINES[name]).ENGINE)
