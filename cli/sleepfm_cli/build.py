"""``sleepfm-index build``: recordings in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sleepfm_cli.options import DEFAULT_STORE, CodingOption, Ids, StoreOption
from sleepfm_cli.render import progress, say, show_table

if TYPE_CHECKING:
    from sleepfm_index import BuildReport
    from sleepfm_index.ingest import Outcome


def build(
    paths: Annotated[
        list[Path], typer.Argument(help="Recordings, folders, globs or cohort lists.")
    ],
    weights: Annotated[
        str, typer.Option(help="Name or file of the weights; untrained = seeded random ones.")
    ] = "untrained",
    subjects: Annotated[
        Path | None, typer.Option(help="subjects.csv: recording_id, subject_id, site, nsrr_* ...")
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
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; default all cores.")] = None,
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
        ids=ids.value,
        substitute=substitute,
        channels=channels,
        strict=strict,
        coding=None if coding is None else coding.value,
        device=device,
        threads=threads,
    )


def run(paths: list[Path], store: Path, **options: object) -> None:
    """Build with a progress bar, then print what was mapped and what was left out."""
    import sleepfm_index

    with progress("encoding recordings") as bar:

        def watch(outcome: Outcome, done: int, total: int) -> None:
            bar.update(bar.task_ids[0], completed=done, total=total)
            if outcome.status == "failed":
                say(f"failed: {outcome.file.name}: {outcome.reason}", "red")

        report = sleepfm_index.build(store, paths, watch=watch, **options)  # type: ignore[arg-type]
    show_report(report)
    added, failed = report.of("added"), report.of("failed")
    if failed and not added and not report.of("already there"):
        raise typer.Exit(1)


def show_report(report: BuildReport) -> None:
    """Print what each recording gave, then what was skipped and why."""
    if not report.weights.trained:
        say(
            "UNTRAINED WEIGHTS: a seeded random initialisation, for trying the tool out. "
            "Neighbours and recall mean nothing.",
            "bold yellow",
        )
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
