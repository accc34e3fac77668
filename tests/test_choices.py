"""What is said of a cohort at a build is remembered by the store, unless told otherwise."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_files import Signal, noise, psg, write_edf
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.cohort_choices import NO_CHOICES, Choices
from sleepfm.contract import ROBUST
from sleepfm_cli.main import app
from sleepfm_index.errors import QueryError
from sleepfm_index.query.clip_time import clip_position


def odd_night(path: Path, seed: int = 0) -> Path:
    """Write a night whose ECG has a name that no table knows."""
    signals = {"XY": Signal(noise(120, 200, seed=seed), 200), "C3-M2": psg(120)["C3-M2"]}
    return write_edf(path, signals)


def test_query_by_file_uses_the_channels_of_the_build(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    night = odd_night(tmp_path / "in" / "a.edf")
    odd_night(tmp_path / "in" / "b.edf", seed=1)
    lines = tmp_path / "channels.yaml"
    lines.write_text('ECG: "XY"\n')
    sleepfm_index.build(tmp_path / "s", [tmp_path / "in"], channels=lines, substitute=True)
    lines.unlink()
    with sleepfm_index.open(tmp_path / "s") as store:
        assert store.manifest.choices.channels == {"ECG": ("XY",)}
        by_file = store.query("ecg", to="ecg", file=night, at="+30", k=1, exclude="none")
        (hit,) = by_file.to_pylist()
        assert (hit["recording_id"], hit["start_s"]) == ("a", 30.0)
        assert hit["score"] == pytest.approx(1.0, abs=2e-3)
        other = tmp_path / "other.yaml"
        other.write_text("ECG: null\n")
        with pytest.raises((QueryError, KeyError)):
            store.query("ecg", to="ecg", file=night, at="+30", k=1, channels=other)


def test_the_next_build_goes_on_as_the_last_one(tmp_path: Path) -> None:
    lines = tmp_path / "channels.yaml"
    lines.write_text('ECG: "XY"\n')
    first, second = (odd_night(tmp_path / f"{n}.edf", seed=i) for i, n in enumerate("ab"))
    sleepfm_index.build(tmp_path / "s", [first], channels=lines)
    lines.unlink()
    report = sleepfm_index.build(tmp_path / "s", [first, second])
    assert [o.status for o in report.outcomes] == ["already there", "added"]
    assert report.outcomes[1].slots["ECG"] == "XY"
    third = odd_night(tmp_path / "c.edf", seed=2)
    report = sleepfm_index.build(tmp_path / "s", [third], channels="none")
    assert "ECG" not in report.outcomes[0].slots


def test_scan_and_pretrain_read_as_the_last_build_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "channels.yaml"
    lines.write_text('ECG: "XY"\n')
    night = odd_night(tmp_path / "a.edf")
    monkeypatch.chdir(tmp_path)
    said = Choices().updated(ROBUST, channels=lines)
    kept = SimpleNamespace(manifest=SimpleNamespace(choices=said))
    (tmp_path / "sleepfm-store").mkdir()
    (tmp_path / "sleepfm-store" / "manifest.json").touch()
    monkeypatch.setattr(sleepfm_index, "open", lambda path: nullcontext(kept))

    def filled(*more: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["scan", str(night), "--format", "json", *more])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)["slots_filled"]["ECG"], done.stderr

    assert filled()[0] == 1 and "its --channels" in filled()[1]
    assert filled("--store", "none")[0] == 0
    assert filled("--channels", "none")[0] == 0
    taken = []
    monkeypatch.setattr("sleepfm.training.pretrain.Data", lambda **k: taken.append(k) or 1 / 0)
    CliRunner().invoke(app, ["pretrain", str(night), "--out", "w.safetensors"])
    assert taken[0]["choices"].channels == {"ECG": ("XY",)}


def test_a_store_without_choices_opens(tmp_path: Path) -> None:
    sleepfm_index.build(tmp_path / "s", [odd_night(tmp_path / "a.edf")])
    path = tmp_path / "s" / "manifest.json"
    plain = json.loads(path.read_text())
    del plain["choices"]
    path.write_text(json.dumps(plain))
    with sleepfm_index.open(tmp_path / "s") as store:
        assert store.manifest.choices == Choices(grid="recording")


@given(
    st.builds(
        Choices,
        substitute=st.booleans(),
        channels=st.none()
        | st.dictionaries(
            st.sampled_from(["ECG", "C3-M2", "ABD"]),
            st.lists(st.text(max_size=8), max_size=2).map(tuple),
        ),
        channels_sha256=st.just("ab" * 32),
        coding=st.sampled_from([None, "yasa", "rk"]),
        epoch_s=st.none() | st.floats(1, 60),
        grid=st.sampled_from(["scoring", "recording"]),
    )
)
def test_choices_survive_json(choices: Choices) -> None:
    again = Choices.from_json(json.loads(json.dumps(choices.to_json())))
    assert again == choices
    assert again.updated(ROBUST) == choices
    assert (again.identity == NO_CHOICES.identity) == (
        choices.channels is None and choices == Choices(channels_sha256="ab" * 32)
    )


@pytest.mark.parametrize("bad", [{"coding": "x"}, {"grid": "x"}, {"epoch_s": -1},
                                 {"channels": {"ECG": ["a", "b", "c"]}}])  # fmt: skip
def test_choices_of_a_damaged_manifest_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError):
        Choices.from_json(bad)


def test_a_time_of_day_that_comes_twice_is_asked_back() -> None:
    start = 30.0 * np.arange(27 * 120)
    clock = (20 * 3600 + start) % 86400
    with pytest.raises(QueryError, match=r"occurs 2 times .* \+1800 or \+88200"):
        clip_position("20:30:00", start, clock, 30)
    assert clip_position("23:30", start, clock, 30) == 3.5 * 120
    assert clip_position("25:30:00", start, clock, 30) == 5.5 * 120
    assert clip_position("+90000", start, clock, 30) == 25 * 120
    assert clip_position("26:30:00", start, None, 30) == 26.5 * 120
