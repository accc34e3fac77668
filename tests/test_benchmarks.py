"""Every benchmark and experiment runs, at a size that proves nothing but that it runs.

Those that load torch, train, or start many processes take a minute each: they run where
``SLEEPFM_TEST_BENCHMARKS=all`` is set, and here only show what they need (``--help``).
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS: Final = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("benchmarks", "experiments")
    for path in (ROOT / folder).glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
TINY: Final = {
    "benchmarks/ask.py": "among --rows 2000 --runs 1",
    "benchmarks/cost.py": "",
    "benchmarks/coverage.py": "--samples 2 --subjects 8",
    "benchmarks/embeddings.py": "--rows 1200",
    "benchmarks/explore.py": "--server --clips 1920 --clicks 3",
    "benchmarks/graphs.py": "--rows 1200 --links 8",
    "benchmarks/kinds.py": "--rows 600 --kind Flat",
    "benchmarks/review.py": "--drawn 0.6 --subjects 6 --clips 30",
    "benchmarks/scan.py": "--files 2",
}
"""Size for which each takes about a second, in this process."""
MINUTES: Final = {
    "benchmarks/build.py": "--nights 1 --hours 0.05 --workers 1",
    "benchmarks/codes.py": "--rows 20000 --lists 32 --probes 8",
    "benchmarks/cold_rows.py": "--rows 20000",
    "benchmarks/cluster.py": "tasks --workers 1 --recordings 4",
    "benchmarks/encode.py": "--clips 4 --repeat 1",
    "benchmarks/evaluate.py": "--clips 2000",
    "benchmarks/gpu.py": "--device cpu --clips 64 --batch 4 --steps 1",
    "benchmarks/growth.py": "--folder {tmp} --rows 20000",
    "benchmarks/milvus.py": "--clips 2000 --queries 2",
    "benchmarks/night.py": "--hours 0.05 --repeat 1",
    "benchmarks/norms.py": "--epochs 1 --hours 0.05",
    "benchmarks/objectives.py": "--folder {tmp} --trial",
    "benchmarks/pairwise.py": (
        "--folder {tmp} --subjects 6 --hours 0.05 --epochs 1 --batch-size 4 --test-subjects 2 "
        "--test-hours 0.05 --gallery 8"
    ),
    "benchmarks/protocol.py": "--candidates 1000 --queries 300",
    "benchmarks/query.py": "--rows 300 --runs 1",
    "benchmarks/read.py": "--hours 0.05 --repeat 1",
    "benchmarks/rows.py": "--clips 8000",
    "benchmarks/scale.py": "--folder {tmp} --rows 20000",
    "benchmarks/simulate.py": "--hours 0.05 --repeat 1",
    "benchmarks/store.py": "--clips 2000 --segments 3",
    "benchmarks/train.py": "--steps 1",
    "benchmarks/train_demo.py": "--folder {tmp} --trial",
    "experiments/fit_cycles.py": "",
    "experiments/training_distance.py": "--folder {tmp} --people 48 --further 2",
    "experiments/questions.py": (
        "--people 16 --test-people 4 --hours 0.1 --steps 2 --batch-size 8 --together 2 "
        "--warm-steps 4 --epochs 1 --seeds 1 --folder {tmp}"
    ),
}
"""Size for which each takes up to some minutes, in processes of its own."""
NEEDS: Final = {
    "benchmarks/gssc.py": "nights of slpdb, and the encoder of GSSC",
    "benchmarks/screenshots.py": "chromium and the store of `make demo`",
    "benchmarks/search.py": "the other libraries: make peers",
    "experiments/decode_truth.py": "simulated people with their truth: see its first lines",
    "experiments/heart_lesion.py": "nights of slpdb, and their beats",
    "experiments/measure_truth.py": "real recordings with ECG and belts",
    "experiments/real_eeg.py": "nights of ucddb",
    "experiments/real_nights.py": "nights of slpdb",
    "experiments/real_questions.py": "nights of slpdb",
}
"""What no test can make."""


def run(script: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [script, *words])
    monkeypatch.setattr(sys, "path", [str((ROOT / script).parent), *sys.path])
    runpy.run_path(str(ROOT / script), run_name="__main__")


def test_every_script_is_listed_once() -> None:
    listed = [*TINY, *MINUTES, *NEEDS]
    assert len(listed) == len(set(listed))
    missing = set(SCRIPTS) - set(listed)
    assert not missing, f"give {sorted(missing)} a size here, or say what it needs"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("script", [name for name in TINY if name in SCRIPTS])
def test_it_runs(
    script: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    run(script, TINY[script].split(), monkeypatch)
    assert capsys.readouterr().out.strip()


@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(
    os.environ.get("SLEEPFM_TEST_BENCHMARKS") != "all",
    reason="takes up to minutes; set SLEEPFM_TEST_BENCHMARKS=all",
)
@pytest.mark.parametrize("script", [name for name in MINUTES if name in SCRIPTS])
def test_it_runs_in_minutes(
    script: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    run(script, MINUTES[script].format(tmp=tmp_path / "here").split(), monkeypatch)
    assert capfd.readouterr().out.strip()


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_says_what_it_needs(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    if script == "benchmarks/screenshots.py" or script == "benchmarks/explore.py":
        pytest.importorskip("playwright")
    if "argparse" not in (ROOT / script).read_text(encoding="utf-8"):
        pytest.skip("takes no options")
    with pytest.raises(SystemExit) as end:
        run(script, ["--help"], monkeypatch)
    assert not end.value.code
    assert "usage:" in capsys.readouterr().out
    said = (ROOT / script).read_text(encoding="utf-8").split('"""')[1]
    assert f"python {script}" in said or f"make {Path(script).stem.replace('_', '-')}" in said


def test_a_store_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        run("benchmarks/query.py", ["--store", str(tmp_path / "none")], monkeypatch)
    assert "make demo" in str(end.value.code)
