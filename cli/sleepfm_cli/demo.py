"""``sleepfm-index demo``: simulate, build, query and evaluate with one command."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sleepfm_cli import build as building
from sleepfm_cli.evaluate import evaluate
from sleepfm_cli.options import DEFAULT_WEIGHTS
from sleepfm_cli.query import query
from sleepfm_cli.render import answers, progress, say
from sleepfm_cli.sql import sql

if TYPE_CHECKING:
    from sleepfm_index.truth import Truth

_SQL = (
    "SELECT stage, count(*) AS clips, round(avg(apnea_obstructive_s + hypopnea_s), 1) "
    "AS obstructed_s FROM clips GROUP BY stage ORDER BY stage"
)


def demo(
    folder: Annotated[
        Path, typer.Option(help="Folder for the simulated recordings and the store.")
    ] = Path("sleepfm-demo"),
    subjects: Annotated[int, typer.Option(min=2, help="Number of subjects to simulate.")] = 8,
    hours: Annotated[float, typer.Option(min=0.1, help="Length of each recording in hours.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the simulation.")] = 0,
    weights: Annotated[str, typer.Option(help="Name or file of the weights.")] = DEFAULT_WEIGHTS,
) -> None:
    """Simulate a cohort, build a store and run sample queries."""
    from sleepfm.simulate import simulate_cohort
    from sleepfm_index.truth import write_truth

    recordings, store = folder / "recordings", folder / "store"
    night = f"sim-{min(3, subjects):04d}"
    say(
        f"Everything here is simulated: {subjects} subjects, {hours:g} h each, seed {seed}.", "bold"
    )
    known: dict[str, Truth] = {}
    with progress("simulating nights", total=subjects) as bar:
        simulate_cohort(
            recordings,
            subjects=subjects,
            hours=hours,
            seed=seed,
            excerpts=True,  # the first hour of a night has no REM
            progress=lambda done, total: bar.update(bar.task_ids[0], completed=done, total=total),
            known=known.__setitem__,
        )
    csv, truth = recordings / "subjects.csv", recordings / "truth.parquet"
    write_truth(truth, known)
    tables = ("--subjects", str(csv), "--truth", str(truth))
    _step("build", str(recordings), *tables, "--weights", weights, store=store)
    building.run([recordings], store, weights=weights, subjects=csv, truth=truth)
    across = ("query", "--modality", "ecg", "--clip", "17", "--to", "bas", "-k", "5")
    _step(*across, "--show", "rr_mean_s", store=store)
    query(modality="ecg", clip=["17"], to="bas", k=5, show="rr_mean_s", store=store)
    _step("query", "--modality", "resp", "--recording", night, "--night", store=store)
    query(modality="resp", recording=night, night=True, store=store)
    where = "stage = 'N2' AND nsrr_age >= 50"
    _step(*across, "--where", where, "--exclude", "none", store=store)
    query(
        modality="ecg",
        clip=["17"],
        to="bas",
        k=5,
        where=where,
        exclude="none",
        store=store,
    )
    _step("evaluate", store=store)
    evaluate(store=store)
    _step("sql", _SQL, store=store)
    sql(_SQL, store=store)
    answers().print("\nThe store is yours. Three commands to try next:", markup=False)
    for words in (
        ("query", "--modality", "bas", "--recording", night, "--at", "+1200", "--to", "ecg"),
        ("sql", "SELECT subject_id, nsrr_age, count(*) FROM clips GROUP BY ALL ORDER BY ALL"),
        ("evaluate", "--where", "stage = 'N2'"),
    ):
        answers().print("  " + _command(words, store), markup=False, soft_wrap=True)
    answers().print("\nLook at it in the browser, at http://127.0.0.1:8707:", markup=False)
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        answers().print('  pip install "sleepfm-index[explore]"', markup=False)
    answers().print("  " + _command(("explore",), store), markup=False, soft_wrap=True)


def _step(*words: str, store: Path) -> None:
    answers().print("\n$ " + _command(words, store), style="bold", markup=False, soft_wrap=True)


def _command(words: tuple[str, ...], store: Path) -> str:
    return " ".join(map(_shell, ["sleepfm-index", *words, "--store", str(store)]))


def _shell(word: str) -> str:
    # People put SQL in double quotes in a shell, which works without these characters.
    plain = shlex.quote(word)
    return f'"{word}"' if plain != word and not set(word) & set('"$`\\!') else plain
