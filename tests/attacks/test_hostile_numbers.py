"""Numbers and nesting that would take all memory or all of the stack end in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sleepfm.contract import ROBUST, Contract
from sleepfm.errors import SleepFMError
from sleepfm.recordings.channels_file import read_overrides
from sleepfm_index.errors import FormatError, QueryError
from sleepfm_index.evaluation.models.linear_probe import LinearProbe
from sleepfm_index.evaluation.models.probe_kinds import MAX_CLASSES, load_probe, save_probe
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


def test_a_probe_of_more_classes_than_can_be_predicted(tmp_path: Path) -> None:
    many = tuple(map(str, range(MAX_CLASSES + 1)))
    probe = LinearProbe(
        many, np.zeros(2), np.ones(2), np.zeros((2, len(many))), np.zeros(len(many)), True
    )
    file = tmp_path / "p.safetensors"
    with pytest.raises(QueryError, match=r"at most 4,096 classes can be saved"):
        save_probe(probe, file)
    header = {"format_version": 1, "classes": many, "converged": True, "about": {}}
    save_file(probe.tensors(), file, {"sleepfm_probe": json.dumps(header)})
    with pytest.raises(FormatError, match=r"it has 4,097 classes, more than 4,096"):
        load_probe(file)
