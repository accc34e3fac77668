"""Earlier names of options are understood."""

from __future__ import annotations

import inspect

import pytest

from sleepfm_cli.evaluate import evaluate
from sleepfm_cli.knn import knn
from sleepfm_cli.probe import probe
from sleepfm_cli.renamed import RENAMED, present_names
from sleepfm_cli.supervise import supervise

VERBS = {"evaluate": evaluate, "knn": knn, "probe": probe, "supervise": supervise}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("probe --label age --kind number", "probe --label age --task regression"),
        ("knn --kind=classes --equal", "knn --task=classification --unweighted"),
        ("probe --beside classes", "probe --compare-with classes"),
        ("evaluate --among cross-recording", "evaluate --gallery-scope cross-recording"),
        ("sql --kind number", "sql --kind number"),
    ],
)
def test_an_earlier_name_becomes_the_name(before: str, after: str) -> None:
    assert present_names(before.split()) == after.split()


def test_every_name_is_an_option_of_its_verb() -> None:
    for verb in VERBS:
        options = inspect.signature(VERBS[verb]).parameters
        for name in RENAMED.get(verb, {}).values():
            assert name.removeprefix("--").replace("-", "_") in options
