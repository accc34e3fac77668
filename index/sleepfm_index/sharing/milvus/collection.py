"""A Milvus collection that holds one store: creation, opening and identification."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sleepfm.cohort_choices import BEFORE_GRIDS, Choices
from sleepfm.contract import Contract
from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.errors import StoreError
from sleepfm_index.schema import targets
from sleepfm_index.sharing.milvus import own_server
from sleepfm_index.sharing.milvus.entities import KEY, PARTITION, Column
from sleepfm_index.storage.manifest import Manifest, WeightsIdentity

DEFAULT: Final = "sleepfm_clips"
MAX_RESULTS: Final = 16_384
"""Maximum number of entities that Milvus returns for one request."""

_PROPERTY: Final = "sleepfm_index"
_FORMAT: Final = 1
_TEXT_BYTES: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


@dataclass(frozen=True)
class About:
    """The description that a collection carries in its properties.

    Parameters
    ----------
    store : str
        UUID of the store.
    weights : WeightsIdentity
        The weights that produced the vectors.
    contract : Contract
        Contract of the weights.
    columns : tuple of Column
        Columns of ``clips``, in order.
    targets : tuple of str
        Vector fields.
    choices : Choices
        Options with which the store's recordings were read.
    """

    store: str
    weights: WeightsIdentity
    contract: Contract
    columns: tuple[Column, ...]
    targets: tuple[str, ...]
    choices: Choices = BEFORE_GRIDS

    @classmethod
    def of(cls, manifest: Manifest, columns: tuple[Column, ...], targets: tuple[str, ...]) -> About:
        """Describe the collection of a store.

        Parameters
        ----------
        manifest : Manifest
            Manifest of the store.
        columns : tuple of Column
            Columns of ``clips``, in order.
        targets : tuple of str
            Vector fields.

        Returns
        -------
        About
        """
        return cls(
            manifest.uuid,
            manifest.weights,
            manifest.contract,
            columns,
            targets,
            manifest.choices,
        )

    def to_text(self) -> str:
        """Serialise the description as JSON.

        Returns
        -------
        str
        """
        return json.dumps(
            {
                "format": _FORMAT,
                "store": self.store,
                "weights": asdict(self.weights),
                "contract": self.contract.to_json(),
                "columns": [[c.name, str(c.type)] for c in self.columns],
                "targets": self.targets,
                "choices": self.choices.to_json(),
            }
        )

    @classmethod
    def from_text(cls, text: str) -> About:
        """Parse the output of :meth:`to_text`.

        Parameters
        ----------
        text : str
            The description as JSON.

        Returns
        -------
        About

        Raises
        ------
        KeyError, TypeError, ValueError
            If the text is not a valid description.
        """
        plain = json.loads(text)
        if plain["format"] != _FORMAT:
            raise ValueError(f"unknown format {plain['format']}")
        contract = Contract.from_json(plain["contract"])
        known = targets(contract.modalities)
        return cls(
            store=str(plain["store"]),
            weights=WeightsIdentity(**plain["weights"]),
            contract=contract,
            columns=tuple(
                Column(n, pa.type_for_alias(type_name), known) for n, type_name in plain["columns"]
            ),
            targets=tuple(t for t in known if t in plain["targets"]),
            choices=Choices.from_json(plain["choices"]) if "choices" in plain else BEFORE_GRIDS,
        )


class Collection:
    """An open collection; use it in a ``with`` statement.

    Parameters
    ----------
    uri : str
        Address of a server (``http://host:19530``), or a file ending in ``.db`` for milvus-lite.
    name : str
        Name of the collection, which need not exist.

    Raises
    ------
    StoreError
        If pymilvus is not installed, the name is not valid, or the server cannot be reached.
    """

    def __init__(self, uri: str, name: str = DEFAULT) -> None:
        if not _NAME.fullmatch(name):
            raise StoreError(f"invalid collection name {name!r}; use letters, digits and _")
        try:
            import pymilvus
            import sqlglot  # noqa: F401
        except ImportError as error:
            raise StoreError(
                "the Milvus client is not installed: pip install 'sleepfm-index[milvus]'"
            ) from error
        if "://" not in uri:
            _check_file(Path(uri))
        # These loggers repeat every exception; one message is enough.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        logging.getLogger("milvus_lite").setLevel(logging.CRITICAL)
        self.name = name
        self._uri = uri
        is_file = "://" not in uri
        hint = "; another process may have the file open" if is_file else ""
        try:
            address, token = own_server.serve(Path(uri)) if is_file else (uri, "")
            self.client = pymilvus.MilvusClient(address, token=token)
        except (pymilvus.MilvusException, ValueError, OSError, ImportError) as error:
            raise StoreError(f"cannot connect to Milvus at {uri}{hint}") from error

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if "://" not in self._uri:
            own_server.release(Path(self._uri))

    def about(self) -> About | None:
        """Read the description of the collection.

        Returns
        -------
        About or None
            None if the collection does not exist.

        Raises
        ------
        StoreError
            If the collection was not created by this program, or Milvus rejects the request.
        """
        with milvus_errors():
            if not self.client.has_collection(self.name):
                return None
            properties: Mapping[str, str] = self.client.describe_collection(self.name)["properties"]
        try:
            return About.from_text(properties[_PROPERTY])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"the collection {self.name} was not created by sleepfm-index publish; "
                "choose another name with --collection"
            ) from error

    def create(self, about: About) -> None:
        """Create the collection, with one vector field per target and partitioned by site.

        Parameters
        ----------
        about : About
            Description of the collection.

        Raises
        ------
        StoreError
            If Milvus rejects the request.
        """
        from pymilvus import DataType

        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        for column in about.columns:
            options: dict[str, Any] = {"nullable": True} if column.nullable else {}
            if column.data_type == "VARCHAR":
                options["max_length"] = _TEXT_BYTES
            if column.name == PARTITION:
                options["is_partition_key"] = True
            schema.add_field(
                column.field, DataType[column.data_type], is_primary=column.name == KEY, **options
            )
        for target in about.targets:
            schema.add_field(target, DataType.FLOAT_VECTOR, dim=EMBEDDING_DIM)
        with milvus_errors():
            self.client.create_collection(
                self.name,
                schema=schema,
                properties={_PROPERTY: about.to_text()},
                consistency_level="Strong",
            )

    def create_indexes(self, targets: tuple[str, ...], index_type: str) -> None:
        """Create the indexes that do not exist yet, without waiting for them.

        Parameters
        ----------
        targets : tuple of str
            Vector fields to index.
        index_type : str
            Milvus's name of the type of index, such as ``FLAT`` or ``HNSW``.

        Raises
        ------
        StoreError
            If Milvus rejects the request.
        """
        with milvus_errors():
            existing = self.client.list_indexes(self.name)
            parameters = self.client.prepare_index_params()
            for target in targets:
                if target not in existing:
                    # For unit vectors, and means of them, the inner product is the score.
                    parameters.add_index(
                        target,
                        index_type=index_type,
                        index_name=target,
                        metric_type="IP",
                        params={},
                    )
            if len(parameters):
                # Loading waits for all of them.
                self.client.create_index(self.name, parameters, sync=False)

    def load(self) -> None:
        """Load the collection for searching, which waits for its indexes.

        Raises
        ------
        StoreError
            If Milvus rejects the request.
        """
        with milvus_errors():
            self.client.load_collection(self.name)

    def index_type(self, target: str) -> str:
        """Look up the type of a target's index.

        Parameters
        ----------
        target : str
            A vector field.

        Returns
        -------
        str
            Milvus's name of the type of index, such as ``FLAT`` or ``HNSW``.

        Raises
        ------
        StoreError
            If Milvus rejects the request.
        """
        with milvus_errors():
            return str(self.client.describe_index(self.name, target)["index_type"])

    def count(self) -> int:
        """Count the entities in the collection.

        Returns
        -------
        int

        Raises
        ------
        StoreError
            If Milvus rejects the request.
        """
        with milvus_errors():
            counted = self.client.query(self.name, filter="", output_fields=["count(*)"])
        return int(counted[0]["count(*)"])


@contextmanager
def milvus_errors() -> Iterator[None]:
    """Convert exceptions of Milvus to one-line errors in a ``with`` block.

    Yields
    ------
    None

    Raises
    ------
    StoreError
        If the block raises an exception of Milvus.
    """
    import pymilvus

    try:
        yield
    except pymilvus.MilvusException as error:
        message = " ".join(str(error.message).split())
        if "vector field" in message and "maximum" in message:
            message += "; set proxy.maxVectorFieldNum to 6, or publish fewer fields with --targets"
        raise StoreError(f"Milvus rejected the request: {message}") from error


def _check_file(path: Path) -> None:
    if path.suffix != ".db":
        raise StoreError(
            f"{path} is neither an address such as http://host:19530 nor a file ending in .db"
        )
    if not path.parent.is_dir():
        raise StoreError(f"cannot open {path.name}: there is no folder {path.parent}")
