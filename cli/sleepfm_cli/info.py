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
        summary = opened.info()
    if format is Format.json:
        show_json(asdict(summary))
        return
    weights = f"{summary.weights.name} ({summary.weights.sha256[:12]})"
    rows = [
        ("store", summary.path),
        ("clips", f"{summary.clips:,}"),
        ("recordings", f"{summary.recordings:,}"),
        ("subjects", f"{summary.subjects:,}"),
        *[(f"with {m}", f"{n:,}") for m, n in summary.with_modality.items()],
        ("weights", weights),
        ("", summary.weights.note) if summary.weights.note else ("trained", "yes"),
        ("contract", f"{summary.contract} ({summary.contract_sha256[:12]})"),
        ("snapshot", str(summary.snapshot)),
        ("segments", f"{summary.segments:,}"),
        ("size", f"{summary.bytes / 1e6:,.1f} MB"),
        *[(f"index {t}", text) for t, text in summary.indexes.items()],
    ]
    show_table(rows, ("", ""))
