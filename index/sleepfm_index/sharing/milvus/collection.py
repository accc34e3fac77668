"""A collection in Milvus that stands for one store: opened, made, and told apart from others."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sleepfm.contract import Contract
from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.errors import StoreError
from sleepfm_index.schema import TARGETS
from sleepfm_index.sharing.milvus.entities import KEY, PARTITION, Column
from sleepfm_index.storage.manifest import Manifest, WeightsIdentity

DEFAULT: Final = "sleepfm_clips"
MOST: Final = 16_384
"""Entities that Milvus gives in one answer."""

_PROPERTY: Final = "sleepfm_index"
_FORMAT: Final = 1
_TEXT_BYTES: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


@dataclass(frozen=True)
class About:
    """What a collection says of itself: whose store it is, and how its fields are read.

    Parameters
    ----------
    store : str
        UUID of the store.
    weights : WeightsIdentity
    contract : Contract
    columns : tuple of Column
        Columns of ``clips``, in their order.
    targets : tuple of str
        Vector fields.
    """

    store: str
    weights: WeightsIdentity
    contract: Contract
    columns: tuple[Column, ...]
    targets: tuple[str, ...]

    @classmethod
    def of(cls, manifest: Manifest, columns: tuple[Column, ...], targets: tuple[str, ...]) -> About:
        """Describe the collection of a store."""
        return cls(manifest.uuid, manifest.weights, manifest.contract, columns, targets)

    def to_text(self) -> str:
        """Write it as JSON."""
        return json.dumps(
            {
                "format": _FORMAT,
                "store": self.store,
                "weights": asdict(self.weights),
                "contract": self.contract.to_json(),
                "columns": [[c.name, str(c.type)] for c in self.columns],
                "targets": self.targets,
            }
        )

    @classmethod
    def from_text(cls, text: str) -> About:
        """Read what :meth:`to_text` wrote."""
        plain = json.loads(text)
        if plain["format"] != _FORMAT:
            raise ValueError(f"of format {plain['format']}")
        return cls(
            store=str(plain["store"]),
            weights=WeightsIdentity(**plain["weights"]),
            contract=Contract.from_json(plain["contract"]),
            columns=tuple(Column(n, pa.type_for_alias(kind)) for n, kind in plain["columns"]),
            targets=tuple(t for t in TARGETS if t in plain["targets"]),
        )


class Collection:
    """An open collection; use it in a ``with`` statement.

    Parameters
    ----------
    uri : str
        ``http://host:19530`` of a server, or a file ending in ``.db`` for milvus-lite.
    name : str
        Name of the collection.

    Raises
    ------
    StoreError
        If pymilvus is not installed, or nothing answers at the address.
    """

    def __init__(self, uri: str, name: str = DEFAULT) -> None:
        if not _NAME.fullmatch(name):
            raise StoreError(f"{name!r} cannot be a collection: letters, digits and _, please")
        try:
            import pymilvus
            import sqlglot  # noqa: F401
        except ImportError as error:
            raise StoreError(
                "the client of Milvus is not installed: pip install 'sleepfm-index[milvus]'"
            ) from error
        if "://" not in uri:
            _check_file(Path(uri))
        # It prints what it raises; one sentence is enough.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        logging.getLogger("milvus_lite").setLevel(logging.CRITICAL)
        self.name = name
        self._uri = uri
        try:
            self.client = pymilvus.MilvusClient(uri)
        except (pymilvus.MilvusException, ValueError, OSError) as error:
            why = "" if "://" in uri else "; another process may have it open"
            raise StoreError(f"no Milvus answers at {uri}{why}") from error
        if "://" not in uri:
            _users[_file(uri)] += 1

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if "://" not in self._uri:
            _release(self._uri)

    def about(self) -> About | None:
        """Say whose collection it is; None if there is none.

        Raises
        ------
        StoreError
            If it is not a collection of this program.
        """
        with told():
            if not self.client.has_collection(self.name):
                return None
            properties: Mapping[str, str] = self.client.describe_collection(self.name)["properties"]
        try:
            return About.from_text(properties[_PROPERTY])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"the collection {self.name} was not made by sleepfm-index publish; "
                "name another by --collection"
            ) from error

    def make(self, about: About) -> None:
        """Make the collection; one vector field a target, partitioned by site."""
        from pymilvus import DataType

        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        for column in about.columns:
            more: dict[str, Any] = {"nullable": True} if column.nullable else {}
            if column.kind == "VARCHAR":
                more["max_length"] = _TEXT_BYTES
            if column.name == PARTITION:
                more["is_partition_key"] = True
            schema.add_field(
                column.field, DataType[column.kind], is_primary=column.name == KEY, **more
            )
        for target in about.targets:
            schema.add_field(target, DataType.FLOAT_VECTOR, dim=EMBEDDING_DIM)
        with told():
            self.client.create_collection(
                self.name,
                schema=schema,
                properties={_PROPERTY: about.to_text()},
                consistency_level="Strong",
            )

    def index(self, targets: tuple[str, ...], kind: str) -> None:
        """Make the indexes that are not there."""
        with told():
            there = self.client.list_indexes(self.name)
            wanted = self.client.prepare_index_params()
            for target in targets:
                if target not in there:
                    # Unit vectors and means of them: the inner product is the score.
                    wanted.add_index(
                        target, index_type=kind, index_name=target, metric_type="IP", params={}
                    )
            if len(wanted):
                # Loading waits for all of them.
                self.client.create_index(self.name, wanted, sync=False)

    def load(self) -> None:
        """Have the collection ready to be searched."""
        with told():
            self.client.load_collection(self.name)

    def index_kind(self, target: str) -> str:
        """Kind of the index over a target, e.g. ``FLAT`` or ``HNSW``."""
        with told():
            return str(self.client.describe_index(self.name, target)["index_type"])

    def count(self) -> int:
        """Entities in the collection."""
        with told():
            counted = self.client.query(self.name, filter="", output_fields=["count(*)"])
        return int(counted[0]["count(*)"])


@contextmanager
def told() -> Iterator[None]:
    """Turn what Milvus raises into one sentence."""
    import pymilvus

    try:
        yield
    except pymilvus.MilvusException as error:
        message = " ".join(str(error.message).split())
        if "vector field" in message and "maximum" in message:
            message += "; set proxy.maxVectorFieldNum to 6, or publish fewer by --targets"
        raise StoreError(f"Milvus refuses: {message}") from error


_users: Counter[str] = Counter()
"""How often this process has each file of milvus-lite open: they share one server in it."""


def _file(uri: str) -> str:
    return str(Path(uri).absolute())


def _release(uri: str) -> None:
    # While the server runs no other process can open the file.
    _users[_file(uri)] -= 1
    if not _users[_file(uri)]:
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(uri)


def _check_file(path: Path) -> None:
    if path.suffix != ".db":
        raise StoreError(f"{path} is neither http://host:19530 nor a file ending in .db")
    if not path.parent.is_dir():
        raise StoreError(f"there is no folder {path.parent} for {path.name}")
