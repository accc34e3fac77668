"""A result is a table: shown as one, iterated, and handed to other libraries."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pyarrow as pa
import pytest
from stores import WEIGHTS, drawn_store

import sleepfm_index
from sleepfm_index import BuildReport, Result, Store
from sleepfm_index.building.recording_task import Outcome
from sleepfm_index.results import text_table
from sleepfm_index.runtime.notebook import cell_line


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("results") / "s"
    sizes = dict.fromkeys("abcdefg", 8)
    return sleepfm_index.open(drawn_store(path, sizes, index=False, lacking=0.0))


def test_rows_are_counted_and_iterated(store: Store) -> None:
    found = store.query("ecg", to="bas", clip=0, k=5)
    assert len(found) == 5
    assert list(found) == found.to_pylist()
    assert [row["rank"] for row in found] == [1, 2, 3, 4, 5]


def test_other_libraries_take_a_result_as_it_is(store: Store) -> None:
    found = store.sql("SELECT clip_id, stage FROM clips ORDER BY clip_id")
    assert pa.table(found).equals(found.to_arrow())
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(found)
    assert polars.from_arrow(found).struct.unnest().equals(frame)  # polars makes it a Series
    assert frame.shape == (56, 2) and frame.equals(found.to_polars())
    assert frame["clip_id"].to_list() == list(range(56))


@pytest.mark.parametrize("measure", ["evaluate", "knn"])
def test_measures_show_a_table_of_a_few_lines(store: Store, measure: str) -> None:
    found = store.evaluate() if measure == "evaluate" else store.knn("stage")
    lines = repr(found).splitlines()
    assert len(lines) <= 30
    assert lines[0].startswith(type(found).__name__)
    assert f"{len(found)} rows" in lines[0]
    assert found.note in repr(found)


def test_text_says_what_it_does_not_show() -> None:
    wide = pa.table({f"column_{at:02d}": ["x" * 40] * 25 for at in range(30)})
    *rows, more_rows, more_columns = text_table(wide)
    assert len(rows) == 21 and max(map(len, rows)) <= 100
    assert more_rows == "... 5 more rows"
    assert more_columns.startswith("... 28 more columns: column_02")
    assert text_table(pa.table({"a": [1.0, None, float("nan")]})) == ["  a", "  1", "  -", "nan"]
    assert repr(Result(pa.table({"n": [1]}), "said")) == "Result: 1 rows x 1 columns\nn\n1\nsaid"


def test_html_has_a_few_columns_and_escapes(store: Store) -> None:
    shown = store.query("ecg", to="bas", clip=0)._repr_html_()
    assert shown.count("<th>") == 16 and "more columns" in shown


def test_a_store_says_in_one_line_what_it_is(store: Store) -> None:
    assert "56 clips of bas, ecg, resp; weights drawn" in repr(store)
    assert "\n" not in repr(store)


def test_a_build_says_what_became_of_every_file() -> None:
    outcomes = (
        Outcome(Path("a.edf"), "added", recording_id="a", clips=120),
        Outcome(Path("b<.edf"), "failed", reason="no channel fills a slot"),
    )
    report = BuildReport(Path("s"), WEIGHTS, outcomes, ("no row for a",))
    assert repr(report) == "BuildReport: 1 added, 1 failed (120 clips) -> s"
    shown = report._repr_html_()
    assert "b&lt;.edf" in shown and "no channel fills a slot" in shown
    assert "no row for a" in shown and WEIGHTS.note in shown


def test_a_notebook_gets_a_line_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cell_line() is None
    shown: list[str] = []
    handle = SimpleNamespace(update=shown.append)
    python, display = ModuleType("IPython"), ModuleType("IPython.display")
    python.get_ipython = lambda: SimpleNamespace(kernel=1)  # type: ignore[attr-defined]
    display.display = lambda _, display_id: handle  # type: ignore[attr-defined]
    display.HTML = str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    line = cell_line()
    assert line is not None
    line.show("1 of 2 recordings <b>", 0.5)
    assert shown == ['<progress value="0.500" max="1"></progress> 1 of 2 recordings &lt;b&gt;']
