from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from nights import write_night
from stores import drawn_store

_QUERY = """
import sys, sleepfm_index
with sleepfm_index.open({path!r}) as store:
    # pandas costs a seventh of a second: only Arrow's datasets, so SQL, may load it
    queries, _ = store.vectors.of(store.vectors.having(store.manifest.segments[0].id, "ecg"), "ecg")
    store.search("bas", queries[:1], 3)
    assert "pandas" not in sys.modules
    store.query("ecg", to="bas", clip=int(store.metadata.clip_ids("has_ecg")[0]))
    store.evaluate()
    store.info()
heavy = {{"torch", "edfio", "mne", "scipy", "sklearn", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_command_itself_loads_nothing_heavy() -> None:
    code = "import sys, sleepfm_cli.main; assert not {heavy} & set(sys.modules), sys.modules.keys()"
    heavy = {"torch", "scipy", "edfio", "mne", "faiss", "duckdb", "pyarrow", "matplotlib", "numpy"}
    subprocess.run([sys.executable, "-c", code.format(heavy=heavy)], check=True)


def test_opening_and_searching_load_no_torch_and_no_reader(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 20, "b": 20})
    subprocess.run([sys.executable, "-c", _QUERY.format(path=str(path))], check=True)


_BUILD = """
import sys, sleepfm_index
report = sleepfm_index.build({store!r}, [{night!r}], backend="openvino")
assert report.clips_added == 2
print("torch" in sys.modules)
"""


def test_building_loads_torch_only_to_check_weights_for_the_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("openvino") is None:
        pytest.skip("torch itself encodes where OpenVINO has no wheel")
    monkeypatch.setenv("SLEEPFM_CACHE", str(tmp_path / "cache"))
    write_night(tmp_path / "night.edf", seconds=60)
    said = []
    for name in ("first", "second"):
        code = _BUILD.format(store=str(tmp_path / name), night=str(tmp_path / "night.edf"))
        ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        said.append(ran.stdout.decode().strip())
    assert said == ["True", "False"]
