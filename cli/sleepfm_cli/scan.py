"""``sleepfm-index scan``: a dry run over a cohort."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sleepfm_cli.as_built import AsBuiltOption, choices_of
from sleepfm_cli.cohort_tables import fitted, show_left_out, show_slots
from sleepfm_cli.options import (
    ChannelsOption,
    CodingOption,
    EpochSecondsOption,
    Format,
    FormatOption,
    SubstituteOption,
    WideOption,
    contract_of,
)
from sleepfm_cli.render import progress, say, say_unscored, show_json, show_table

if TYPE_CHECKING:
    from sleepfm.scan import FileScan, FilledSlot, Scan

_SHOWN = 30


def scan(
    paths: Annotated[
        list[Path], typer.Argument(help="Recordings, folders, globs or cohort lists.")
    ],
    substitute: SubstituteOption = None,
    channels: ChannelsOption = None,
    contract: Annotated[
        str, typer.Option(help="Contract whose slots are filled: a name or a JSON file.")
    ] = "sleepfm-index-body",
    coding: CodingOption = None,
    epoch_seconds: EpochSecondsOption = None,
    store: AsBuiltOption = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Files read in parallel; default: limited by cores and files."),
    ] = None,
    wide: WideOption = False,
    format: FormatOption = Format.table,  # noqa: A002
) -> None:
    """Preview channel mapping and scoring; write nothing.

    Reads headers and scoring only. Channels that fill no slot are listed with the option that would
    use them. If there is a store, its last build's options apply unless others are given.
    """
    from sleepfm.scan import scan as scan_files

    if format not in (Format.table, Format.json):
        raise typer.BadParameter("scan supports the formats table and json")
    with progress("reading headers") as bar:
        result = scan_files(
            paths,
            contract_of(contract),
            choices=choices_of(store),
            substitute=substitute,
            overrides=channels,
            coding=coding,
            epoch_s=epoch_seconds,
            workers=workers,
            progress=lambda done, total: bar.update(bar.task_ids[0], completed=done, total=total),
        )
    if format is Format.json:
        show_json(asdict(result))
    else:
        _show(result, wide=wide)
    if all(file.problem for file in result.files):
        raise typer.Exit(1)


def _show(result: Scan, *, wide: bool) -> None:
    columns = ("file", "length", "slots", "scored" if wide else "minutes scored", "events")
    if wide:
        show_table([_wide_row(f) for f in result.files], columns)
    else:
        show_table(fitted([_row(f) for f in result.files], columns, 0), columns)
    for file in result.files:
        if file.problem:
            say(f"{file.file}: {file.problem}", "red")
        for warning in file.warnings:
            say(f"{file.file}: {warning}", "yellow")
        if file.words:
            listed = ", ".join(f"{word!r} {n}" for word, n in file.words.items())
            say(f"{file.file}: unknown words in the scoring: {listed}", "yellow")
    for name, reason in result.left_out:
        say(f"{name} is not used: {reason}")
    read = [f for f in result.files if not f.problem]
    readable = len(read)
    show_slots([{s.slot: _filled(s) for s in f.slots} for f in read], list(result.slots_filled))
    show_left_out([f.dropped for f in read])
    if result.unmatched:
        ordered = sorted(result.unmatched, key=lambda u: (not u.fix, -u.files, u.name))
        show_table(
            [
                (
                    *(u.name, u.files),
                    u.fix.replace("--channels FILE with the line", "--channels:") or "-",
                )
                for u in ordered[:_SHOWN]
            ],
            ("channel no slot took", "files", "to use it"),
            title="\nchannels",
        )
        if not all(u.fix for u in ordered[:_SHOWN]):
            say("-: no free slot goes by this name; --channels FILE can assign it, SLOT: channel")
        if len(ordered) > _SHOWN:
            say(f"... and {len(ordered) - _SHOWN} more names; --format json lists them all")
    say(f"{readable} of {len(result.files)} recordings can be built")
    if result.unscored:
        say_unscored(len(result.unscored), readable, [n for f in result.unscored for n in f.unread])


def _unit(written: str) -> str:
    """Spell a unit as this project does; the word in the file may be anything, a name included."""
    from sleepfm.recordings.units import known_unit

    return known_unit(written) or ("unknown unit" if written else "?")


def _row(file: FileScan) -> tuple[str, ...]:
    if file.problem:
        return file.file, "", "", "cannot be built", ""
    scored = " ".join(f"{s} {count * 0.5:.3g}" for s, count in file.scored_epochs.items())
    events = str(sum(file.events.values()))
    return file.file, _length(file), str(len(file.slots)), scored or "-", events


def _length(file: FileScan) -> str:
    return f"{int(file.duration_s // 3600)}:{int(file.duration_s % 3600 // 60):02d} h"


def _filled(slot: FilledSlot) -> str:
    channels, unit = " - ".join(slot.channels), _unit(slot.unit)
    return f"{channels} ({slot.tier}, {slot.sample_rate:g} Hz, {unit})"


def _wide_row(file: FileScan) -> tuple[str, ...]:
    if file.problem:
        return file.file, "", "cannot be built", "", ""
    slots = ", ".join(f"{s.slot} = {_filled(s)}" for s in file.slots)
    scored = ", ".join(f"{s} {count * 0.5:g} min" for s, count in file.scored_epochs.items())
    events = ", ".join(f"{kind} {count}" for kind, count in file.events.items())
    return file.file, _length(file), slots, scored or "-", events or "-"
