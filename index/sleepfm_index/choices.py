"""Words that one chooses from, where a name of several is asked for.

They stand here so that a command line can offer them without loading what they choose.
"""

from __future__ import annotations

from typing import Literal

Exclusion = Literal["subject", "recording", "none"]
"""Whose clips are left out of an answer: the query's own subject's, its recording's, nobody's."""

Combine = Literal["mean", "max"]
"""How several examples ask: by the mean of their vectors, or each by itself."""

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

Model = Literal["linear", "boosting"]
"""Kinds of probes."""

ReviewKind = Literal["label", "outlier", "duplicate", "flat"]
"""What a review looks for."""
