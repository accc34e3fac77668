"""The wheel holds what the command needs, and says what it is."""

from __future__ import annotations

import os
import re
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import sleepfm

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    hatchling = pytest.importorskip("hatchling.build")
    folder, before = tmp_path_factory.mktemp("wheel"), Path.cwd()
    os.chdir(ROOT)
    try:
        name = hatchling.build_wheel(str(folder))
    finally:
        os.chdir(before)
    return zipfile.ZipFile(folder / name)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def test_every_module_is_in_the_wheel_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    there = {n for n in wheel.namelist() if ".dist-info/" not in n}
    modules = {
        path.relative_to(base).as_posix()
        for base, package in (("", "sleepfm"), ("index", "sleepfm_index"), ("cli", "sleepfm_cli"))
        for base in (ROOT / base,)
        for path in (base / package).rglob("*.py")
    }
    assert modules <= there
    assert {n.partition("/")[0] for n in there} == {"sleepfm", "sleepfm_index", "sleepfm_cli"}
    assert not [n for n in there if "/web/" in n or "__pycache__" in n or n.endswith(".edf")]


def test_what_is_read_at_run_time_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    there = set(wheel.namelist())
    assert any(n.startswith("sleepfm/") and n.endswith(".safetensors") for n in there)
    for package in ("sleepfm", "sleepfm_index", "sleepfm_cli"):
        assert f"{package}/py.typed" in there
    assert "sleepfm_index/__init__.pyi" in there
    for name in ("index.html", "explore.js", "explore.css", "icon.svg", "LICENSES.txt"):
        assert f"sleepfm_index/explore/static/{name}" in there


def test_the_metadata_is_complete(metadata: Message) -> None:
    assert metadata["Name"] == "sleepfm-index"
    assert metadata["Version"] == sleepfm.__version__
    assert metadata["License-Expression"] == "MIT"
    assert len(metadata.get_all("License-File") or []) == 2
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    for field in ("Summary", "Keywords", "Classifier", "Project-URL", "Author"):
        assert metadata[field], field
    extras = set(metadata.get_all("Provides-Extra") or [])
    assert extras == set(PROJECT["optional-dependencies"])


def test_every_dependency_has_a_lower_bound() -> None:
    extras = PROJECT["optional-dependencies"].values()
    for line in [*PROJECT["dependencies"], *(one for lines in extras for one in lines)]:
        assert ">=" in line or line.startswith("sleepfm-index["), line


def test_one_version_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert set(re.findall(r"^\s*version: (.*)$", citation, re.M)) == {sleepfm.__version__}
    assert f"## {sleepfm.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_citation_is_whole() -> None:
    yaml = pytest.importorskip("yaml")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "license"} <= cited.keys()
    (paper,) = cited["references"]
    assert (paper["year"], paper["start"], paper["end"]) == (2024, 48019, 48037)


def test_issue_forms_are_valid_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 4
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name != "config.yml":
            assert form["name"] and form["description"] and form["body"], path.name
