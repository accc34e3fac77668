"""docs/columns.md names every column that a store can have."""

from __future__ import annotations

import re
from pathlib import Path

from sleepfm.labels import EVENT_COLUMNS as MEASURED
from sleepfm.quality import ISSUES
from sleepfm_index.schema import EVENT_COLUMNS, RECORDING_COLUMNS, SUBJECT_COLUMNS, clip_schema
from sleepfm_index.storage.labels import LABEL_COLUMNS

TEXT = (Path(__file__).parents[1] / "docs" / "columns.md").read_text(encoding="utf-8")


def test_every_column_is_named() -> None:
    named = set(re.findall(r"`([\w<>]+)`", TEXT))
    clips = {name.replace("x", "<modality>") for name in clip_schema(("x",)).names if "_x" in name}
    clips |= set(clip_schema(()).names)
    measured = {*MEASURED, *(f"quality_<modality>_{issue}" for issue in ISSUES)}
    others = {*SUBJECT_COLUMNS.names, *EVENT_COLUMNS.names, *RECORDING_COLUMNS.names}
    others |= {*LABEL_COLUMNS.names}
    assert clips | measured | others <= named
