"""``sleepfm-index scan``: a dry run over a cohort."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sleepfm.recordings.units import known_unit
from sleepfm_cli.as_built import AsBuiltOption, choices_of
from sleepfm_cli.options import (
    ChannelsOption,
    CodingOption,
    EpochSecondsOption,
    Format,
    FormatOption,
    SubstituteOption,
    contract_of,
)
from sleepfm_cli.render import progress, say, say_unscored, show_json, show_table

if TYPE_CHECKING:
    from sleepfm.scan import FileScan, Scan

_SHOWN = 30


def scan(
    paths: Annotated[
        list[Path], typer.Argument(help="Recordings, folders, globs or cohort lists.")
    ],
    substitute: SubstituteOption = None,
    channels: ChannelsOption = None,
    contract: Annotated[
        str, typer.Option(help="Contract whose slots are filled: a name or a JSON file.")
    ] = "sleepfm-index-robust",
    coding: CodingOption = None,
    epoch_seconds: EpochSecondsOption = None,
    store: AsBuiltOption = None,
    format: FormatOption = Format.table,  # noqa: A002
) -> None:
    """Preview channel mapping and scoring; write nothing.

    Reads headers and scoring only. What would fix a name that no slot took stands beside it. Where
    there is a store, recordings are read as its last build did, unless told otherwise.
    """
    from sleepfm.scan import scan as scan_files

    if format not in (Format.table, Format.json):
        raise typer.BadParameter("scan supports the formats table and json")
    with progress("reading headers") as bar:
        found = scan_files(
            paths,
            contract_of(contract),
            choices=choices_of(store),
            substitute=substitute,
            overrides=channels,
            coding=coding,
            epoch_s=epoch_seconds,
            progress=lambda done, total: bar.update(bar.task_ids[0], completed=done, total=total),
        )
    if format is Format.json:
        show_json(asdict(found))
    else:
        _show(found)
    if all(file.problem for file in found.files):
        raise typer.Exit(1)


def _show(found: Scan) -> None:
    show_table([_row(f) for f in found.files], ("file", "length", "slots", "scored", "events"))
    for file in found.files:
        if file.problem:
            say(f"{file.file}: {file.problem}", "red")
        for warning in file.warnings:
            say(f"{file.file}: {warning}", "yellow")
        if file.words:
            named = ", ".join(f"{word!r} {n}" for word, n in file.words.items())
            say(f"{file.file}: unknown words in the scoring: {named}", "yellow")
    for name, reason in found.left_out:
        say(f"{name} is not used: {reason}")
    readable = sum(not f.problem for f in found.files)
    show_table(
        [(slot, f"{n} of {readable}") for slot, n in found.slots_filled.items()],
        ("slot", "filled in"),
        title="\nslots",
    )
    if found.unmatched:
        ordered = sorted(found.unmatched, key=lambda u: (not u.fix, -u.files, u.name))
        show_table(
            [(u.name, u.files, u.fix) for u in ordered[:_SHOWN]],
            ("channel no slot took", "files", "to use it"),
            title="\nchannels",
        )
        if len(ordered) > _SHOWN:
            say(f"... and {len(ordered) - _SHOWN} more names; --format json lists them all")
    say(f"{readable} of {len(found.files)} recordings can be built")
    if found.unscored:
        say_unscored(len(found.unscored), readable, [n for f in found.unscored for n in f.unread])


def _unit(written: str) -> str:
    """Spell a unit as this project does; the word in the file may be anything, a name included."""
    return known_unit(written) or ("unknown unit" if written else "?")


def _row(file: FileScan) -> tuple[str, ...]:
    if file.problem:
        return file.file, "", "cannot be built", "", ""
    slots = ", ".join(
        f"{s.slot} = {' - '.join(s.channels)} ({s.tier}, {s.sample_rate:g} Hz, {_unit(s.unit)})"
        for s in file.slots
    )
    length = f"{int(file.duration_s // 3600)}:{int(file.duration_s % 3600 // 60):02d} h"
    scored = ", ".join(f"{s} {count * 0.5:g} min" for s, count in file.scored_epochs.items())
    events = ", ".join(f"{kind} {count}" for kind, count in file.events.items())
    return file.file, length, slots, scored or "-", events or "-"
