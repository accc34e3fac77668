"""``sleepfm-index build``: recordings in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sleepfm_cli.build_progress import BuildProgress, opened_log
from sleepfm_cli.options import (
    DEFAULT_STORE,
    DEFAULT_WEIGHTS,
    Backend,
    BuildEngine,
    BuildEngineOption,
    CodingOption,
    Ids,
    SchedulerOption,
    StoreOption,
)
from sleepfm_cli.render import say, show_table

if TYPE_CHECKING:
    from sleepfm_index import BuildReport


def build(
    paths: Annotated[
        list[Path], typer.Argument(help="Recordings, folders, globs or cohort lists.")
    ],
    weights: Annotated[
        str,
        typer.Option(help="Name or file; demo = trained on simulated nights, or untrained."),
    ] = DEFAULT_WEIGHTS,
    subjects: Annotated[
        Path | None, typer.Option(help="subjects.csv: recording_id, subject_id, site, nsrr_* ...")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Parquet file of what is known of each clip, as simulate --truth writes it; its "
            "columns become columns of the clips."
        ),
    ] = None,
    ids: Annotated[
        Ids, typer.Option(help="Name recordings by their file's stem, or by a keyed hash of it.")
    ] = Ids.stem,
    substitute: Annotated[
        bool, typer.Option("--substitute", help="Fill slots from other derivations or sensors.")
    ] = False,
    channels: Annotated[
        Path | None, typer.Option(help="Channel names of your cohort, as in channels.yaml.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leave out recordings whose values contradict units.")
    ] = False,
    coding: CodingOption = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    backend: Annotated[
        Backend, typer.Option(help="What runs the encoders; auto = the fastest that is right.")
    ] = Backend.auto,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Recordings at once; default as cores and memory allow."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores to keep busy in all; default all of them.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Clips encoded at a time; default the fastest.")
    ] = None,
    engine: BuildEngineOption = BuildEngine.local,
    scheduler: SchedulerOption = None,
    staging: Annotated[
        str | None,
        typer.Option(help="For dask: shared folder or s3://... for rows not yet committed."),
    ] = None,
    log_json: Annotated[
        Path | None,
        typer.Option("--log-json", help="Add a line of JSON for every recording to this file."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Add recordings to a store; it is made if there is none.

    Each recording is committed by itself. What is there is skipped, so the same command resumes a
    build that was stopped.
    """
    run(
        paths,
        store,
        weights=weights,
        subjects=subjects,
        truth=truth,
        ids=ids.value,
        substitute=substitute,
        channels=channels,
        strict=strict,
        coding=None if coding is None else coding.value,
        device=device,
        backend=backend.value,
        workers=workers,
        threads=threads,
        batch_size=batch_size,
        engine=engine.value,
        scheduler=scheduler,
        staging=staging,
        log_json=log_json,
    )


def run(paths: list[Path], store: Path, *, log_json: Path | None = None, **options: Any) -> None:
    """Build and say how it goes, then print what was mapped and what was left out."""
    import sleepfm_index

    with opened_log(log_json) as log:
        bar = BuildProgress(log, file_names=options.get("ids") != "hash")
        try:
            with bar.shown():
                report = sleepfm_index.build(store, paths, watch=bar, notice=say, **options)
        except KeyboardInterrupt:
            bar.summary(stopped="interrupted")
            say(
                f"stopped: {bar.done} of {bar.total or '?'} recordings are done and stay, the one "
                "in hand was dropped; the same command goes on from there",
                "yellow",
            )
            raise typer.Exit(130) from None
        except OSError as error:
            bar.summary(stopped=error.strerror or str(error))
            say("what was committed stays; when this is mended, the same command goes on", "yellow")
            raise
        bar.summary()
    show_report(report)
    added, failed = report.of("added"), report.of("failed")
    if failed and not added and not report.of("already there"):
        raise typer.Exit(1)


def show_report(report: BuildReport) -> None:
    """Print what each recording gave, then what was skipped and why."""
    if report.weights.note:
        say(f"weights {report.weights.name}: {report.weights.note}", "bold yellow")
    added = report.of("added")
    if added:
        show_table(
            [
                (
                    o.recording_id,
                    o.clips,
                    ", ".join(f"{s} = {c}" if s != c else s for s, c in (o.slots or {}).items()),
                    len(o.unmatched),
                )
                for o in added
            ],
            ("recording", "clips", "slots", "channels unused"),
        )
    for outcome in added:
        for warning in outcome.warnings:
            say(f"{outcome.recording_id}: {warning}", "yellow")
    skipped = [*report.of("left out"), *report.of("failed")]
    if skipped:
        show_table(
            [(o.file.name, o.status, o.reason) for o in skipped], ("file", "", "why it is not in")
        )
    there = len(report.of("already there"))
    say(
        f"{len(added)} recordings added ({report.clips_added:,} clips), {there} already there, "
        f"{len(skipped)} not in the store -> {report.store}"
    )
