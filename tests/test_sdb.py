"""Which recordings give labels of sleep-disordered breathing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nights import write_night

import sleepfm_index
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.labels import read_labels

APNEA = ((31.0, 20.0, "Obstructive apnea"),)
AROUSAL = ((31.0, 5.0, "Arousal"),)


def labelled(folder: Path, rows: dict[str, tuple], header: str = "site") -> tuple[dict, str]:
    """Labels of each recording of (events, stages, *facts), and the note."""
    (folder / "in").mkdir()
    lines = [f"recording_id,{header}"]
    for name, (events, stages, *facts) in rows.items():
        write_night(folder / "in" / f"{name}.edf", seed=len(lines), events=events, stages=stages)
        lines.append(",".join([name, *facts]))
    (folder / "subjects.csv").write_text("\n".join(lines) + "\n")
    sleepfm_index.build(folder / "s", [folder / "in"], subjects=folder / "subjects.csv")
    with sleepfm_index.open(folder / "s") as store:
        labels = read_labels(store, "sdb")
        names = np.array(store.metadata.rows(labels.clip_ids)["recording_id"].to_pylist())
    return {n: labels.values[names == n].tolist() for n in set(names)}, labels.note


def test_no_event_is_negative_where_respiration_was_scored(tmp_path: Path) -> None:
    scored, nothing = ("W", "N1", "N2", "R"), ("?", "?", "?", "?")
    found, note = labelled(
        tmp_path,
        {
            "apneic": (APNEA, scored, "A"),
            "healthy": ((), scored, "A"),
            "aroused": (AROUSAL, nothing, "A"),
            "unscored": ((), nothing, "A"),
            "staged-elsewhere": ((), scored, "B"),
            "aroused-elsewhere": (AROUSAL, scored, "B"),
        },
    )
    assert found == {"apneic": [0, 1, 0, 0], "healthy": [0] * 4, "aroused": [0] * 4}
    assert "12 clips of recordings not scored for respiration" in note


def test_a_known_index_says_that_somebody_looked_or_that_events_are_missing(tmp_path: Path) -> None:
    asleep = ("N2", "N2", "N2", "N2")
    found, note = labelled(
        tmp_path,
        {
            "low": ((), asleep, "A", "0.4"),
            "high": ((), asleep, "A", "120"),
            "none": ((), asleep, "A", ""),
        },
        "site,nsrr_ahi_hp3r_aasm15",
    )
    assert found == {"low": [0] * 4}
    assert "4 clips of recordings without an event, contrary to their apnea-hypopnea index" in note
    assert "4 clips of recordings not scored for respiration" in note


def test_the_user_has_the_last_word(tmp_path: Path) -> None:
    asleep = ("N2", "N2", "N2", "N2")
    found, _ = labelled(
        tmp_path,
        {"yes": ((), asleep, "A", "true"), "no": (APNEA, asleep, "A", "false")},
        "site,respiration_scored",
    )
    assert found == {"yes": [0] * 4}


def test_a_store_without_any_label_says_why(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="not scored for respiration"):
        labelled(tmp_path, {"a": ((), ("N2",) * 4, "A")})


def test_an_event_across_a_border_is_of_the_clip_that_holds_its_middle(tmp_path: Path) -> None:
    """12 s from 53 s on: 7 s in the second clip, 5 s in the third, 10 s in none of them."""
    (tmp_path / "in").mkdir()
    scored = ("W", "N1", "N2", "R")
    write_night(
        tmp_path / "in" / "a.edf",
        seed=1,
        events=((53.0, 12.0, "Obstructive apnea"),),
        stages=scored,
    )
    sleepfm_index.build(tmp_path / "s", [tmp_path / "in"])
    with sleepfm_index.open(tmp_path / "s") as store:
        assert read_labels(store, "sdb").values.tolist() == [0, 0, 0, 0]
        labels = read_labels(store, "sdb_event")
        assert labels.values.tolist() == [0, 1, 0, 0]
        assert "the middle of an apnea or hypopnea of >= 10 s" in labels.note
