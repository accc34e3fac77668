"""``sleepfm-index simulate``: write nights with known physiology."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepfm_cli.render import progress, say


def simulate(
    folder: Annotated[Path, typer.Argument(help="Where to write the EDF+ files.")],
    subjects: Annotated[int, typer.Option(help="How many subjects, one night each.")] = 8,
    hours: Annotated[float, typer.Option(help="Length of each night.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    lead: Annotated[str, typer.Option(help="Lead of the ECG: II or V1.")] = "II",
    contract: Annotated[
        str, typer.Option(help="Add the channels of this contract: a name, or a JSON file.")
    ] = "sleepfm-index-robust",
) -> None:
    """Write simulated nights: EDF+ with scoring, and subjects.csv."""
    from sleepfm.contract import load_contract
    from sleepfm.simulate import simulate_cohort

    with progress("simulating nights", total=subjects) as bar:
        paths = simulate_cohort(
            folder,
            subjects=subjects,
            hours=hours,
            seed=seed,
            lead=lead,
            slots=load_contract(contract).all_slots,
            progress=lambda done, total: bar.update(bar.task_ids[0], completed=done, total=total),
        )
    say(f"{len(paths)} simulated nights and subjects.csv are in {folder}")
