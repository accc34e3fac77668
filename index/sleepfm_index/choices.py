"""Words that one chooses from, where a name of several is asked for.

They stand here so that a command line can offer them without loading what they choose.
"""

from __future__ import annotations

from typing import Literal

Exclusion = Literal["subject", "recording", "none"]
"""Clips excluded from an answer: those of the query's subject or recording, or none."""

Combine = Literal["mean", "max"]
"""How several examples ask: by the mean of their vectors, or each by itself."""

Among = Literal["all", "cross-recording", "within-recording"]
"""Candidates of a query."""

Task = Literal["auto", "classification", "regression"]
"""Classification or regression; by default from the values of the label."""

Ids = Literal["stem", "folder", "hash"]
"""How recordings are named in a store."""

BuildEngine = Literal["local", "dask"]
"""Where recordings are processed."""

QueryEngine = Literal["local", "milvus"]
"""Search backend: the store itself, or the engine it was published to."""

PublishEngine = Literal["milvus"]
"""Engines to which a store can be published."""

ExportFormat = Literal["parquet", "lance", "faiss"]
"""Formats of an export."""

StoreMode = Literal["private", "group"]
"""Who may read a store: its owner, or the owner's group as well."""

SdbRule = Literal["clip", "event"]
"""When a clip is one of disordered breathing: by seconds within it, or by the middle of an event.
"""

Model = Literal["linear", "boosting"]
"""Kinds of probes."""

ReviewKind = Literal["label", "outlier", "duplicate", "flat"]
"""What a review looks for."""
