"""``sleepfm-index verify``: check that a store is complete and unchanged."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, Format, FormatOption, StoreOption
from sleepfm_cli.render import progress, say, show_json, show_table


def verify(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Rebuild damaged caches; move damaged segments and leftovers to quarantine/.",
        ),
    ] = False,
    format: FormatOption = Format.table,  # noqa: A002
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Check every byte of a store; exit 1 if damage remains."""
    import sleepfm_index

    if format not in (Format.table, Format.json):
        raise typer.BadParameter("verify supports the formats table and json")
    with progress("reading the store") as bar:

        def advance(done: int, total: int) -> None:
            bar.update(bar.task_ids[0], completed=done, total=total)

        check = sleepfm_index.verify(store, repair=repair, progress=advance)
    if format is Format.json:
        show_json({"ok": check.ok, **asdict(check)})
    elif check.findings:
        show_table(
            [(f.where, f.what, f.why, f.repaired) for f in check.findings],
            ("where", "what", "why", "done"),
        )
    say(
        f"{check.files:,} files, {check.bytes / 1e6:,.1f} MB, {check.clips:,} clips: "
        + ("no damage" if check.ok else "damaged; repair with `sleepfm-index verify --repair`")
    )
    if not check.ok:
        raise typer.Exit(1)
