"""Allowed values of options.

They are in a module of their own so that the command line can list them without loading others.
"""

from __future__ import annotations

from typing import Literal

Exclusion = Literal["subject", "recording", "none"]
"""Clips excluded from a result: those of the query's subject or recording, or none."""

Combine = Literal["mean", "max"]
"""Combination of several examples: the mean of their vectors, or the maximum of their scores."""

Among = Literal["all", "cross-recording", "within-recording"]
"""Candidates of a query."""

Task = Literal["auto", "classification", "regression"]
"""Classification or regression; by default from the values of the label."""

Ids = Literal["stem", "folder", "hash"]
"""Source of the recording ids of a store."""

BuildEngine = Literal["local", "dask"]
"""Where recordings are processed."""

QueryEngine = Literal["local", "milvus"]
"""Search backend: the store itself, or the engine it was published to."""

PublishEngine = Literal["milvus"]
"""Engines to which a store can be published."""

ExportFormat = Literal["parquet", "lance", "faiss"]
"""Formats of an export."""

StoreMode = Literal["private", "group"]
"""Access to a store: for its owner only, or for the owner's group as well."""

SdbRule = Literal["clip", "event"]
"""Definition of a clip with disordered breathing: by seconds of events in it, or by the middle of
an event."""

Model = Literal["linear", "boosting"]
"""Kinds of probes."""

ReviewKind = Literal["label", "outlier", "duplicate", "flat"]
"""Kinds of findings of a review."""
