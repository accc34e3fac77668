"""What a vector database must do to hold a store and answer its questions.

A new engine is one package beside :mod:`~sleepfm_index.sharing.milvus` and one line of
:data:`ENGINES`. Conventions: clip ids are the store's own and never reused, so publishing again is
a difference of two sets of ids; an engine chooses candidates, and scores are computed again in
float64 from the vectors that it holds, equal scores in order of clip id; an answer has the columns
of :func:`~sleepfm_index.query.answer_table.answer_table`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, cast

from sleepfm_index.errors import QueryError
from sleepfm_index.query.question import Question
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.storage.manifest import WeightsIdentity

ENGINES: Final = {"milvus": "sleepfm_index.sharing.milvus.engine"}
"""Name of each engine, and the module whose ``ENGINE`` it is."""

Progress = Callable[[int, int], None]
"""Called with (clips sent, clips to send)."""


@dataclass(frozen=True)
class Published:
    """What a publication did.

    Parameters
    ----------
    collection : str
    clips : int
        Clips in the collection, as many as in the store.
    added, removed : int
        Clips sent, and clips deleted because the store no longer has them.
    recall : dict of str to float
        By target: the share that the engine finds of the true nearest ten of sampled clips, as
        they are in other modalities.
    """

    collection: str
    clips: int
    added: int
    removed: int
    recall: dict[str, float]


class PublishedStore(Protocol):
    """A published store, open for questions; a context manager."""

    @property
    def weights(self) -> WeightsIdentity:
        """The weights whose vectors it holds."""

    def answer(self, question: Question) -> Result:
        """Find the nearest clips, as the store itself does.

        Raises
        ------
        QueryError
            If the question does not fit the collection, or the engine cannot answer it.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
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
        """Make a collection hold exactly the clips of a store, and check that it does.

        Raises
        ------
        StoreError
            If the engine cannot be reached, holds another store under this name, or does not
            answer as the store does.
        """

    def connect(self, uri: str, *, collection: str, store: Path | None) -> PublishedStore:
        """Open a published store.

        Raises
        ------
        StoreError
            If the engine cannot be reached, or has no such collection.
        """


def engine(name: str) -> Engine:
    """Find an engine by its name.

    Parameters
    ----------
    name : str
        A key of :data:`ENGINES`.

    Raises
    ------
    QueryError
        If there is no such engine.
    """
    if name not in ENGINES:
        raise QueryError(f"no engine {name!r}; choose from {', '.join(ENGINES)}")
    return cast(Engine, import_module(ENGINES[name]).ENGINE)
