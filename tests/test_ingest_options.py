"""Options of a build that decide how recordings are read: two builds of the same two files."""

from typing import Any

import pytest
from recording_files import Signal, noise, psg, write_edf

import sleepfm_index


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Outcomes and stages of a plain build, and of one with every option."""
    folder = tmp_path_factory.mktemp("cohort")
    write_edf(folder / "Smith_John.edf", psg(60))
    (folder / "Smith_John.txt").write_text("4\n4\n")
    write_edf(folder / "volts.edf", {"ECG": Signal(noise(60, 200), 200, "V")})
    result = {}
    for name, options in (
        ("plain", {}),
        ("all", {"strict": True, "coding": "yasa", "ids": "hash"}),
    ):
        path = tmp_path_factory.mktemp(name) / "store"
        outcomes = sleepfm_index.build(path, [folder], **options).outcomes
        with sleepfm_index.open(path) as store:
            stages = store.sql("SELECT DISTINCT stage FROM clips").to_pylist()
        result[name] = outcomes, {row["stage"] for row in stages}
    return result


def test_strict_leaves_out_what_contradicts_its_unit(builds: dict[str, Any]) -> None:
    outcomes, _ = builds["plain"]
    assert [o.status for o in outcomes] == ["added", "added"]
    assert any("contradicts its unit" in w for w in outcomes[1].warnings)
    outcomes, _ = builds["all"]
    assert [o.status for o in outcomes] == ["added", "failed"]


def test_a_coding_explains_integers(builds: dict[str, Any]) -> None:
    outcomes, stages = builds["plain"]
    assert stages == {"UNS"}
    assert any("integer codes" in w for w in outcomes[0].warnings)
    assert builds["all"][1] == {"R"}


def test_a_name_is_a_warning_unless_it_is_hashed(builds: dict[str, Any]) -> None:
    looks = "the name looks like a person's name: consider --ids hash"
    assert looks in builds["plain"][0][0].warnings
    assert looks not in builds["all"][0][0].warnings
