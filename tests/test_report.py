from __future__ import annotations

import re
from pathlib import Path

from cohorts import cohort_store
from stores import drawn_store

import sleepfm_index
from sleepfm_index.evaluation.figures.report import write_report


def test_the_page_loads_nothing_and_says_what_made_it(tmp_path: Path) -> None:
    path = cohort_store(tmp_path / "s", [f"n<{i}>" for i in range(4)], 24)
    with sleepfm_index.open(path) as store:
        page = write_report(store, tmp_path / "r.html").read_text()
        recall = store.evaluate().to_pylist()[0]["recall_at_1"]
        assert store.manifest.uuid in page
        assert store.manifest.contract.sha256 in page
        assert store.manifest.weights.sha256 in page
    assert f"{recall:.3f}" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert str(tmp_path) not in page
    assert "sleepfm-index evaluate --gallery 10000 --seed 0" in page
    assert "Untrained weights" in page
    assert page.count("<img") >= 9
    assert "n<0>" not in page and "n&lt;0&gt;" in page
    assert "private/" in page  # why there are no strips of signal
    for heading in ("Retrieval", "Linear probe: stage", "Linear probe: sdb", "Map of the"):
        assert f"<h2>{heading}" in page


def test_what_a_store_cannot_answer_is_said(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 30})
    with sleepfm_index.open(path) as store:
        page = write_report(store, tmp_path / "r.html").read_text()
    assert "fewer than the 2 folds" in page
    assert "training clips of age contain only 19-49" in page
