"""`query` on the command line: examples, stretches, nights, lists, words."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from stores import drawn_store
from typer.main import get_command
from typer.testing import CliRunner, Result

import sleepfm_index
from sleepfm_cli.main import app
from sleepfm_index.errors import QueryError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"a": 30, "b": 30, "c": 30}
    return drawn_store(tmp_path_factory.mktemp("cli") / "s", sizes, lacking=0.0, index=False)


WORDS = ("--modality", "ecg", "--to", "bas")


def ask(path: Path, *words: object) -> Result:
    return CliRunner().invoke(app, ["query", *map(str, words), "--store", str(path)])


def test_several_clips_are_never_one(path: Path) -> None:
    by_list = ask(path, *WORDS, "--clip", "3,4,5", "-k", 4)
    repeated = ask(path, *WORDS, "--clip", "3", "--clip", "4,5", "-k", "4")
    assert by_list.exit_code == 0
    assert by_list.stdout == repeated.stdout
    assert "ecg of 3 examples -> bas" in by_list.stderr
    one = ask(path, *WORDS, "--clip", "5", "-k", "4")
    assert one.stdout != by_list.stdout
    assert one.stdout.splitlines()[1].split()[:3] == ["query", "ecg", "5"]


def test_what_is_compared_is_said_where_it_was_not_asked(path: Path) -> None:
    asked = ask(path, "--modality", "resp", "--clip", 3)
    assert "--to is not given" in asked.stderr and "--to resp" in asked.stderr
    assert "mean cosine to bas and ecg" in asked.stderr
    assert (
        "--to is not given"
        not in ask(path, "--modality", "resp", "--to", "resp", "--clip", "3").stderr
    )


def test_further_columns_are_shown_of_query_and_results(path: Path) -> None:
    words = [*WORDS, "--clip", 3, "-k", 4]
    shown = ask(path, *words, "--show", "start_s, stage, slots_bas")
    assert shown.exit_code == 0, shown.output
    head, *rows = [line.split() for line in shown.stdout.splitlines()]
    at = head.index("start_s")
    assert head[at - 1 : at + 3] == ["stage", "start_s", "slots_bas", "events"]
    assert len(rows) == 5
    with sleepfm_index.open(path) as store:
        known = {row["clip_id"]: row for row in store.sql("SELECT * FROM clips").to_pylist()}
    for row in rows:
        one = known[int(row[2])]
        assert (float(row[at]), int(row[at + 1])) == (one["start_s"], one["slots_bas"])


def test_a_further_column_exists_and_has_a_table(path: Path) -> None:
    words = [*WORDS, "--clip", 3]
    unknown = ask(path, *words, "--show", "start_z")
    assert isinstance(unknown.exception, QueryError)
    assert "no column 'start_z'; close to it: start_s" in str(unknown.exception)
    assert "no column 'rank'" in str(ask(path, *words, "--show", "rank").exception)
    for other in (
        ["--clip", 3, "--format", "csv"],
        ["--clip", 3, "--out", "hits.csv"],
        ["--recording", "a", "--night"],
        ["--recording", "a", "--all"],
        ["--text", "N2", "--format", "csv"],
    ):
        assert ask(path, *WORDS, *other, "--show", "start_s").exit_code == 2, other


def test_a_condition_may_lie_in_a_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "n2.sql").write_text("-- only these\nstage = 'N2'\n  AND start_s > 60;\n")
    words = ["--modality", "ecg", "--to", "bas", "--clip", "3", "--format", "csv", "--where"]
    in_file = ask(path, *words, f"@{tmp_path / 'n2.sql'}")
    assert in_file.exit_code == 0
    assert in_file.stdout == ask(path, *words, "stage = 'N2' AND start_s > 60").stdout
    assert ask(path, *words, "@nowhere.sql").exit_code == 2


def test_lists_of_clips_and_subjects(path: Path, tmp_path: Path) -> None:
    (tmp_path / "clips.txt").write_text("40\n41\n70\n9999\n")
    (tmp_path / "people.txt").write_text("subject-b\n")
    words = ["--modality", "bas", "--to", "bas", "--clip", 3, "--among", tmp_path / "clips.txt"]
    asked = ask(path, *words)
    assert len(asked.stdout.splitlines()) == 2 + 3
    assert "among 4 listed clips (1 of them not in this store)" in asked.stderr
    fewer = ask(path, *words, "--exclude-subjects", tmp_path / "people.txt")
    assert len(fewer.stdout.splitlines()) == 2 + 1


def test_every_clip_of_a_night_finds_only_what_the_lists_allow(path: Path, tmp_path: Path) -> None:
    (tmp_path / "clips.txt").write_text("40\n41\n70\n9999\n")
    (tmp_path / "people.txt").write_text("subject-b\n")
    words = ["--modality", "bas", "--to", "bas", "--recording", "a", "--all", "--format", "csv"]
    asked = ask(path, *words, "--among", tmp_path / "clips.txt")
    assert asked.exit_code == 0, asked.stderr
    assert "among 4 listed clips (1 of them not in this store)" in asked.stderr
    rows = list(csv.DictReader(asked.stdout.splitlines()))
    assert {row["clip_id"] for row in rows} == {"40", "41", "70"}
    fewer = ask(path, *words, "--exclude-subjects", tmp_path / "people.txt", "-k", 200)
    people = {row["subject_id"] for row in csv.DictReader(fewer.stdout.splitlines())}
    assert people and not people & {"subject-a", "subject-b"}
    assert ask(path, *words, "--clip", 3).exit_code == 2


def test_stretches_and_nights(path: Path) -> None:
    stretch = [
        "--modality",
        "bas",
        "--recording",
        "a",
        "--from",
        "23:05",
        "--until",
        "23:07",
        "-k",
        "2",
    ]
    asked = ask(path, *stretch)
    assert asked.exit_code == 0, asked.stderr
    assert asked.stdout.splitlines()[0].split() == [
        "rank", "cosine", "clip_id", "recording", "subject", "from", "until", "stages",
    ]  # fmt: skip
    assert "bas of 4 clips of a (23:05:00, " in asked.stderr
    night = ask(path, "--modality", "bas", "--recording", "a", "--night")
    assert len(night.stdout.splitlines()) == 3 and "energy distance" in night.stderr


def test_words_are_shown_as_sql(path: Path) -> None:
    asked = ask(path, "--text", "N2 after an apnea", "-k", 2)
    assert asked.exit_code == 0
    assert "N2: stage = 'N2'" in asked.stderr and "EXISTS (SELECT 1 FROM events e" in asked.stderr
    unknown = ask(path, "--text", "N2 and snoring")
    assert isinstance(unknown.exception, QueryError) and "'snoring'" in str(unknown.exception)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--clip 3", "with --modality"),
        ("--modality bas --clip x", "takes clip ids"),
        ("--modality bas --from 23:05 --until 23:07", "a stretch needs --recording"),
        ("--modality bas --recording a --from 23:05", "a stretch needs --recording"),
        (
            "--modality bas --recording a --from 23:05 --until 23:07 --clip 3",
            "a stretch cannot be combined",
        ),
        ("--modality bas --recording a --night --to ecg", "nights are compared in one modality"),
        ("--modality bas --night", "a night is named by --recording"),
        ("--modality bas --clip 3,4 --engine milvus --uri x", "supports one clip"),
        ("--modality bas --clip 3,4 --plot x.png", "--plot requires one clip"),
    ],
)
def test_what_does_not_go_together_is_refused(path: Path, words: str, sentence: str) -> None:
    asked = ask(path, *words.split())
    assert asked.exit_code == 2
    assert sentence in " ".join(asked.stderr.split())


def test_the_examples_of_the_help_are_commands_and_fit_the_terminal() -> None:
    command: Any = get_command(app)
    helps = {}
    for width in (40, 80):
        helps[width] = CliRunner().invoke(app, ["query", "--help"], terminal_width=width).stdout
        above = helps[width].split("Options:")[0]
        assert max(map(len, above.splitlines())) <= width
    examples = re.findall(r"^ *(sleepfm-index query .*)$", helps[80], re.M)
    assert len(examples) == 4
    for example in examples:
        with command.make_context("sleepfm-index", shlex.split(example)[1:]) as context:
            _, verb, rest = command.resolve_command(context, shlex.split(example)[1:])
            verb.make_context("query", rest, parent=context)
