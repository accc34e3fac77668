"""Folders, globs, files and cohort lists."""

from pathlib import Path

import pytest
from recording_files import Signal, noise, psg, stages, write_edf

from sleepfm.errors import RecordingError
from sleepfm.recordings import find_recordings
from sleepfm.recordings.find_scoring import find_annotations


def names(found):
    return [item.path.name for item in found.recordings]


def touch(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_folders_are_searched_to_the_bottom_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.edf", "a/c.EDF", "a/d.hea", "a/d.dat", "notes.txt", ".hidden.edf")
    assert names(find_recordings([tmp_path])) == ["b.edf", "c.EDF", "d.hea"]


def test_symbolic_links_in_a_loop_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/n.edf")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert names(find_recordings([tmp_path])) == ["n.edf"]


def test_two_forms_of_one_recording_are_one(tmp_path: Path) -> None:
    touch(tmp_path, "n.hea", "n.edf", "n.dat")
    found = find_recordings([tmp_path])
    assert names(found) == ["n.edf"]
    assert [(x.path.name, x.reason) for x in found.left_out] == [
        ("n.hea", "duplicate of n.edf (that one is used)")
    ]


def test_one_name_in_two_folders_is_two_recordings(tmp_path: Path) -> None:
    touch(tmp_path, "a/n.edf", "b/n.edf")
    found = find_recordings([tmp_path])
    assert [item.path.parent.name for item in found.recordings] == ["a", "b"]


def test_the_same_file_named_twice_is_read_once(tmp_path: Path) -> None:
    touch(tmp_path, "n.edf")
    found = find_recordings([tmp_path, tmp_path / "n.edf", str(tmp_path / "*.edf")])
    assert names(found) == ["n.edf"]
    assert found.left_out == ()


def test_annotation_files_are_no_recordings(tmp_path: Path) -> None:
    write_edf(tmp_path / "SC4001EC-Hypnogram.edf", {}, annotations=stages("W12"))
    write_edf(tmp_path / "SC4001E0-PSG.edf", {"ECG": Signal(noise(30, 100), 100)})
    found = find_recordings([tmp_path])
    assert names(found) == ["SC4001E0-PSG.edf"]
    assert found.left_out[0].reason == "holds annotations, not signals"
    beside = find_annotations(tmp_path / "SC4001E0-PSG.edf")
    assert [p.name for p in beside] == ["SC4001EC-Hypnogram.edf"]


def test_annotations_beside_a_recording(tmp_path: Path) -> None:
    touch(
        tmp_path, "n1.edf", "n1-nsrr.xml", "n1.annot", "n1_hypnogram.txt", "n10.xml", "n1b.annot",
        "n1.mat",
    )  # fmt: skip
    beside = [p.name for p in find_annotations(tmp_path / "n1.edf")]
    assert beside == ["n1-nsrr.xml", "n1.annot", "n1_hypnogram.txt"]


@pytest.mark.parametrize("heading", ["", "id,signal,annotations\n"])
def test_cohort_lists(tmp_path: Path, heading: str) -> None:
    touch(tmp_path, "x/1.edf", "x/2.edf", "x/1.xml")
    (tmp_path / "cohort.csv").write_text(heading + "s1,x/1.edf,x/1.xml\ns2,x/2.edf,\n")
    found = find_recordings([tmp_path / "cohort.csv"]).recordings
    assert [item.stem for item in found] == ["s1", "s2"]
    assert found[0].annotations == tmp_path / "x/1.xml"
    assert found[1].annotations is None


def test_luna_sample_list(tmp_path: Path) -> None:
    (tmp_path / "s.lst").write_text("id1\t/a/1.edf\t/a/1.xml\nid2\t/a/2.edf\t.\n")
    found = find_recordings([tmp_path / "s.lst"]).recordings
    assert [(i.stem, str(i.path)) for i in found] == [("id1", "/a/1.edf"), ("id2", "/a/2.edf")]
    assert found[1].annotations is None


@pytest.mark.parametrize("text", ["only-an-id\n", "id,\n", "id,a.edf\nid\n"])
def test_a_bad_row_of_a_list_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(RecordingError, match="must be: id, signal file"):
        find_recordings([tmp_path / "c.csv"])


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="there is no file or folder"):
        find_recordings([tmp_path / "nothing"])
    with pytest.raises(RecordingError, match="there is no recording in"):
        find_recordings([tmp_path])


def test_real_folder(recordings_dir: Path) -> None:
    found = find_recordings([recordings_dir])
    assert names(found) == ["nox-a1-2min.edf", "slp41-60s.edf", "ucddb018-eeg-night.edf"]
    assert [x.path.name for x in found.left_out] == ["slp41-60s.hea"]


def test_psg_helper_is_found(tmp_path: Path) -> None:
    write_edf(tmp_path / "n.edf", psg(30))
    assert names(find_recordings([tmp_path])) == ["n.edf"]
