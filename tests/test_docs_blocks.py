"""Every command and every block of Python in README and docs/ runs, or says why it cannot here.

A block that cannot run has ``<!-- not run: REASON -->`` above it, one that needs a package that not
everybody has ``<!-- needs: PACKAGE -->``. What no block of its kind can do in a test is listed in
``CANNOT``. Every command is parsed by the command line, whether it runs or not.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import WEIGHTS, drawn_segment
from typer.main import get_command

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm.labels import EVENT_COLUMNS
from sleepfm_cli.main import app
from sleepfm_cli.renamed import present_names
from sleepfm_index.storage.writer import Writer

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND: Any = get_command(app)

CANNOT: Final = {
    "--install-completion": "would change this user's shell",
    "--show-completion": "looks for the shell it is called from",
    "build": "encodes recordings: tests/test_ingest.py",
    "demo": "takes a minute: make demo, make wheel-test",
    "explore": "serves until it is stopped: tests/test_explore.py",
    "import": "needs vectors made elsewhere: tests/test_import.py",
    "move-recordings": "needs recordings that were moved: tests/test_move_recordings.py",
    "pretrain": "takes hours: tests/test_pretrain.py",
    "publish": "needs a server: tests/test_milvus.py",
    "report": "draws for a minute: tests/test_report.py",
    "restore": "needs the snapshots of a history: tests/test_snapshots.py",
    "scan": "needs recordings: tests/test_scan.py",
    "simulate": "takes minutes: tests/test_simulate.py",
    "supervise": "trains a network: tests/test_supervise.py",
    "survival": "needs the follow-up of subjects: tests/test_heads.py",
    "weights": "needs a download: tests/test_weights.py",
}
"""Verbs that need what a small store cannot give."""
CANNOT_WITH: Final = {
    "--engine": "needs a cluster or a server",
    "--file": "encodes a recording: tests/test_query.py",
    "--plot": "draws signals or figures: tests/test_plots.py",
    "--without-slots": "encodes recordings: tests/test_fewer_slots.py",
    "--gallery 90000": "needs as many clips",
    "--compare-with": "needs what supervise writes: tests/test_supervise.py",
    "--label rr_mean_s": "needs a truth file: tests/test_ingest.py",
    "followup.csv": "needs the follow-up of subjects: tests/test_heads.py",
    "lance": "needs the extra [lance]: tests/test_export.py",
    "/subjects.csv": "needs the cohort's own table",
    "p17 --now": "the person was deleted by the command before it; tutorial.md does it",
    "real-store": "needs real recordings",
    "restore 41": "needs such a snapshot",
}
THIS: Final = {"p17": "subject-night-7", "240": "40"}
"""Names in the pages: what the store here calls them."""
TRANSCRIPTS: Final = {"queries.md": "a transcript of the demo: tests/test_docs_queries.py"}
"""Pages whose commands and calls name clips and times of the demo, with the test that runs them."""
_FRAME: Final = "SELECT clip_id, clip_id % 3 AS cluster_of_mine FROM clips"
_FENCE: Final = re.compile(r"```(\w*)\n(.*?)^```$", re.S | re.M)
_MARK: Final = re.compile(r"<!-- (not run|needs): ([^\n]*?) -->\s*\Z")
_COMMAND: Final = re.compile(r"^(?:\s*\$ |    )?(sleepfm-index .*)$")


@dataclass(frozen=True)
class Block:
    """A piece of a page that runs: a command, or Python."""

    page: str
    line: int
    language: str
    text: str
    reason: str = ""
    needs: str = ""

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Python in fences, and every line that calls the command, continued by a backslash."""
    text = page.read_text(encoding="utf-8")
    marks: dict[int, tuple[str, str]] = {}
    for fence in _FENCE.finditer(text):
        mark = _MARK.search(text[: fence.start()])
        line = text.count("\n", 0, fence.start()) + 1
        kind, said = mark.groups() if mark else ("", "")
        for at in range(line, line + fence[0].count("\n") + 1):
            marks[at] = (kind, said)
        if fence[1] == "python":
            reason = said if kind == "not run" else ""
            yield Block(
                page.name, line, "python", fence[2], reason, said if kind == "needs" else ""
            )
    lines = text.splitlines()
    for at, line in enumerate(lines, 1):
        found = _COMMAND.match(line)
        if not found or "..." in line:
            continue
        command, after = found[1], at
        while command.endswith("\\") or command.count('"') % 2:
            command = command.removesuffix("\\") + " " + lines[after].strip()
            after += 1
        kind, said = marks.get(at, ("", ""))
        yield Block(page.name, at, "sh", command, said if kind == "not run" else "")


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = [block for block in BLOCKS if block.language == "sh"]


def words_of(command: str) -> list[str]:
    """The words of a command line behind its name; what follows in the shell is left out."""
    words = shlex.split(command, comments=True)[1:]
    for stop in (">", "|", "&", "&&"):
        if stop in words:
            words = words[: words.index(stop)]
    return present_names(words)


def here(text: str) -> str:
    """A block with the names of the store here."""
    for name, ours in THIS.items():
        text = re.sub(rf"\b{name}\b", ours, text)
    return text


def why_not(block: Block) -> str:
    """Why a command cannot run on the small store; empty if it can."""
    verb = words_of(block.text)[0]
    if verb == "probe" and "--on" not in block.text:
        return "fits all sets of vectors for seconds: tests/test_probe.py"
    with_ = [reason for part, reason in CANNOT_WITH.items() if part in block.text]
    if block.page in TRANSCRIPTS:
        return TRANSCRIPTS[block.page]
    return block.reason or CANNOT.get(verb, "") or (with_[0] if with_ else "")


def signature(block: Block) -> tuple[str, ...]:
    """The verb and the names of its options: what of a command is worth running once."""
    verb, *rest = words_of(block.text)
    return (verb, *sorted(word for word in rest if word.startswith("-")))


def firsts() -> dict[tuple[str, ...], Block]:
    """The first command of each verb and set of options that can run here."""
    found: dict[tuple[str, ...], Block] = {}
    for block in COMMANDS:
        if not why_not(block):
            found.setdefault(signature(block), block)
    return found


FIRSTS = firsts()


def test_blocks_are_found() -> None:
    pages = {block.page for block in BLOCKS}
    assert {"README.md", "tutorial.md", "howto.md", "evaluation.md"} <= pages
    assert len(COMMANDS) > 50 and len(BLOCKS) - len(COMMANDS) > 10


def test_marks_are_spelled_as_they_are_read() -> None:
    for page in PAGES:
        for mark in re.findall(r"<!--(.*?)-->", page.read_text(encoding="utf-8"), re.S):
            assert re.match(r" (not run|needs): \S", mark), f"{page.name}: {mark}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page: Path) -> None:
    for block in COMMANDS:
        if block.page == page.name:
            words = words_of(block.text)
            try:
                if words[0] in CANNOT and words[0].startswith("-"):
                    assert any(words[0] in option.opts for option in COMMAND.params)
                    continue
                with COMMAND.make_context("sleepfm-index", list(words)) as context:
                    _, verb, rest = COMMAND.resolve_command(context, list(words))
                    with contextlib.redirect_stdout(io.StringIO()):
                        _parse(verb, rest, context)
            except Exception as error:
                raise AssertionError(f"{block.name}: {block.text}: {error}") from error


def _parse(verb: Any, rest: list[str], context: Any) -> None:
    made = verb.make_context(verb.name, rest, parent=context)
    if hasattr(verb, "commands"):
        words = [*made._protected_args, *made.args]
        _, inner, words = verb.resolve_command(made, words)
        inner.make_context(inner.name, words, parent=made)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stores and tables that the pages name."""
    folder = tmp_path_factory.mktemp("docs")
    names = ["night-7", "night-a", *(f"sim-{at:04d}" for at in range(1, 5))]
    with Writer(folder / "sleepfm-store", WEIGHTS, ROBUST) as writer:
        for seed, name in enumerate(names):
            segment = drawn_segment(name, 18, seed, lacking=0.0, age=25.0 + 9 * seed)
            writer.append(replace(segment, clips=with_all_columns(segment.clips, seed)))
    rows = ["recording_id,site,nsrr_age,nsrr_sex"]
    rows += [
        f"{name},{'AB'[at // 3]},{25 + 9 * at},{('female', 'male')[at % 2]}"
        for at, name in enumerate(names)
    ]
    (folder / "subjects.csv").write_text("\n".join(rows) + "\n")
    sleepfm_index.annotate(folder / "sleepfm-store", folder / "subjects.csv")
    np.save(folder / "mine.npy", np.ones(512, np.float32))
    pq.write_table(
        pa.table({"clip_id": [0, 1], "cluster": ["a", "b"]}), folder / "clusters.parquet"
    )
    return folder


def with_all_columns(clips: pa.Table, seed: int) -> pa.Table:
    """Add what builds of real nights have and drawn ones lack, with a clock from 02:10 on."""
    drawn = np.random.default_rng(seed).uniform(0, 30, len(clips))
    for name in EVENT_COLUMNS:
        if name not in clips.column_names:
            clips = clips.append_column(name, pa.array(drawn.astype(np.float32)))
    clips = clips.append_column("rr_mean_s", pa.array(0.7 + drawn / 100))
    # A night needs ten clips of N3 to be compared by them.
    stages = (["N3"] * 10 + ["W", "N1", "N2", "R"] * len(clips))[: len(clips)]
    at = clips.column_names.index("stage")
    clips = clips.set_column(at, clips.schema.field("stage"), pa.array(stages))
    clock = pa.array(7800.0 + 30.0 * np.arange(len(clips)))
    clips = clips.set_column(clips.column_names.index("clock"), "clock", clock)
    return clips.append_column("weights_split", pa.nulls(len(clips), pa.string()))


@pytest.fixture(scope="module")
def place(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give every page a copy of its own, in which its blocks run one after another."""
    folders: dict[str, Path] = {}

    def of(page: str) -> Path:
        if page not in folders:
            folder = folders[page] = tmp_path_factory.mktemp("page") / "here"
            shutil.copytree(made, folder)
            for other in ("other-store", "sleepfm-demo/store", "OTHER"):
                shutil.copytree(folder / "sleepfm-store", folder / other)
        return folders[page]

    return of


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.name)
def test_the_command_runs(block: Block, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := why_not(block):
        pytest.skip(reason)
    first = FIRSTS[signature(block)]
    if first is not block and first.page != block.page and "--save" not in block.text:
        pytest.skip(f"the same options as {first.name}")
    monkeypatch.chdir(place(block.page))
    # Parquet and CSV are written to the bytes behind standard output.
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    words = words_of(here(block.text))
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            COMMAND.main(words, "sleepfm-index", standalone_mode=False)
    except SystemExit as end:
        shown = said.buffer.getvalue().decode()  # type: ignore[attr-defined]
        assert not end.code, f"{block.text}\n{shown}"


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "python"], ids=lambda block: block.name
)
def test_the_python_runs(block: Block, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.reason:
        pytest.skip(block.reason)
    if block.page in TRANSCRIPTS and "sleepfm_index.open" not in block.text:
        pytest.skip(TRANSCRIPTS[block.page])
    if block.needs:
        try:
            importlib.import_module(block.needs)
        except ImportError:
            pytest.skip(f"needs {block.needs}")
    monkeypatch.chdir(place(block.page))
    with sleepfm_index.open("sleepfm-store") as store:
        names = {
            "store": store,
            "sleepfm_index": sleepfm_index,
            "frame": store.sql(_FRAME).to_arrow(),
            "vectors": store.vectors.of(np.arange(3), "ecg")[0],
            "numpy": np,
            "ids": np.arange(60),
        }
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(here(block.text), block.name, "exec"), names)
