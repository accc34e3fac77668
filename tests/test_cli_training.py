"""``sleepfm-index pretrain`` as a stranger meets it."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import commands
import pytest
from nights import write_night


def run(*words: str | Path, width: int = 60) -> CompletedProcess[str]:
    done = commands.run(*words, width=width)
    said = (done.stdout.decode(), done.stderr.decode())
    return CompletedProcess(done.args, done.returncode, *said)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    rows = ["recording_id,subject_id"]
    for i in range(4):
        write_night(folder / f"n{i}.edf", seed=i)
        rows.append(f"n{i},person-{i // 2}")
    (folder / "letter.edf").write_text("Dear Sir or Madam")
    (folder / "subjects.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def words(nights: Path) -> list[str | Path]:
    small = ["--recipe", "short", "--epochs", "1", "--batch-size", "4", "--precision", "float32"]
    small += ["--sample-rate", "32"]
    who = ["--subjects", nights / "subjects.csv", "--split", "0.5,0,0.5,0"]
    return ["pretrain", nights, *small, *who, "--device", "cpu", "--cache", nights / "cache"]


@pytest.fixture(scope="module")
def done(words: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("out") / "w.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sleepfm_cli.pretrain._SILENCE_S", 0.0)
        found = run(*words, "--out", out)
    assert found.returncode == 0, found.stderr
    assert found.stdout == ""
    return out, found.stderr


def test_it_says_what_it_has_done_and_what_to_do_with_it(done: tuple[Path, str]) -> None:
    out, said = done
    lines = said.splitlines()
    assert lines[0] == "training leave-one-out on cpu in float32, recipe short"
    assert "left out: letter.edf" in said
    assert "4 recordings, 16 clips; subjects: 1 pretrain, 0 train, 1 valid, 0 test" in lines
    assert any(line.startswith("epoch 1 of 1: step 1 of 2, loss ") for line in lines)
    assert any(line.startswith("epoch 1 of 1: loss ") for line in lines)
    assert "among 8 clips (chance 0.1250)" in said
    assert "top-1 in batch: bas-others" in said
    assert f"use it: sleepfm-index build RECORDINGS --weights {out}" in said
    assert "Traceback" not in said
    for name in said.partition("next to it: ")[2].splitlines()[0].split(", "):
        assert (out.parent / name).is_file(), name


def test_both_nights_of_a_person_are_in_one_split(done: tuple[Path, str]) -> None:
    splits = json.loads(done[0].with_name("w.splits.json").read_text())
    assert sorted(splits["pretrain"] + splits["valid"]) == ["person-0", "person-1"]


def test_the_weights_are_shown_as_trained(done: tuple[Path, str]) -> None:
    shown = json.loads(run("weights", "show", done[0], "--format", "json").stdout)
    assert shown["trained"] is True
    assert shown["record"]["objective"] == "leave-one-out"
    assert shown["record"]["clips"] == {"pretrain": 8, "valid": 8}


def test_a_run_that_is_there_is_not_overwritten(
    words: list[str | Path], done: tuple[Path, str]
) -> None:
    before = done[0].read_bytes()
    found = run(*words, "--out", done[0])
    assert found.returncode == 1
    assert "w.checkpoint.pt already exists; continue with --resume" in found.stderr
    assert "recordings" not in found.stderr  # said before anything is prepared
    again = run(*words, "--out", done[0], "--resume")
    assert again.returncode == 0
    assert done[0].read_bytes() == before


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        (["--split", "1,0,0,0"], 2, "pretrain and valid above 0"),
        (["--split", "half"], 2, "four fractions"),
        (["--split", "0.4,0.2,0.2,0.2"], 1, "2 subjects cannot be split into"),
        (["--batch-size", "1"], 2, "--batch-size"),
        (["--batch-size", "64"], 1, "8 clips are fewer than one batch of 64"),
        (["--lr", "0"], 1, "learning rate must be above 0"),
        (["--contract", "mine"], 2, "sleepfm-icml2024"),
        (["--device", "abacus"], 1, "no device abacus"),
        (["--subjects", "none.csv"], 1, "none.csv cannot be read"),
    ],
)
def test_mistakes_get_one_sentence(
    words: list[str | Path], tmp_path: Path, change: list[str], code: int, sentence: str
) -> None:
    found = run(*words, *change, "--out", tmp_path / "x.safetensors", width=200)
    assert found.returncode == code, found.stderr
    assert sentence in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "x.safetensors").exists()
