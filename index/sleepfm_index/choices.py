"""Words that one chooses from, where a name of several is asked for.

They stand here so that a command line can offer them without loading what they choose.
"""

from __future__ import annotations

from typing import Literal

Exclusion = Literal["subject", "recording", "none"]
"""Whose clips are left out of an answer: the query's own subject's, its recording's, nobody's."""

Among = Literal["all", "cross-recording", "within-recording"]
"""Which clips a query is ranked against."""

Task = Literal["auto", "classification", "regression"]
"""What is predicted: classes or numbers; by default as the label's values are."""

Ids = Literal["stem", "folder", "hash"]
"""How recordings are named in a store."""

BuildEngine = Literal["local", "dask"]
"""Who works on recordings."""

QueryEngine = Literal["local", "milvus"]
"""Who answers: the store itself, or where it was published to."""

PublishEngine = Literal["milvus"]
"""Where a store can be published to."""

ExportFormat = Literal["parquet", "lance", "faiss"]
"""How an export is written."""

SdbRule = Literal["clip", "event"]
"""When a clip is one of disordered breathing: by seconds within it, or by the middle of an event.
"""

Model = Literal["linear", "boosting"]
"""Kinds of probes."""
