"""One property per kind of thing that scoring files do: headings, times, epochs, marks, words."""

from __future__ import annotations

import datetime
import itertools
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_files import Signal, noise, write_edf

from sleepfm.clips import cut_clips
from sleepfm.contract import ROBUST
from sleepfm.errors import AnnotationError
from sleepfm.labels import clip_stage_shares, clip_stages, scoring_grid
from sleepfm.recordings import read_recording
from sleepfm.recordings.channels import match_channels
from sleepfm.recordings.edf_annotations import _tal
from sleepfm.recordings.scoring.event_words import event_of
from sleepfm.recordings.scoring.headings import heading_of
from sleepfm.recordings.scoring.hypnogram import clip_to_signals, scoring_from_texts
from sleepfm.recordings.scoring.read import read_scoring
from sleepfm.recordings.scoring.stage_words import stage_of
from sleepfm.recordings.scoring.vocabulary import (
    STAGES,
    Annotation,
    Event,
    ScoredStage,
    Scoring,
)

quick = settings(deadline=None, max_examples=50)
STAGE = st.sampled_from(["W", "N1", "N2", "N3", "R"])
NIGHT = st.lists(STAGE, min_size=20, max_size=60)
START = 22 * 3600.0

ONSETS = [
    "onset", "Onset (s)", "START", "Start_Sec", "Begin [s]", "StartTime", "Event Onset",
    "start time (seconds)", "Recording onset", "Beginn (s)", "Début", "Inizio", "Inicio (s)",
]  # fmt: skip
DURATIONS = ["duration", "Duration(seconds)", "Duration[s]", "dur", "Length (s)", "Dauer", "Durée"]
ENDS = ["stop", "End", "EndTime", "stop_s", "Ende", "end (s)"]
LABELS = ["stage", "Sleep_Stage", "StageName", "event", "Description", "trial_type", "Ereignis"]
CLOCKS = ["Time", "StartTime", "Time [hh:mm:ss]", "Start Time", "time of day", "Uhrzeit", "Heure"]


def scored(text: str, name: str = "n.csv", **known) -> Scoring:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_scoring(path, known.pop("clock", START), [], known.pop("coding", None), **known)


def brief(scoring: Scoring) -> list[tuple[float, float, str]]:
    return [(round(s.onset_s, 3), round(s.duration_s, 3), s.stage) for s in scoring.stages]


def clock_of(seconds: float, half: bool) -> str:
    moment = datetime.datetime(2021, 2, 3) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%I:%M:%S %p" if half else "%H:%M:%S")


@quick
@given(
    night=NIGHT,
    onset=st.sampled_from(ONSETS),
    second=st.sampled_from([*DURATIONS, *ENDS]),
    label=st.sampled_from(LABELS),
    order=st.permutations(range(3)),
    delimiter=st.sampled_from(",;\t"),
    comma=st.booleans(),
    late=st.integers(0, 40),
)
def test_headings_in_any_words_order_and_delimiter(
    night, onset, second, label, order, delimiter, comma, late
) -> None:
    def number(value: float) -> str:
        text = f"{value:.1f}"
        return text.replace(".", ",") if comma and delimiter != "," else text

    ends = second in ENDS
    rows = [[onset, second, label]]
    for i, stage in enumerate(night, late):
        rows.append([number(30 * i), number(30 * i + 30 if ends else 30), stage])
    text = "\n".join(delimiter.join(row[k] for k in order) for row in rows)
    found = scored(text, duration_s=7200.0)
    assert brief(found) == [(30.0 * i, 30.0, s) for i, s in enumerate(night, late)]


@quick
@given(
    night=NIGHT,
    heading=st.sampled_from(CLOCKS),
    half=st.booleans(),
    late=st.integers(0, 8 * 120),
    start=st.integers(0, 86399),
)
def test_times_of_day_lie_where_the_clock_says(night, heading, half, late, start) -> None:
    lines = [f"{heading};Event"]
    times = [start + 30 * (late + i) for i in range(len(night))]
    lines += [f"{clock_of(t, half)};Sleep stage {s}" for t, s in zip(times, night, strict=True)]
    try:
        found = scored("\n".join(lines), clock=float(start), duration_s=9.0 * 3600)
    except AnnotationError as error:  # a night from midnight that could also be time elapsed
        assert "fit both" in str(error)
        return
    assert brief(found)[0][0] in (30.0 * late, times[0] % 86400)
    if times[0] % 86400 > 60:
        assert [s[0] for s in brief(found)] == [30.0 * (late + i) for i in range(len(night))]


@quick
@given(
    night=NIGHT,
    nights=st.integers(0, 2),
    order=st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y"]),
)
def test_a_date_places_the_second_night_of_a_long_recording(night, nights, order) -> None:
    first = datetime.datetime(2021, 11, 28, 20, 0)
    rows = ["Date,Time,Stage"]
    for i, stage in enumerate(night):
        at = first + datetime.timedelta(days=nights, hours=3, seconds=30 * i)
        rows.append(f"{at.strftime(order)},{at.strftime('%H:%M:%S')},{stage}")
    found = scored(
        "\n".join(rows), clock=20 * 3600.0, start_day=first.toordinal(), duration_s=70 * 3600.0
    )
    assert found.stages[0].onset_s == nights * 86400 + 3 * 3600
    assert len(found.stages) == len(night)


def test_a_night_without_a_date_in_a_recording_of_days_is_refused() -> None:
    rows = ["Time,Stage", *(f"{clock_of(23 * 3600 + 30 * i, False)},N2" for i in range(20))]
    with pytest.raises(AnnotationError, match="fit several days"):
        scored("\n".join(rows), clock=20 * 3600.0, duration_s=60 * 3600.0)
    # in 27 h from 20:00 it can only be the first
    found = scored("\n".join(rows), clock=20 * 3600.0, duration_s=26.5 * 3600.0)
    assert found.stages[0].onset_s == 3 * 3600


@quick
@given(night=NIGHT)
def test_time_elapsed_is_not_time_of_day(night) -> None:
    rows = ["Time,Stage", *(f"{clock_of(30 * i, False)},{s}" for i, s in enumerate(night))]
    length = 30.0 * len(night)
    found = scored("\n".join(rows), clock=14 * 3600.0, duration_s=length)
    assert brief(found) == [(30.0 * i, 30.0, s) for i, s in enumerate(night)]


@quick
@given(
    night=NIGHT, first=st.integers(0, 200), holes=st.sets(st.integers(0, 59), max_size=5),
    heading=st.sampled_from(["Epoch", "epoch number", "EPOCH_NO", "Epoche"]),
)  # fmt: skip
def test_epoch_numbers_may_start_late_and_have_holes(night, first, holes, heading) -> None:
    kept = [(first + i, s) for i, s in enumerate(night) if i not in holes]
    text = "\n".join([f"{heading},Stage", *(f"{n},{s}" for n, s in kept)])
    zero = 0 if kept[0][0] == 0 else 1
    last = kept[-1][0] - zero + 1
    found = scored(text, duration_s=30.0 * last)
    assert brief(found) == [(30.0 * (n - zero), 30.0, s) for n, s in kept]


@quick
@given(
    epoch=st.sampled_from([1, 5, 10, 15, 20, 30]), rows=st.integers(300, 2000),
    rest=st.floats(0, 0.9),
)  # fmt: skip
def test_rows_against_the_signals_give_the_length_of_an_epoch(epoch, rows, rest) -> None:
    text = "\n".join((["W", "N1", "N2", "N3", "R"] * rows)[:rows])
    found = scored(text, "n.txt", duration_s=epoch * (rows + rest))
    assert {s.duration_s for s in found.stages} == {float(epoch)}
    assert scored(text, "n.txt", duration_s=1e5, epoch_s=7.0).stages[1].onset_s == 7


@quick
@given(rows=st.integers(300, 900), factor=st.sampled_from([0.2, 0.45, 0.75, 1.4, 2.3]))
def test_rows_that_fit_no_length_are_refused(rows, factor) -> None:
    text = "\n".join((["W", "N2"] * rows)[:rows])
    with pytest.raises(AnnotationError, match="--epoch-seconds"):
        scored(text, "n.txt", duration_s=30.0 * rows * factor + 11)


REMARKS = ["Artifact", "Movement", "Unknown", "awake", "REM", "Lights off", "note", "Arousal"]


@quick
@given(
    night=NIGHT,
    remarks=st.lists(
        st.tuples(st.floats(1, 600), st.sampled_from(REMARKS)), max_size=12
    ),
    lengths=st.booleans(),
)  # fmt: skip
def test_remarks_strewn_in_never_become_end_or_hide_a_stage(night, remarks, lengths) -> None:
    stages = [
        Annotation(30.0 * i, 30.0 if lengths else None, f"Sleep stage {s}")
        for i, s in enumerate(night)
    ]
    strewn = [Annotation(t, None, text) for t, text in remarks]
    found = scoring_from_texts([*stages, *strewn], [], markers=True)
    if lengths or any(a == b for a, b in itertools.pairwise(night)):
        assert brief(found) == [(30.0 * i, 30.0, s) for i, s in enumerate(night)]
    else:
        assert [s[2] for s in brief(found)] == night
    arousals = sum(text == "Arousal" for _, text in remarks)
    assert len(found.events) == arousals
    assert sum(found.dropped.values()) == len(remarks) - arousals


@quick
@given(remarks=st.lists(st.tuples(st.floats(0, 600), st.sampled_from(REMARKS[:5])), max_size=3))
def test_remarks_alone_are_no_hypnogram(remarks) -> None:
    notes = [Annotation(round(t, 2) + 0.37, None, text) for t, text in remarks]
    found = scoring_from_texts(notes, [], markers=True)
    assert not found.stages
    assert sum(found.dropped.values()) == len(remarks)


@quick
@given(
    night=NIGHT,
    others=st.lists(
        st.tuples(st.integers(0, 19), STAGE), max_size=6, unique_by=lambda pair: pair[0]
    ),
)
def test_two_stages_for_one_epoch_are_never_settled_in_silence(night, others) -> None:
    notes = [Annotation(30.0 * i, 30.0, f"Sleep stage {s}") for i, s in enumerate(night)]
    notes += [Annotation(30.0 * i, 30.0, f"Sleep stage {s}") for i, s in others]
    warnings: list[str] = []
    found = scoring_from_texts(notes, warnings)
    contradicted = {i for i, s in others if s != night[i]}
    wanted = [(30.0 * i, 30.0, s) for i, s in enumerate(night) if i not in contradicted]
    assert brief(found) == wanted
    assert found.dropped.get("overlapping", 0) == 2 * len(contradicted)
    assert bool(warnings) == bool(contradicted)


@quick
@given(night=NIGHT, moves=st.lists(st.tuples(st.floats(0, 590), st.floats(1, 20)), max_size=5))
def test_movement_with_a_length_is_no_stage_while_the_epoch_has_one(night, moves) -> None:
    notes = [Annotation(30.0 * i, 30.0, f"Sleep stage {s}") for i, s in enumerate(night)]
    notes += [Annotation(onset, length, "Movement") for onset, length in moves]
    notes = [n for n in notes if n.onset_s + (n.duration_s or 0) <= 30 * len(night)]
    found = scoring_from_texts(notes, [])
    assert brief(found) == [(30.0 * i, 30.0, s) for i, s in enumerate(night)]


CAUSES = ["apnea", "Hypopnea", "desaturation", "PLM", "spontaneous", "respiratory event", "Snore"]
KINDS = {
    "Obstructive apnea": ("apnea", "obstructive"), "CentralApnea": ("apnea", "central"),
    "A. Mixed": ("apnea", "mixed"), "Zentrale Apnoe": ("apnea", "central"),
    "Apnée mixte": ("apnea", "mixed"), "Apnea ostruttiva": ("apnea", "obstructive"),
    "Hypopnoe": ("hypopnea", ""), "HYP-C": ("hypopnea", "central"), "Hipopnea": ("hypopnea", ""),
    "H. Obstructive": ("hypopnea", "obstructive"), "SRO: Hypopnea": ("hypopnea", ""),
    "SpO2 desaturation": ("desaturation", ""), "RERA": ("rera", ""),
}  # fmt: skip


@quick
@given(
    cause=st.sampled_from(CAUSES),
    form=st.sampled_from(
        ["Arousal ({})", "AROUSAL-{}", "{} Arousal", "Arousal - {}", "{}_arousal"]
    ),
)
def test_an_arousal_by_any_cause_is_an_arousal(cause: str, form: str) -> None:
    found = event_of(form.format(cause))
    assert found is not None and found[0] == "arousal"


@quick
@given(
    kind=st.sampled_from(sorted(KINDS)),
    form=st.sampled_from(
        ["{}", "{} (left)", "{}|{}", "{} with arousal", "{} + desaturation", "{}@@Flow"]
    ),
)
def test_an_event_is_what_its_head_says(kind: str, form: str) -> None:
    assert event_of(form.format(kind, kind)) == KINDS[kind]


@quick
@given(
    kind=st.sampled_from([*KINDS, "Arousal"]),
    form=st.sampled_from(["{} artifact", "{} (artefact)", "No {}", "{} excluded"]),
)
def test_what_negates_an_event_leaves_none(kind: str, form: str) -> None:
    assert event_of(form.format(kind)) is None


@quick
@given(
    stage=st.sampled_from(["W", "1", "2", "3", "4", "R", "N1", "N2", "N3", "REM"]),
    form=st.sampled_from(
        ["Sleep stage {}", "SLEEP-S{}", "Stage {}", "Stage NREM{}", "N{} sleep", "NREM {}"]
    ),
)
def test_stages_in_words(stage: str, form: str) -> None:
    named = {"W": "W", "R": "R", "REM": "R", "1": "N1", "2": "N2", "3": "N3", "4": "N3"}
    if not stage.isdigit() and ("S{}" in form or "NREM" in form or form.startswith("N{}")):
        return
    assert stage_of(form.format(stage)) == named.get(stage, stage)


@quick
@given(
    onset=st.floats(0, 99999), length=st.one_of(st.none(), st.floats(0, 9999)),
    sign=st.sampled_from(["+", ""]), style=st.sampled_from(["{:f}", "{!r}", "{:.17g}", "{:e}"]),
    comma=st.booleans(),
)  # fmt: skip
def test_numbers_of_time_stamps_in_any_form(onset, length, sign, style, comma) -> None:
    def written(value: float) -> str:
        text = style.format(value)
        return text.replace(".", ",") if comma else text

    tail = "" if length is None else "\x15" + written(length)
    piece = f"{sign}{written(onset)}{tail}\x14Sleep stage W\x14".encode()
    found = _tal(piece)
    assert found is not None
    assert found[0] == pytest.approx(onset, rel=1e-5, abs=1e-5)
    assert (found[1] is None) == (length is None)
    assert found[2][0] == b"Sleep stage W"
    assert _tal(piece.replace(b"\x14", b"", 2)) is None  # counted as unreadable by its caller


@quick
@given(
    offset=st.floats(0, 29.9), length=st.sampled_from([5.0, 10.0, 15.0, 30.0]),
    night=NIGHT,
)  # fmt: skip
def test_clips_start_at_the_grid_and_their_stage_covers_them(offset, length, night) -> None:
    stages = [ScoredStage(offset + length * i, length, s, s) for i, s in enumerate(night)]
    grid = scoring_grid(stages, 30.0)
    assert abs((offset - grid + length / 2) % length - length / 2) < 0.1
    count = int((offset + length * len(night)) // 30) + 1
    shares = clip_stage_shares(stages, count, 30.0, grid)
    named, _ = clip_stages(stages, count, 30.0, grid)
    if length == 30.0:
        inside = [s for s in named if s != "UNS"]
        assert inside == night[: len(inside)] and np.all(shares > 0.99)
    for i, (stage, share) in enumerate(zip(named, shares, strict=True)):
        a, b = grid + 30 * i, grid + 30 * i + 30
        covered: Counter[str] = Counter()
        for s in stages:
            covered[s.stage] += max(0.0, min(b, s.onset_s + s.duration_s) - max(a, s.onset_s))
        covered["UNS"] += 30 - sum(covered.values())
        assert covered[stage] == pytest.approx(max(covered.values()), abs=1e-3)
        assert share == pytest.approx(covered[stage] / 30, abs=1e-3)


def test_clips_of_a_recording_begin_with_the_scorers_epochs(tmp_path: Path) -> None:
    values = noise(152, 100)
    notes = [(12.5 + 30 * i, 30, f"Sleep stage {s}") for i, s in enumerate(["W", "1", "2", "R"])]
    path = write_edf(tmp_path / "n.edf", {"ECG": Signal(values, 100)}, annotations=notes)
    recording = read_recording(path)
    channels = match_channels(recording, ROBUST)
    clips = cut_clips(recording, channels, ROBUST)
    np.testing.assert_array_equal(clips.start_s, [12.5, 42.5, 72.5, 102.5])
    assert clips.stage == ("W", "N1", "N2", "R")
    whole = cut_clips(recording, channels, ROBUST, grid="recording")
    assert len(whole) == 5 and whole.start_s[0] == 0
    np.testing.assert_array_equal(
        clips.signals["ecg"][0], np.concatenate(whole.signals["ecg"][:2], axis=-1)[:, 3200:10880]
    )
    assert whole.stage_share is not None and whole.stage_share[1] == pytest.approx(17.5 / 30)


@quick
@given(
    stages=st.lists(st.tuples(st.floats(-90, 900), st.floats(0.1, 90)), max_size=20),
    events=st.lists(st.tuples(st.floats(-90, 900), st.floats(0, 90)), max_size=20),
)
def test_what_lies_outside_the_signals_is_counted(stages, events) -> None:
    scoring = Scoring(
        tuple(ScoredStage(a, d, "W", "W") for a, d in sorted(stages)),
        tuple(Event(a, d, "apnea") for a, d in sorted(events)),
    )
    kept = clip_to_signals(scoring, 600.0, [])
    lost = len(stages) + len(events) - len(kept.stages) - len(kept.events)
    assert kept.dropped.get("outside the signals", 0) == lost
    assert all(s.onset_s >= 0 and s.onset_s + s.duration_s <= 600.0001 for s in kept.stages)


@quick
@given(st.text(max_size=30))
def test_any_heading_has_a_role(text: str) -> None:
    assert heading_of(text).role
    assert stage_of(text) in (None, *STAGES)


@pytest.mark.parametrize(
    "heading", ["Latency", "Seconds", "offset from lights", "T", "Zeitpunkt s"]
)
def test_a_column_that_may_carry_time_is_refused_with_its_heading(heading: str) -> None:
    rows = "\n".join(f"{i * 30},{s}" for i, s in enumerate(["W", "N1", "N2", "N2"]))
    with pytest.raises(AnnotationError, match=f"column '{heading}'"):
        scored(f"{heading},Stage\n{rows}", duration_s=120.0)


def test_samples_after_a_gap_are_placed_once_per_run(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "n.edf", {"SpO2": Signal(np.arange(20.0), 1)}, [(0, 1, "x" * 40)])
    data = bytearray(path.read_bytes())
    record = (len(data) - 768) // 20
    data[192:197] = b"EDF+D"
    for i in range(20):
        at = 768 + i * record + 2
        stamp = f"{i + (95.5 if i >= 10 else 0):+g}\x14\x14\x00".encode()
        data[at : 768 + (i + 1) * record] = stamp.ljust(record - 2, b"\x00")[: record - 2]
    path.write_bytes(data)
    values = read_recording(path).channels[0].read()
    np.testing.assert_allclose(values[:10], np.arange(10), atol=0.06)
    np.testing.assert_allclose(values[np.isfinite(values)], np.arange(20), atol=0.06)
    assert len(values) in (115, 116)


@quick
@given(slip=st.floats(0.002, 0.019), count=st.integers(1, 3))
def test_records_that_overlap_by_milliseconds_are_read_with_a_warning(slip, count) -> None:
    from sleepfm.recordings.edf_annotations import record_times
    from sleepfm.recordings.edf_header import check

    with tempfile.TemporaryDirectory() as folder:
        file = check(write_edf(Path(folder) / "n.edf", {"ECG": Signal(noise(8, 10), 10)}), [])
        onsets = [float(i) - slip * (i > count) for i in range(8)]
        warnings: list[str] = []
        places = record_times(file, onsets, warnings)
    np.testing.assert_allclose(places, np.arange(8.0))
    assert "overlap the one before" in warnings[0]
