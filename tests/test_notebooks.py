"""Notebooks are committed without outputs and call what there is; `make notebooks` runs them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from sleepfm_index import Store

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["ecg_to_brain", "first_look", "staging"]
    page = (FOLDER.parent / "notebooks.md").read_text(encoding="utf-8")
    assert all(f"`{path.name}`" in page for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    for cell in cells(path):
        assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_call_what_a_store_has(path: Path) -> None:
    for cell in cells(path):
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "store":
                assert hasattr(Store, node.attr), node.attr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_reader_is_told_that_it_is_simulated(path: Path) -> None:
    assert "simulated" in path.read_text(encoding="utf-8")
