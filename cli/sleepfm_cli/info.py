"""``sleepfm-index info``: a summary of a store."""

from __future__ import annotations

from dataclasses import asdict

import typer

from sleepfm_cli.options import DEFAULT_STORE, Format, FormatOption, StoreOption
from sleepfm_cli.render import show_json, show_table


def info(
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show the contents of a store and its weights."""
    import sleepfm_index

    if format not in (Format.table, Format.json):
        raise typer.BadParameter("info supports the formats table and json")
    with sleepfm_index.open(store) as opened:
        found = opened.info()
    if format is Format.json:
        show_json(asdict(found))
        return
    weights = f"{found.weights.name} ({found.weights.sha256[:12]})"
    rows = [
        ("store", found.path),
        ("clips", f"{found.clips:,}"),
        ("recordings", f"{found.recordings:,}"),
        ("subjects", f"{found.subjects:,}"),
        *[(f"with {m}", f"{n:,}") for m, n in found.with_modality.items()],
        ("weights", weights),
        ("", found.weights.note) if found.weights.note else ("trained", "yes"),
        ("contract", f"{found.contract} ({found.contract_sha256[:12]})"),
        ("snapshot", str(found.snapshot)),
        ("segments", f"{found.segments:,}"),
        ("size", f"{found.bytes / 1e6:,.1f} MB"),
        *[(f"index {t}", text) for t, text in found.indexes.items()],
    ]
    show_table(rows, ("", ""))
