"""The transcripts of docs/queries.md: what the commands print, and that Python finds the same.

The demo's store takes a minute to build, so its nights are drawn here: as many, with the same names
and lengths, the clock of the night that is asked by time, and some wrong labels. The clips found
are others, so what is compared is the structure: the columns of the answer, and the notes without
numbers and without what is in brackets, which are facts of the clips.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest
from cohorts import night
from typer.main import get_command

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_cli.main import app
from sleepfm_index.storage.manifest import WeightsIdentity
from sleepfm_index.storage.writer import Writer

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "queries.md"
COMMAND: Any = get_command(app)
STORE: Final = "sleepfm-demo/store"
START_S: Final = 2 * 3600 + 46 * 60 + 11.0
"""Clock at the start of sim-0003 of the demo."""


@dataclass(frozen=True)
class Transcript:
    """A question of the page: its command, what it printed, and the last Python call below it."""

    number: int
    command: str
    notes: str
    header: tuple[str, ...]
    python: str

    @classmethod
    def of(cls, number: int, text: str, python: str) -> Transcript:
        """Parse the lines of one command and its output."""
        command, *lines = [line.removeprefix("    ") for line in text.splitlines()]
        at = next(i for i, line in enumerate(lines) if re.match(r"(rank|clip_id|kind) ", line))
        return cls(
            number,
            command.removeprefix("$ "),
            " ".join(" ".join(lines[:at]).split()),
            tuple(re.split(r"\s{2,}", lines[at].strip())),
            python,
        )


def transcripts() -> list[Transcript]:
    found = []
    for number, section in re.findall(
        r"^## (\d+)\. (.*?)(?=^## )", PAGE.read_text(encoding="utf-8"), re.M | re.S
    ):
        (python,) = re.findall(r"```python\n(.*?)```", section, re.S)
        for text in re.findall(r"^    \$ sleepfm-index.*?(?=\n\n)", section, re.M | re.S):
            found.append(Transcript.of(int(number), text, python))
    return found


ALL: Final = transcripts()
RUN: Final = [one for one in ALL if "--file" not in one.command]
"""Without the one that encodes a recording: tests/test_query.py."""
_NAMES: Final = [f"question {one.number}: {shlex.split(one.command)[2:4]}" for one in RUN]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store like the demo's and the two lists of the page."""
    folder = tmp_path_factory.mktemp("queries")
    weights = WeightsIdentity("demo", "0" * 64, True)
    with Writer(folder / STORE, weights, ROBUST) as writer:
        for number in range(1, 9):
            drawn = night(f"sim-{number:04d}", 120)
            clips = drawn.clips
            ages = pa.array([54.0] * 120, clips.schema.field("nsrr_age").type)
            stages = clips["stage"].to_pylist()
            stages[100:106] = ["W" if stage != "W" else "R" for stage in stages[100:106]]
            at = clips.column_names.index("stage")
            clips = clips.set_column(at, clips.schema.field("stage"), pa.array(stages))
            rates = np.random.default_rng(number).uniform(0.1, 0.3, 120).astype(np.float32)
            clock = clips.column_names.index("clock")
            clips = clips.set_column(clock, "clock", pa.array(START_S + 30.0 * np.arange(120)))
            clips = clips.set_column(clips.column_names.index("nsrr_age"), "nsrr_age", ages)
            arousals = pa.array(rates * 30.0, pa.float32())
            clips = clips.append_column("arousal_s", arousals)
            clips = clips.append_column("breath_hz", pa.array(rates))
            writer.append(replace(drawn, clips=clips))
    (folder / "left-the-study.txt").write_text("s-sim-0004\ns-sim-0005\n")
    with sleepfm_index.open(folder / STORE) as store:
        long = store.sql("SELECT clip_id FROM clips WHERE arousal_s > 5").to_pandas()
    long.to_csv(folder / "arousals.csv", index=False)
    return folder


def said_by(words: list[str]) -> tuple[str, str]:
    """What a command writes to standard output and to standard error."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    notes = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(notes):
        COMMAND.main([*words, "--store", STORE], "sleepfm-index", standalone_mode=False)
    shown = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    return shown, " ".join(notes.getvalue().split())


def form(notes: str) -> str:
    """Notes without numbers and without what is in brackets."""
    while (shorter := re.sub(r"\([^()]*\)", "", notes)) != notes:
        notes = shorter
    notes = re.sub(r"\d[\d.,:]*\d|\d", "#", notes).replace("the first # of # clips", "# clips")
    return " ".join(notes.split())


def test_there_are_ten_questions_with_a_command_and_a_call_each() -> None:
    assert sorted({one.number for one in ALL}) == list(range(1, 11))
    assert all(one.header and one.python for one in ALL) and len(ALL) == 11


@pytest.mark.parametrize("one", RUN, ids=_NAMES)
def test_a_transcript_has_the_form_of_what_is_printed(
    one: Transcript, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")
    shown, notes = said_by(shlex.split(one.command)[1:])
    assert tuple(re.split(r"\s{2,}", shown.splitlines()[0].strip())) == one.header
    if one.number == 10:  # sentences about labels depend on how many are wrong
        assert form(notes).startswith("# clips looked at: # of # labels of stage likely wrong")
    else:
        assert form(notes) == form(one.notes)


@pytest.mark.parametrize("one", RUN, ids=_NAMES)
def test_python_finds_what_the_command_finds(
    one: Transcript, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    if "N3 with slow breathing" in one.command:
        pytest.skip("the call of this question is that of its second command")
    *before, call = one.python.strip().splitlines()
    with sleepfm_index.open(STORE) as store:
        names: dict[str, Any] = {"store": store}
        exec("\n".join(before), names)
        found = eval(call, names).to_pylist()
    words = shlex.split(one.command)[1:]
    if one.number == 10:  # the call returns all of each kind
        words = [*words[: words.index("-k")], "-k", "10000"]
    shown, _ = said_by([*words, "--format", "json"])
    printed = json.loads(shown)
    key = "recording_id" if "clip_id" not in found[0] else "clip_id"
    assert [row[key] for row in found] == [row[key] for row in printed] and found
