from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import sleepfm_index
from sleepfm.simulate import simulate_cohort
from sleepfm_cli.main import app
from sleepfm_index.truth import Truth, read_truth, write_truth


def test_the_demo_asks_for_nights_that_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sleepfm.simulate.simulate_cohort", lambda *_, **__: None)
    monkeypatch.setattr("sleepfm_index.truth.write_truth", lambda *_: None)
    monkeypatch.setattr("sleepfm_cli.build.run", lambda *_, **__: None)
    for verb in ("evaluate", "sql"):
        monkeypatch.setattr(f"sleepfm_cli.demo.{verb}", lambda *_, **__: None)
    monkeypatch.setattr("sleepfm_cli.demo.query", lambda **of: asked.append(of.get("recording")))
    done = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path), "--subjects", "2"])
    assert done.exit_code == 0, done.output
    assert "sim-0002" in asked and "sim-0003" not in done.stdout


def test_the_store_of_the_demo_knows_the_breathing_rate(tmp_path: Path) -> None:
    size = ("--subjects", "2", "--hours", "0.1", "--weights", "untrained")
    done = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path / "demo"), *size])
    assert done.exit_code == 0, done.output
    made = tmp_path / "demo" / "recordings"
    truth = read_truth(made / "truth.parquet")
    where = "60 * breath_hz < 12"
    store = tmp_path / "demo" / "store"
    with sleepfm_index.open(store) as opened:
        assert opened.translate("slow breathing").sql == where
        rates = opened.sql("SELECT breath_hz FROM clips ORDER BY clip_id").to_arrow()
    known = np.concatenate([truth["sim-0001"]["breath_hz"], truth["sim-0002"]["breath_hz"]])
    assert np.array_equal(rates["breath_hz"].to_numpy(), known) and len(known) == 24
    assert f"--truth {made / 'truth.parquet'}" in done.stdout
    plain = simulate_cohort(tmp_path / "plain", subjects=2, hours=0.1, excerpts=True)
    for file in (*plain, tmp_path / "plain" / "subjects.csv"):
        assert file.read_bytes() == (made / file.name).read_bytes()


def test_recordings_that_are_stored_without_their_truth_are_named(tmp_path: Path) -> None:
    known: dict[str, Truth] = {}
    nights = tmp_path / "nights"
    simulate_cohort(nights, subjects=2, hours=0.1, known=known.__setitem__)
    write_truth(nights / "truth.parquet", known)
    words = {"weights": "untrained", "workers": 1}
    sleepfm_index.build(tmp_path / "bare", [nights], **words)
    again = sleepfm_index.build(
        tmp_path / "bare", [nights], truth=nights / "truth.parquet", **words
    )
    assert any(
        n.startswith("2 recordings are stored without the known values") for n in again.notes
    )
    for _ in range(2):
        report = sleepfm_index.build(
            tmp_path / "whole", [nights], truth=nights / "truth.parquet", **words
        )
        assert not any("known values" in note for note in report.notes)
