from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
from cohorts import cohort_store
from stores import drawn_store

import sleepfm_index
from sleepfm_index.evaluation.figures.cohort import cohort_table, user_columns
from sleepfm_index.evaluation.figures.report import write_report


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
    assert page.count("<img") >= 9
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
    assert not {"stage", "nsrr_age", "hypopnea_s", "has_bas"} & set(own)


def test_what_a_store_cannot_answer_is_said(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 30})
    with sleepfm_index.open(path) as store:
        page = write_report(store, tmp_path / "r.html").read_text()
    assert "fewer than the 2 folds" in page
    assert "training clips of age contain only 19-49" in page
