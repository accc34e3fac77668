"""The table of formats in docs/recordings.md: every row is held by a test that exists."""

import re
from pathlib import Path

from sleepfm.recordings.scoring.formats import ENDINGS as ANNOTATION_ENDINGS
from sleepfm.recordings.signals import SIGNAL_ENDINGS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "recordings.md").read_text(encoding="utf-8")


def test_every_row_names_a_test_that_exists() -> None:
    rows = [line for line in PAGE.splitlines() if re.search(r"`test_\w+\.py::\w+` \|$", line)]
    assert len(rows) >= 15
    for row in rows:
        file, name = re.findall(r"`(test_\w+\.py)::(\w+)`", row)[-1]
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), row


def test_every_ending_is_in_the_table() -> None:
    words = PAGE.lower()
    for ending in SIGNAL_ENDINGS + ANNOTATION_ENDINGS:
        known = ending in words or ending[1:] in words
        assert known or ending in (".rec", ".fif.gz", ".stg", ".hyp", ".txt"), ending
