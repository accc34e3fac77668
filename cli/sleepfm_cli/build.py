"""``sleepfm-index build``: add recordings to a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sleepfm.choices import BackendName
from sleepfm_cli.build_progress import BuildProgress, opened_log
from sleepfm_cli.cohort_tables import fitted, show_left_out, show_slots
from sleepfm_cli.options import (
    DEFAULT_STORE,
    DEFAULT_WEIGHTS,
    AllowIdentifyingOption,
    BuildEngineOption,
    ChannelsOption,
    CodingOption,
    EpochSecondsOption,
    GridOption,
    ModeOption,
    SchedulerOption,
    StoreOption,
    SubstituteOption,
    WideOption,
)
from sleepfm_cli.render import say, say_unscored, show_table
from sleepfm_index.choices import Ids

if TYPE_CHECKING:
    from sleepfm_index import BuildReport
    from sleepfm_index.building.recording_task import Outcome


def build(
    paths: Annotated[
        list[Path], typer.Argument(help="Recordings, folders, globs or cohort lists.")
    ],
    weights: Annotated[
        str,
        typer.Option(
            help="Name or file of the weights: demo (trained on simulated nights), untrained, or "
            "the name of an encoder of another package."
        ),
    ] = DEFAULT_WEIGHTS,
    subjects: Annotated[
        Path | None, typer.Option(help="subjects.csv: recording_id, subject_id, site, nsrr_* ...")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Parquet file of known values per clip, e.g. from simulate --truth; they become "
            "columns of the clips."
        ),
    ] = None,
    ids: Annotated[
        Ids,
        typer.Option(help="recording_id: file stem, folder and stem, or a keyed hash of the stem."),
    ] = "stem",
    substitute: SubstituteOption = None,
    channels: ChannelsOption = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Leave out recordings whose values contradict units; refuse subjects that do not "
            "match; exit 1 if a recording failed.",
        ),
    ] = False,
    allow_identifying: AllowIdentifyingOption = False,
    readmit: Annotated[
        bool, typer.Option("--readmit", help="Add deleted recordings and subjects again.")
    ] = False,
    coding: CodingOption = None,
    epoch_seconds: EpochSecondsOption = None,
    grid: GridOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    backend: Annotated[
        BackendName, typer.Option(help="Runtime of the encoders; auto = the fastest verified one.")
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Parallel recordings; default: limited by cores and memory."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads in total; default: all cores.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Clips encoded at a time; default: the fastest size.")
    ] = None,
    engine: BuildEngineOption = "local",
    scheduler: SchedulerOption = None,
    staging: Annotated[
        str | None,
        typer.Option(help="For dask: shared folder or s3://... for uncommitted rows."),
    ] = None,
    log_json: Annotated[
        Path | None,
        typer.Option("--log-json", help="Append one line of JSON per recording to this file."),
    ] = None,
    mode: ModeOption = None,
    wide: WideOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Add recordings to a store, which is created if necessary.

    Recordings are committed one by one, and those that are in the store are skipped, so the same
    command resumes a build that was stopped. The store keeps --substitute, --channels, --coding,
    --epoch-seconds and --grid for the next build and for query --file.
    """
    run(
        paths,
        store,
        weights=weights,
        subjects=subjects,
        truth=truth,
        ids=ids,
        substitute=substitute,
        channels=channels,
        strict=strict,
        allow_identifying=allow_identifying,
        readmit=readmit,
        coding=coding,
        epoch_seconds=epoch_seconds,
        grid=grid,
        device=device,
        backend=backend,
        workers=workers,
        threads=threads,
        batch_size=batch_size,
        engine=engine,
        scheduler=scheduler,
        staging=staging,
        log_json=log_json,
        mode=mode,
        wide=wide,
    )


def run(
    paths: list[Path],
    store: Path,
    *,
    log_json: Path | None = None,
    wide: bool = False,
    **options: Any,
) -> None:
    """Build with progress, then print channel mappings and skipped files."""
    import sleepfm_index

    with opened_log(log_json) as log:
        bar = BuildProgress(log, file_names=options.get("ids") != "hash")
        try:
            with bar.shown():
                report = sleepfm_index.build(
                    store, paths, progress=bar, outcome=bar.outcome, notice=say, **options
                )
        except KeyboardInterrupt:
            bar.summary(stopped="interrupted")
            say(
                f"stopped: {bar.done} of {bar.total or '?'} recordings are committed, the current "
                "one was discarded; run the same command to resume",
                "yellow",
            )
            raise typer.Exit(130) from None
        except OSError as error:
            bar.summary(stopped=error.strerror or str(error))
            say(
                "committed recordings are kept; fix this and run the same command to resume",
                "yellow",
            )
            raise
        bar.summary()
    show_report(report, wide=wide)
    added, failed = report.of("added"), report.of("failed")
    nothing_stored = not added and not report.of("already there")
    if failed and (nothing_stored or options.get("strict")):
        raise typer.Exit(1)


def show_report(report: BuildReport, *, wide: bool = False) -> None:
    """Print the result of each recording, then the skipped ones with the reason."""
    if report.weights.note:
        say(f"weights {report.weights.name}: {report.weights.note}", "bold yellow")
    added = report.of("added")
    if added and wide:
        columns = ("recording", "clips", "slots", "channels unused", "scoring left out")
        show_table([_wide_row(o) for o in added], columns)
    elif added:
        columns = ("recording", "clips", "slots filled", "channels unused", "scoring left out")
        show_table(fitted([_row(o) for o in added], columns, 0), columns)
        slots = {slot: None for o in added for slot in o.slots or {}}
        show_slots([o.slots or {} for o in added], list(slots))
        show_left_out([o.dropped for o in added])
    for outcome in added:
        for warning in outcome.warnings:
            say(f"{outcome.recording_id}: {warning}", "yellow")
    unscored = [o for o in added if not o.scored]
    skipped = [*report.of("left out"), *report.of("failed")]
    if skipped:
        show_table(
            [(o.file.name, o.status, o.reason) for o in skipped],
            ("file", "", "why it is not in"),
            title="\nnot added",
        )
    for note in report.notes:
        say(note, "yellow")
    present, failed = len(report.of("already there")), len(report.of("failed"))
    left_out = len(report.of("left out"))
    say(
        f"{len(added)} recordings added ({report.clips_added:,} clips), {present} already there, "
        f"{left_out} left out, {failed} failed -> {report.store}",
        "bold red" if failed else "",
    )
    if unscored:
        say_unscored(len(unscored), len(added), [name for o in unscored for name in o.unread])


def _row(outcome: Outcome) -> tuple[str, ...]:
    left_out = str(sum(outcome.dropped.values())) if outcome.scored else "no scoring"
    numbers = (outcome.clips, len(outcome.slots or {}), len(outcome.unmatched))
    return outcome.recording_id, *map(str, numbers), left_out


def _wide_row(outcome: Outcome) -> tuple[object, ...]:
    slots = ", ".join(f"{s} = {c}" if s != c else s for s, c in (outcome.slots or {}).items())
    numbers = (outcome.clips, slots, len(outcome.unmatched))
    return outcome.recording_id, *numbers, _dropped(outcome)


def _dropped(outcome: Outcome) -> str:
    """Report the annotations of a recording that are not stored, by reason."""
    if not outcome.scored:
        return "no scoring"
    return ", ".join(f"{n} {reason}" for reason, n in outcome.dropped.items()) or "-"
