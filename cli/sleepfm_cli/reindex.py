"""``sleepfm-index reindex``: the indexes, made from the vectors."""

from __future__ import annotations

from sleepfm_cli.options import DEFAULT_STORE, StoreOption
from sleepfm_cli.render import show_table


def reindex(store: StoreOption = DEFAULT_STORE) -> None:
    """Write the index of every target that does not cover all clips."""
    import sleepfm_index

    manifest = sleepfm_index.reindex(store)
    rows = [(i.target, i.kind, i.rows) for i in manifest.indexes]
    show_table(rows, ("target", "index", "clips"))
