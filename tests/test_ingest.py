from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nights import write_night

import sleepfm_index
from sleepfm.encoders.load import load_weights
from sleepfm.recordings.recording import Recording
from sleepfm_index.building.preparation import Preparation
from sleepfm_index.errors import QueryError, StoreError
from sleepfm_index.storage import private


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_night(folder / "night-a.edf", seed=1)
    write_night(folder / "night-b.edf", seed=2, labels=("C3-M2", "ECG"))
    return folder


@pytest.fixture(scope="module")
def path(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "store"
    sleepfm_index.build(path, [cohort], weights="untrained")
    return path


def test_clips_carry_stage_clock_and_what_is_there(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        rows = store.sql("SELECT * FROM clips ORDER BY clip_id").to_pylist()
    a, b = rows[:4], rows[4:]
    assert [row["stage"] for row in a] == ["W", "N1", "N2", "R"]
    assert [row["clock"] for row in a] == [82770.0, 82800.0, 82830.0, 82860.0]
    assert all(row["has_bas"] and row["has_ecg"] and row["has_resp"] for row in a)
    assert all(row["has_ecg"] and not row["has_resp"] for row in b)
    assert {row["slots_bas"] for row in a} == {0b01001}
    assert {row["slots_resp"] for row in a} == {0b00011}
    assert {row["subject_id"] for row in rows} == {"night-a", "night-b"}


def test_vectors_are_unit_vectors_or_absent(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        for modality, there in (("bas", 8), ("ecg", 8), ("resp", 4)):
            vectors, present = store.vectors.of(np.arange(8), modality)
            assert present.sum() == there
            np.testing.assert_allclose(np.linalg.norm(vectors[present], axis=1), 1, atol=2e-3)
            assert not vectors[~present].any()


def test_untrained_weights_say_so(path: Path) -> None:
    with sleepfm_index.open(path) as store:
        info = store.info()
    assert not info.weights.trained
    assert "UNTRAINED" in info.weights.note


def test_a_modality_that_the_weights_do_not_encode_is_left_out(
    cohort: Path, tmp_path: Path
) -> None:
    whole = load_weights("untrained")
    two = {m: whole.tensors[m] for m in ("ecg", "resp")}
    file = replace(whole, name="two", tensors=two).save(tmp_path / "two.safetensors")
    report = sleepfm_index.build(tmp_path / "s", [cohort], weights=str(file))
    assert [o.status for o in report.outcomes] == ["added", "added"]
    assert "bas was left out: two has no encoder for it" in report.outcomes[0].warnings
    with sleepfm_index.open(tmp_path / "s") as store:
        rows = store.sql("SELECT * FROM clips ORDER BY clip_id").to_pylist()
        assert not any(row["has_bas"] or row["slots_bas"] for row in rows)
        assert [row["has_resp"] for row in rows] == [True] * 4 + [False] * 4
    one = replace(whole, name="one", tensors={"resp": whole.tensors["resp"]})
    one.save(tmp_path / "one.safetensors")
    again = sleepfm_index.build(tmp_path / "t", [cohort], weights=str(tmp_path / "one.safetensors"))
    assert [o.status for o in again.outcomes] == ["added", "failed"]
    assert "the recording has only bas, ecg" in again.outcomes[1].reason


def test_a_second_build_adds_nothing(cohort: Path, path: Path) -> None:
    with sleepfm_index.open(path) as store:
        before = store.manifest
    report = sleepfm_index.build(path, [cohort], weights="untrained")
    assert [o.status for o in report.outcomes] == ["already there"] * 2
    with sleepfm_index.open(path) as store:
        assert store.manifest == before


WITHDRAWN = "it was deleted from this store; build with --readmit to add it again"


def test_a_withdrawn_recording_is_not_brought_back(cohort: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    sleepfm_index.build(path, [cohort], weights="untrained")
    sleepfm_index.delete(path, recording="night-a")
    for _ in range(2):
        report = sleepfm_index.build(path, [cohort], weights="untrained")
        assert [(o.status, o.reason) for o in report.outcomes] == [
            ("left out", WITHDRAWN),
            ("already there", ""),
        ]
        sleepfm_index.compact(path)
    with sleepfm_index.open(path) as store:
        assert len(store) == 4


def test_a_withdrawn_recording_stays_away_whatever_the_options(
    cohort: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    files = [cohort / "night-a.edf"]
    sleepfm_index.build(path, files, weights="untrained")
    sleepfm_index.delete(path, recording="night-a")
    for options in ({"substitute": True}, {"coding": "yasa"}, {"ids": "hash"}):
        (outcome,) = sleepfm_index.build(path, files, weights="untrained", **options).outcomes
        assert (outcome.status, outcome.reason) == ("left out", WITHDRAWN)


def test_a_build_in_two_parts_equals_one(cohort: Path, path: Path, tmp_path: Path) -> None:
    for name in ("night-a.edf", "night-b.edf"):
        sleepfm_index.build(tmp_path / "s", [cohort / name], weights="untrained")
    with sleepfm_index.open(tmp_path / "s") as parts, sleepfm_index.open(path) as whole:
        assert parts.manifest.sources == whole.manifest.sources
        ids = np.arange(8)
        for modality in ("bas", "ecg", "resp"):
            np.testing.assert_array_equal(
                parts.vectors.of(ids, modality)[0], whole.vectors.of(ids, modality)[0]
            )


def test_a_bad_file_stops_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a-text.edf").write_text("this is a letter, not a recording\n" * 40)
    whole = write_night(folder / "b-cut.edf").read_bytes()
    (folder / "b-cut.edf").write_bytes(whole[:300])
    write_night(folder / "c-odd.edf", labels=("Snore", "Light"))
    (folder / "d-empty.edf").touch()
    write_night(folder / "e-short.edf", seconds=20, stages=())
    write_night(folder / "f-good.edf")
    seen = []
    report = sleepfm_index.build(
        tmp_path / "s", [folder], progress=lambda done, total: seen.append((done, total))
    )
    status = {o.file.name: (o.status, o.reason) for o in report.outcomes}
    assert status["f-good.edf"][0] == "added"
    for name, (what, reason) in status.items():
        if name != "f-good.edf":
            assert what == "failed", name
            assert reason and "\n" not in reason and "unexpected" not in reason, (name, reason)
    assert seen == [(i, 6) for i in range(1, 7)]
    with sleepfm_index.open(tmp_path / "s") as store:
        assert store.sql("SELECT DISTINCT recording_id AS r FROM clips").to_pylist() == [
            {"r": "f-good"}
        ]
        assert len(store.manifest.segments) == 1
        assert len(list((tmp_path / "s" / "segments").iterdir())) == 1


@pytest.mark.parametrize("change", ["replaced", "overwritten", "growing"])
def test_a_file_that_changes_while_it_is_read_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    file = write_night(tmp_path / "night.edf", seed=1)
    (tmp_path / "elsewhere").mkdir()
    other = write_night(tmp_path / "elsewhere" / "night.edf", seed=2)
    assert file.stat().st_size == other.stat().st_size
    real = Preparation.cut

    def cut(self: Preparation, recording: Recording) -> object:
        if change == "replaced":
            other.replace(file)
        else:
            content = other.read_bytes() if change == "overwritten" else file.read_bytes() * 2
            file.write_bytes(content)
        return real(self, recording)

    monkeypatch.setattr(Preparation, "cut", cut)
    (outcome,) = sleepfm_index.build(tmp_path / "s", [file]).outcomes
    assert outcome.status == "failed"
    assert outcome.reason == "night.edf changed while it was read; build again"
    monkeypatch.undo()
    (outcome,) = sleepfm_index.build(tmp_path / "s", [file]).outcomes
    assert outcome.status == "added"


def test_two_files_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    for folder, seed in (("x", 1), ("y", 2)):
        (tmp_path / folder).mkdir()
        write_night(tmp_path / folder / "night.edf", seed=seed)
    at_once = sleepfm_index.build(tmp_path / "s", [tmp_path / "x", tmp_path / "y"])
    assert [(o.file.parent.name, o.status) for o in at_once.outcomes] == [
        ("x", "added"),
        ("y", "failed"),
    ]
    (later,) = sleepfm_index.build(tmp_path / "s", [tmp_path / "y"]).outcomes
    assert later.status == "failed"
    assert "another recording named night" in later.reason


def test_a_file_asks_as_its_clip_does(cohort: Path, path: Path) -> None:
    with sleepfm_index.open(path) as store:
        by_clip = store.query("ecg", to="bas", clip=1).to_pylist()
        by_file = store.query(
            "ecg", to="bas", file=cohort / "night-a.edf", at="23:00:00"
        ).to_pylist()
        assert [hit["clip_id"] for hit in by_file] == [hit["clip_id"] for hit in by_clip]
        scores = [[hit["score"] for hit in hits] for hits in (by_file, by_clip)]
        np.testing.assert_allclose(*scores, atol=2e-3)


def test_a_file_is_asked_with_the_weights_of_the_store(cohort: Path, path: Path) -> None:
    with sleepfm_index.open(path) as store, pytest.raises(QueryError, match="not the store's"):
        store.query("ecg", file=cohort / "night-a.edf", at="+0", weights="untrained:5")


def test_subjects_join_by_recording(cohort: Path, tmp_path: Path) -> None:
    table = tmp_path / "subjects.csv"
    table.write_text(
        "recording_id,subject_id,site,nsrr_age,nsrr_sex,visit\nnight-a,p1,lab,61,female,2\n"
    )
    sleepfm_index.build(tmp_path / "s", [cohort], subjects=table)
    with sleepfm_index.open(tmp_path / "s") as store:
        rows = store.sql(
            "SELECT DISTINCT recording_id, subject_id, site, nsrr_age, nsrr_sex, visit FROM clips "
            "ORDER BY recording_id"
        ).to_pylist()
    assert list(rows[0].values()) == ["night-a", "p1", "lab", 61.0, "female", 2]
    assert list(rows[1].values()) == ["night-b", "night-b", None, None, None, None]


def test_hashed_ids_hide_the_stem(cohort: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    sleepfm_index.build(path, [cohort], ids="hash")
    with sleepfm_index.open(path) as store:
        listed = store.sql("SELECT recording_id FROM recordings").to_pylist()
    names = [row["recording_id"] for row in listed]
    public = [p for p in path.rglob("*") if p.is_file() and "private" not in p.parts]
    assert public and all(b"night-" not in p.read_bytes() for p in public)
    assert {private.files(path)[name].name for name in names} == {"night-a.edf", "night-b.edf"}
    assert (path / "private").stat().st_mode & 0o777 == 0o700
    again = sleepfm_index.build(path, [cohort], ids="hash")
    assert [o.status for o in again.outcomes] == ["already there"] * 2


def test_a_store_cannot_be_written_where_one_may_not(cohort: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        target = Path("/proc/sleepfm-store")
    else:
        (tmp_path / "locked").mkdir(mode=0o500)
        target = tmp_path / "locked" / "store"
    with pytest.raises((OSError, StoreError)):
        sleepfm_index.build(target, [cohort])


def test_real_recordings(recordings_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    sleepfm_index.build(path, [recordings_dir])
    with sleepfm_index.open(path) as store:
        clips = store.sql(
            "SELECT recording_id AS r, count(*) AS n, bool_and(has_bas) AS bas, "
            "bool_and(has_ecg) AS ecg, bool_and(has_resp) AS resp, "
            "any_value(slots_bas) AS slots_bas, "
            "any_value(slots_resp) AS slots_resp FROM clips GROUP BY r ORDER BY r"
        ).to_pylist()
        stages = store.sql(
            "SELECT DISTINCT stage AS s FROM clips WHERE recording_id LIKE 'ucddb018%' ORDER BY s"
        ).to_pylist()
        hits = store.query("ecg", to="bas", clip=0, exclude="none").to_pylist()
    assert [list(row.values()) for row in clips] == [
        ["nox-a1-2min", 4, True, True, True, 0b11111, 0b01111],
        ["slp41-60s", 2, True, True, True, 0b00010, 0b01100],
        ["ucddb018-eeg-night", 822, True, False, False, 0b00010, 0],
    ]
    assert {"W", "N1", "N2", "N3", "R"} <= {row["s"] for row in stages}
    assert len(hits) == 10
