"""``sleepfm-index simulate``: write nights with known physiology."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sleepfm_cli.options import contract_of
from sleepfm_cli.outputs import expect_output
from sleepfm_cli.render import progress, say

if TYPE_CHECKING:
    from sleepfm_index.truth import Truth


def simulate(
    folder: Annotated[Path, typer.Argument(help="Output folder for the EDF+ files.")],
    subjects: Annotated[int, typer.Option(help="Number of subjects.")] = 8,
    hours: Annotated[float, typer.Option(help="Length of each night in hours.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same files.")] = 0,
    lead: Annotated[str, typer.Option(help="Lead of the ECG: II or V1.")] = "II",
    contract: Annotated[
        str, typer.Option(help="Add the channels of this contract: a name or a JSON file.")
    ] = "sleepfm-index-robust",
    second_nights: Annotated[
        float, typer.Option(help="Fraction of the subjects with a second night.")
    ] = 0.0,
    excerpts: Annotated[
        bool,
        typer.Option(
            "--excerpts", help="Start recordings anywhere in the night, not at lights out."
        ),
    ] = False,
    failures: Annotated[
        float, typer.Option(help="Probability that a channel fails: hum, pops, loose, lost.")
    ] = 0.0,
    faint: Annotated[
        float,
        typer.Option(help="Fraction of the subjects whose modalities show little of each other."),
    ] = 0.0,
    workers: Annotated[
        int, typer.Option(min=1, help="Subjects simulated in parallel, each in a process.")
    ] = 1,
    truth: Annotated[
        bool,
        typer.Option("--truth", help="Also write truth.parquet, the true values of each clip."),
    ] = False,
) -> None:
    """Write simulated nights as EDF+, with scoring."""
    from sleepfm.simulate import simulate_cohort
    from sleepfm_index.truth import write_truth

    expect_output(folder, folder=True)
    known: dict[str, Truth] = {}

    with progress("simulating nights", total=subjects) as bar:
        paths = simulate_cohort(
            folder,
            subjects=subjects,
            hours=hours,
            seed=seed,
            lead=lead,
            slots=contract_of(contract).all_slots,
            second_nights=second_nights,
            excerpts=excerpts,
            failures=failures,
            faint=faint,
            workers=workers,
            progress=lambda done, total: bar.update(bar.task_ids[0], completed=done, total=total),
            known=known.__setitem__ if truth else None,
        )
    if truth:
        write_truth(folder / "truth.parquet", known)
    files = "subjects.csv and truth.parquet" if truth else "subjects.csv"
    say(f"{len(paths)} simulated nights and {files} are in {folder}")
