"""Every benchmark and experiment runs, at a size that proves nothing but that it runs."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

import commands
import numpy as np
import pytest
import scripts
from explored import explored_store

ROOT = scripts.ROOT
SCRIPTS: Final = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("benchmarks", "experiments")
    for path in (ROOT / folder).glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)
TINY: Final = {
    "benchmarks/ask.py": "among --rows 2000 --runs 1",
    "benchmarks/build.py": "--nights 1 --hours 0.02 --workers 1",
    "benchmarks/cluster.py": "tasks --workers 1 --recordings 4",
    "benchmarks/codes.py": "--rows 2000 --lists 8 --probes 4",
    "benchmarks/cold_rows.py": "--rows 2000",
    "benchmarks/cost.py": "",
    "benchmarks/coverage.py": "--samples 2 --subjects 8",
    "benchmarks/embeddings.py": "--rows 1200",
    "benchmarks/encode.py": '--clips 1 --repeat 1 --threads 1 --ways "torch tuned f32"',
    "benchmarks/evaluate.py": "--clips 300",
    "benchmarks/explore.py": "--server --clips 1920 --clicks 3",
    "benchmarks/gpu.py": "--device cpu --clips 8 --batch 2 --steps 1 --warm-up 1",
    "benchmarks/graphs.py": "--rows 1200 --links 8",
    "benchmarks/growth.py": "--folder {scale} --rows 11000 --queries 20",
    "benchmarks/kinds.py": "--rows 600 --kind Flat",
    "benchmarks/milvus.py": "--clips 1000 --queries 1",
    "benchmarks/night.py": "--hours 0.01 --repeat 1 --threads 1 --rates mixed-rates",
    "benchmarks/norms.py": "--epochs 1 --hours 0.02 --batch-size 4",
    "benchmarks/objectives.py": (
        "--folder {tmp} --minutes 0.001 --arms leave-one-out --subjects 10 --test-subjects 4 "
        "--hours 0.05 --batch-size 2 --clips 4"
    ),
    "benchmarks/pairwise.py": (
        "--folder {tmp} --subjects 4 --hours 0.02 --epochs 1 --batch-size 2 --test-subjects 2 "
        "--test-hours 0.02 --gallery 4 --threads 1"
    ),
    "benchmarks/protocol.py": "--candidates 500 --queries 20 --threads 1 --side 64",
    "benchmarks/query.py": "--rows 300 --runs 1",
    "benchmarks/read.py": "--hours 0.02 --repeat 1",
    "benchmarks/review.py": "--drawn 0.6 --subjects 6 --clips 30",
    "benchmarks/rows.py": "--clips 1000",
    "benchmarks/scale.py": "--folder {scale} --rows 11000",
    "benchmarks/scan.py": "--files 2 --repeat 1",
    "benchmarks/screenshots.py": "--store {explored} --clip 7 --out {tmp} --only explore-lasso",
    "benchmarks/search.py": "--folder {tmp} --rows 1000 --threads 1 --engine ours",
    "benchmarks/simulate.py": "--hours 0.05 --repeat 1",
    "benchmarks/store.py": "--clips 500 --segments 3 --append 20",
    "benchmarks/train.py": "--steps 1 --batch-size 2 --threads 1",
    "benchmarks/train_demo.py": (
        "--folder {tmp} --subjects 6 --hours 0.05 --test-subjects 4 --test-hours 0.05 --clips 4 "
        "--epochs 1 --epoch-clips 8 --batch-size 4 --valid 0.2 --mgh none --slpdb none "
        "--threads 1 --workers 1"
    ),
    "experiments/decode_truth.py": "{people} --clips 4 --cache {cache}",
    "experiments/fit_cycles.py": "--rounds 2 --nights 10",
    "experiments/heart_lesion.py": (
        "{people} --subjects {people}/subjects.csv --truth {people}/truth.parquet "
        "--weights demo --cache {cache}"
    ),
    "experiments/measure_truth.py": "{people} --out {tmp}/truth.parquet",
    "experiments/questions.py": (
        "--people 4 --test-people 4 --hours 0.05 --steps 2 --batch-size 2 --together 1 "
        "--warm-steps 4 --epochs 1 --seeds 1 --folder {tmp} --threads 1 "
        "--arms start leave-one-out"
    ),
    "experiments/real_eeg.py": "{ucddb}",
    "experiments/real_nights.py": (
        "{people} --subjects {people}/subjects.csv --truth {people}/truth.parquet --cache {cache}"
    ),
    "experiments/real_questions.py": (
        "{people} --subjects {people}/subjects.csv --weights demo --cache {cache} --steps 1 "
        "--seeds 1"
    ),
    "experiments/simulated_follow_up.py": "{people} --out {tmp}/followup.csv",
    "experiments/synchrony.py": "{people} --clips 4 --cache {cache}",
    "experiments/training_distance.py": "--folder {tmp} --people 24 --further 2 --minutes 1",
}
"""Options for which each takes half a minute at most."""
LONG: Final = {
    "benchmarks/build.py",
    "benchmarks/encode.py",
    "benchmarks/explore.py",
    "benchmarks/growth.py",
    "benchmarks/milvus.py",
    "benchmarks/night.py",
    "benchmarks/objectives.py",
    "benchmarks/pairwise.py",
    "benchmarks/train_demo.py",
    "experiments/questions.py",
}
"""Scripts that take ten seconds or more, run by `make test-slow` only."""
PACKAGES: Final = {
    "benchmarks/cluster.py": ("tasks", ["dask"], "sleepfm-index[dask]"),
    "benchmarks/explore.py": ("", ["playwright"], "pip install playwright"),
    "benchmarks/milvus.py": ("", ["pymilvus"], "sleepfm-index[milvus]"),
    "experiments/measure_truth.py": ("none --out t.parquet", ["wfdb"], "sleepfm-index[wfdb]"),
    "experiments/questions.py": ("", ["matplotlib.figure"], "sleepfm-index[eval]"),
    "experiments/real_nights.py": (
        "none --subjects s.csv",
        ["sklearn.linear_model"],
        "sleepfm-index[eval]",
    ),
}
"""Optional packages: options, the missing modules, and what the script says."""
FILES: Final = {
    "benchmarks/gssc.py": ("none --subjects s.csv", "pip install --no-deps --target .gssc gssc"),
    "benchmarks/query.py": ("--store none", "make demo"),
    "benchmarks/screenshots.py": ("--store none", "make demo"),
    "benchmarks/search.py": ("--folder f --peers none", "make peers"),
    "experiments/decode_truth.py": ("none", "sleepfm-index simulate none --truth"),
    "experiments/heart_lesion.py": (
        "none --subjects s.csv --truth t.parquet --weights demo",
        "t.parquet cannot be read",
    ),
    "experiments/measure_truth.py": ("none --out t.parquet", "no file or folder none"),
    "experiments/real_eeg.py": ("none", "no ucddb*.npz in none; see docs/evaluation.md"),
    "experiments/real_nights.py": ("none --subjects s.csv", "no file or folder none"),
    "experiments/real_questions.py": (
        "none --subjects s.csv --weights demo",
        "no file or folder none",
    ),
    "experiments/simulated_follow_up.py": ("none", "sleepfm-index simulate none --truth"),
    "experiments/synchrony.py": ("none", "no file or folder none"),
}
"""Files and folders that are not there: options, and what the script says of them."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that several scripts read, and caches that one fills for the next."""
    folder = tmp_path_factory.mktemp("shared")
    people = folder / "people"
    done = commands.run(
        *("simulate", people, "--subjects", "8", "--hours", "0.05", "--excerpts", "--truth"),
        *("--contract", "sleepfm-index-body"),
    )
    assert done.returncode == 0, done.stderr
    return {
        "people": people,
        "cache": folder / "cache",
        "scale": folder / "scale",
        "ucddb": write_ucddb(folder / "ucddb"),
    }


def write_ucddb(folder: Path) -> Path:
    """Write four nights of noise in the form of experiments/real_eeg.py."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    stage = np.resize(["W", "N1", "N2", "N3", "R"], 30)
    for name in ("018", "019", "020", "021"):
        np.savez(
            folder / f"ucddb{name}.npz",
            eeg_int16=rng.integers(-500, 500, (30, 3840), dtype=np.int16),
            scale=0.1,
            fs=128,
            epoch=np.arange(30),
            stage=stage,
            flat=np.zeros(30, bool),
        )
    return folder


def needed(script: str) -> None:
    """Skip a script whose packages or programs are not here."""
    for name in PACKAGES.get(script, ("", [], ""))[1]:
        pytest.importorskip(name)
    if script == "benchmarks/screenshots.py":
        pytest.importorskip("playwright")
        if not (shutil.which("chromium") or shutil.which("chromium-browser")):
            pytest.skip("no chromium, which takes the screenshots")


def test_every_script_is_listed() -> None:
    missing = set(SCRIPTS) - set(TINY) - {"benchmarks/gssc.py"}
    assert not missing, f"give {sorted(missing)} a size here"


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("no_curves")
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
        for name in TINY
        if name in SCRIPTS
    ],
)
def test_it_runs(
    script: str, shared: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needed(script)
    monkeypatch.setattr("sleepfm.encoders.choice._checked", lambda *_: "not checked")
    monkeypatch.chdir(tmp_path)
    places = shared | {"tmp": tmp_path / "here"}
    places["tmp"].mkdir()
    if "{explored}" in TINY[script]:
        places["explored"] = explored_store(tmp_path / "explored")
    words = [word.format(**places) for word in shlex.split(TINY[script])]
    assert scripts.run(script, *words).strip()


@pytest.mark.filterwarnings("default")
def test_gssc_runs_where_it_is_installed(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = ROOT / ".gssc"
    if not installed.is_dir():
        pytest.skip("gssc is not in .gssc; benchmarks/gssc.py says how to install it")
    monkeypatch.chdir(tmp_path)
    people = request.getfixturevalue("shared")["people"]
    options = ("--subjects", people / "subjects.csv", "--gssc", installed)
    assert "GSSC's own stages" in scripts.run("benchmarks/gssc.py", people, *options)


@pytest.mark.parametrize("script", SCRIPTS)
def test_its_help_and_its_first_lines_say_how_it_is_called(
    script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needed(script)
    monkeypatch.chdir(tmp_path)
    assert "usage:" in scripts.run(script, "--help")
    said = (ROOT / script).read_text(encoding="utf-8").split('"""')[1]
    assert f"python {script}" in said or f"make {Path(script).stem.replace('_', '-')}" in said


@pytest.mark.parametrize("script", PACKAGES)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, modules, said = PACKAGES[script]
    monkeypatch.chdir(tmp_path)
    for name in modules:
        pytest.importorskip(name)
        monkeypatch.setitem(sys.modules, name, None)
    for helper in ("real_nights_measures", "questions_report"):
        monkeypatch.delitem(sys.modules, helper, raising=False)
    with pytest.raises(SystemExit) as end:
        scripts.run(script, *options.split())
    assert said in f"{end.value.code}{capsys.readouterr().err}"


@pytest.mark.parametrize("script", FILES)
def test_a_missing_file_or_folder_is_named(
    script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed(script)
    options, said = FILES[script]
    monkeypatch.chdir(tmp_path)
    code: object = 0
    try:
        scripts.run(script, *options.split())
    except SystemExit as end:
        code = end.code
    printed = f"{code} {capsys.readouterr().err}"
    assert said in printed
    assert code or "skipped" in printed  # real_eeg.py is a part of longer runs, which go on
