"""The house: no import circle of any kind, small modules, and a map that names every one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "sleepfm": ROOT / "sleepfm",
    "sleepfm_index": ROOT / "index" / "sleepfm_index",
    "sleepfm_cli": ROOT / "cli" / "sleepfm_cli",
}
MOST_LINES = 400


def _modules() -> dict[str, Path]:
    found = {}
    for name, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((name, *(p for p in parts if p != "__init__")))] = path
    return found


MODULES = _modules()


def _imports(module: str, path: Path) -> Iterator[str]:
    """Modules that one imports: at the top, when called, and for annotations alike."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            wanted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in wanted:
            if name not in MODULES:  # an object of a module
                name = name.rpartition(".")[0]
            if name in MODULES and name != module:
                yield name


def _circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in order:
            visit(node)
    return found


def test_a_circle_is_seen() -> None:
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]


def test_no_imports_form_a_circle_not_even_late_ones_or_those_for_annotations() -> None:
    graph = {name: set(_imports(name, path)) for name, path in MODULES.items()}
    assert _circles(graph) == []


def test_every_module_is_short_enough_to_read() -> None:
    long = {
        name: lines
        for name, path in MODULES.items()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert not long


def test_the_map_names_every_module() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./]+\.py)`", text))
    there = {
        path.relative_to(ROOT).as_posix() for path in MODULES.values() if path.name != "__init__.py"
    }
    assert not there - named, f"docs/ARCHITECTURE.md does not name {sorted(there - named)}"
    paths = {
        name for name in named if "/" in name and name.split("/")[0] in ("sleepfm", "index", "cli")
    }
    gone = {name for name in paths if not (ROOT / name).exists()}
    assert not gone, f"docs/ARCHITECTURE.md names {sorted(gone)}, which do not exist"
