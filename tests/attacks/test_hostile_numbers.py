"""Numbers and nesting that would take all memory or all of the stack end in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from sleepfm.contract import ROBUST, Contract
from sleepfm.errors import SleepFMError
from sleepfm.recordings.channels import read_overrides
from sleepfm_index.errors import QueryError
from sleepfm_index.query.question import Question, check_question


@pytest.mark.parametrize("size", [{"sample_rate": 10**9}, {"clip_seconds": 10**9}])
def test_a_contract_of_gigabytes(size: dict[str, int]) -> None:
    with pytest.raises((ValueError, SleepFMError), match="at most"):
        Contract.from_json({**ROBUST.to_json(), **size})


def test_more_neighbours_than_there_can_be() -> None:
    with pytest.raises(QueryError, match="at most"):
        check_question(Question("bas", clip=0, k=10**20), ROBUST.modalities)


@pytest.mark.parametrize("text", ["ECG: " + "9" * 5000, "[" * 5000, "ECG: 2020-13-45"])
def test_channels_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(SleepFMError):
        read_overrides(tmp_path / "c.yaml", ROBUST.all_slots)
