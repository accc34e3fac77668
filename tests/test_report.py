from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from cohorts import cohort_store
from matplotlib.figure import Figure
from matplotlib.image import imread
from stores import drawn_store
from typer.testing import CliRunner

import sleepfm_index
from sleepfm_cli.main import app
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.figures import report
from sleepfm_index.evaluation.figures.cohort import cohort_table, user_columns
from sleepfm_index.evaluation.figures.report import write_report
from sleepfm_index.evaluation.figures.report_page import LARGEST_SVG, Page
from sleepfm_index.reader import Reader


def images(page: str) -> list[tuple[str, bytes]]:
    """Formats and contents of the embedded figures, in order."""
    found = re.findall(r'<img alt="[^"]*" src="data:image/([^;]+);base64,([^"]+)">', page)
    assert len(found) == page.count("<img")
    return [(kind, base64.b64decode(content)) for kind, content in found]


def words_of(svg: bytes) -> set[str]:
    """Texts of an SVG; letters that are drawn as shapes are none."""
    tree = ElementTree.fromstring(svg)
    return {"".join(e.itertext()) for e in tree.iter("{http://www.w3.org/2000/svg}text")}


def test_the_page_loads_nothing_and_says_what_made_it(tmp_path: Path) -> None:
    path = cohort_store(tmp_path / "s", [f"n<{i}>" for i in range(4)], 24)
    with sleepfm_index.open(path) as store:
        sections: list[str] = []
        page = write_report(store, tmp_path / "r.html", notice=sections.append).read_text()
        recall = store.evaluate().to_pylist()[0]["recall_at_1"]
        assert store.manifest.uuid in page
        assert store.manifest.contract.sha256 in page
        assert store.manifest.weights.sha256 in page
    assert f"{recall:.3f}" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert str(tmp_path) not in page
    assert "sleepfm-index evaluate --gallery 10000 --seed 0" in page
    assert "Untrained weights" in page
    figures = images(page)
    assert len(figures) >= 9 and {kind for kind, _ in figures} == {"svg+xml"}
    assert {"query: ecg", "recall@1"} <= words_of(figures[0][1])
    assert "n<0>" not in page and "n&lt;0&gt;" in page
    assert "private/" in page  # why there are no strips of signal
    assert 'name="viewport"' in page and "@media print" in page and "<figcaption>" in page
    assert re.search(r"sleepfm-index \d.*Python \d", page) and re.search(r"20\d\d-\d\d-\d\d", page)
    for heading in re.findall(r'<h2 id="([^"]+)"', page):
        assert f'<a href="#{heading}">' in page
    assert len(sections) == page.count("<h2 id=") and sections[:2] == ["Cohort", "Retrieval"]
    for heading in (
        "Cohort",
        "Retrieval",
        "Linear probe: stage",
        "Linear probe: sdb",
        "Map of the",
    ):
        assert re.search(rf'<h2 id="[^"]+">{heading}', page)


def test_the_cohort_table_counts_subjects_and_lists_own_columns(tmp_path: Path) -> None:
    path = cohort_store(tmp_path / "s", [f"n{i}" for i in range(6)], 6, index=False)
    with sleepfm_index.open(path) as store:
        table = store.sql("SELECT DISTINCT subject_id, site, nsrr_age, nsrr_sex FROM clips")
        people = table.to_pylist()
        store.annotate(
            pa.table(
                {
                    "subject_id": [p["subject_id"] for p in people],
                    "arm": ["drug", "placebo"] * 3,
                    "dose": [0.123456789, 2.0, 1.0, 0.5, 3.14159265, 1.5],
                }
            )
        )
        rows, columns = cohort_table(store)
        own = {row["column"]: row for row in user_columns(store)}
    whole = rows[-1]
    ages = [p["nsrr_age"] for p in people]
    assert whole["site"] == "all" and whole["subjects"] == 6 and whole["recordings"] == 6
    assert whole["nsrr_age"] == f"{np.mean(ages):.1f} ({np.std(ages, ddof=1):.1f})"
    assert whole["men"] == sum(p["nsrr_sex"] == "male" for p in people)
    assert whole["hours"] == f"{36 / 120:.1f}" and set(columns) <= set(whole)
    assert [row["site"] for row in rows[:-1]] == sorted({p["site"] for p in people})
    assert own["arm"]["clips"] == 36 and own["arm"]["label"]
    assert set(own["arm"]["values"].split(", ")) == {"drug", "placebo"}
    assert own["dose"]["values"] == "0.1235 to 3.142"
    assert not {"stage", "nsrr_age", "hypopnea_s", "has_bas"} & set(own)


def test_what_a_store_cannot_answer_is_said(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 30})
    with sleepfm_index.open(path) as store:
        page = write_report(store, tmp_path / "r.html").read_text()
    assert "fewer than the 2 folds" in page
    assert "training clips of age contain only 19-49" in page


def test_a_figure_is_svg_with_text_and_png_when_its_svg_would_be_large() -> None:
    few = Figure(figsize=(4.0, 3.0)).add_subplot()
    few.scatter(range(50), range(50))
    few.set_title("a few clips")
    many = Figure(figsize=(4.0, 3.0)).add_subplot()
    many.scatter(range(20_000), range(20_000))
    page = Page(dpi=90)
    page.figure(few, "few")
    page.figure(many, "many")
    (first, svg), (second, png) = images("".join(page.parts))
    assert (first, second) == ("svg+xml", "png")
    assert "a few clips" in words_of(svg) and len(svg) <= LARGEST_SVG
    assert imread(io.BytesIO(png)).shape[:2] == (270, 360)


def test_dpi_and_style_reach_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two options change the figures of the page as they do those of ``--plot``."""

    def sections(page: Page, *_: object) -> None:
        for points in (10, 20_000):
            ax = Figure(figsize=(4.0, 3.0)).add_subplot()
            ax.scatter(range(points), range(points))
            page.figure(ax, "points")

    monkeypatch.setattr(report, "_sections", sections)
    path = drawn_store(tmp_path / "s", {"a": 4})
    look = tmp_path / "look.mplstyle"
    look.write_text("figure.facecolor: 123456\n")
    words = ["report", "--out", str(tmp_path / "r.html"), "--store", str(path)]
    done = CliRunner().invoke(app, [*words, "--dpi", "60", "--style", str(look)])
    assert done.exit_code == 0, done.output
    (_, svg), (_, png) = images((tmp_path / "r.html").read_text())
    pixels = imread(io.BytesIO(png))
    assert pixels.shape[:2] == (180, 240) and b"#123456" in svg
    assert (pixels[0, 0, :3] * 255).round().tolist() == [0x12, 0x34, 0x56]
    assert CliRunner().invoke(app, words).exit_code == 0
    (_, svg), (_, png) = images((tmp_path / "r.html").read_text())
    assert imread(io.BytesIO(png)).shape[:2] == (600, 800) and b"#123456" not in svg
    assert CliRunner().invoke(app, [*words, "--dpi", "10"]).exit_code == 2


def test_an_unknown_style_is_refused_before_anything_is_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sections(page: Page, store: Reader, *_: object) -> None:
        raise AssertionError("evaluated")

    monkeypatch.setattr(report, "_sections", sections)
    path = drawn_store(tmp_path / "s", {"a": 4})
    with (
        sleepfm_index.open(path) as store,
        pytest.raises(QueryError, match=r"no style 'baroque'; give the path of an \.mplstyle"),
    ):
        write_report(store, tmp_path / "r.html", style="baroque")
    assert not (tmp_path / "r.html").exists()
