from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stores import drawn_store

_QUERY = """
import sys, sleepfm_index
with sleepfm_index.open({path!r}) as store:
    store.query("ecg", to="bas", clip=int(store.metadata.clip_ids("has_ecg")[0]))
    # pandas costs a seventh of a second, a third of the whole process
    assert "pandas" not in sys.modules
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
