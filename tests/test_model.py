"""A store against a plain model of it, through random histories of every verb."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from stores import TARGETS, WEIGHTS, drawn_segment, target_parts

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.building.exported_clips import read_export
from sleepfm_index.building.import_vectors import import_vectors
from sleepfm_index.errors import QueryError
from sleepfm_index.storage.manifest import read_manifest
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.withdrawals import subject_mark
from sleepfm_index.storage.writer import Writer


def import_key(file: Path) -> str:
    """Content key under which an export's only recording is stored."""
    ((_, data),) = read_export(file, ROBUST.modalities)
    return data.key


class Clip:
    """What the model knows of a clip: whose it is, its stage and its stored vectors."""

    def __init__(self, recording: str, stage: str, vectors: dict[str, np.ndarray]) -> None:
        self.recording = recording
        self.stage = stage
        self.vectors = vectors

    def target(self, name: str) -> np.ndarray | None:
        """Its vector of a target in float64, or None."""
        there = [self.vectors[m] for m in target_parts(name) if self.vectors[m].any()]
        return np.mean([v.astype(np.float64) for v in there], axis=0) if there else None


@dataclass(frozen=True)
class State:
    """What the model knows at one snapshot."""

    clips: dict[int, Clip]
    facts: dict[str, int]
    withdrawn: frozenset[str]


NIGHTS = ("w0", "w1")
"""Recordings that come as exports, again and again."""


class Model(RuleBasedStateMachine):
    """The store is on the disk; the model is a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "s"
        with Writer(self.path, WEIGHTS, ROBUST):
            pass
        self.clips: dict[int, Clip] = {}
        self.given = 0
        self.recordings = 0
        self.facts: dict[str, int] = {}
        self.withdrawn: frozenset[str] = frozenset()
        self.tags: dict[str, State] = {}
        self.exports = {}
        for seed, name in enumerate(NIGHTS):
            data = drawn_segment(name, 4, 1000 + seed)
            with Writer(self.folder / name, WEIGHTS, ROBUST) as writer:
                writer.append(data)
            file = self.folder / f"{name}.parquet"
            sleepfm_index.export(self.folder / name, file)
            self.exports[name] = (file, data)
        self.earlier: dict[int, State] = {}
        self.store = sleepfm_index.open(self.path)

    def teardown(self) -> None:
        self.store.close()
        assert sleepfm_index.verify(self.path).ok
        shutil.rmtree(self.folder)

    def committed(self) -> None:
        now = State(dict(self.clips), dict(self.facts), self.withdrawn)
        self.earlier[read_manifest(self.path).snapshot] = now
        self.store.close()
        self.store = sleepfm_index.open(self.path)

    @rule(n=st.integers(1, 8), lacking=st.sampled_from([0.0, 0.5, 1.0]))
    def append(self, n: int, lacking: float) -> None:
        name = f"r{self.recordings}"
        self.recordings += 1
        data = drawn_segment(name, n, self.recordings, lacking=lacking)
        with Writer(self.path, WEIGHTS, ROBUST) as writer:
            writer.append(data)
        self.add(name, data)

    def add(self, name: str, data: SegmentData) -> None:
        n = data.clips.num_rows
        for row in range(n):
            vectors = {m: data.vectors[m][row] for m in ROBUST.modalities}
            stage = data.clips["stage"][row].as_py()
            self.clips[self.given + row] = Clip(name, stage, vectors)
        self.given += n
        self.committed()

    @rule(data=st.data())
    @precondition(lambda self: self.clips)
    def delete_recording(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted({c.recording for c in self.clips.values()})))
        self.delete({i for i, c in self.clips.items() if c.recording == name}, recording=name)

    @rule(data=st.data())
    @precondition(lambda self: self.clips)
    def delete_subject(self, data: Any) -> None:
        name = data.draw(st.sampled_from(sorted({c.recording for c in self.clips.values()})))
        self.withdrawn |= {name}
        gone = {i for i, c in self.clips.items() if c.recording == name}
        self.delete(gone, subject=f"subject-{name}")

    @rule(name=st.sampled_from(NIGHTS), readmit=st.booleans())
    def import_night(self, name: str, readmit: bool) -> None:
        file, data = self.exports[name]
        there = any(c.recording == name for c in self.clips.values())
        gone = self.is_withdrawn(name)
        if readmit and gone and self.lies_among_others(name):
            return
        (row,) = import_vectors(self.path, [file], readmit=readmit).to_pylist()
        left_out = gone and not readmit
        expected = "already there" if there else "left out" if left_out else "added"
        assert row["outcome"] == expected
        if expected == "added":
            self.withdrawn -= {name}
            self.facts.pop(name, None)
            self.add(name, data)
        else:
            self.committed()

    def is_withdrawn(self, name: str) -> bool:
        manifest = read_manifest(self.path)
        key = import_key(self.folder / f"{name}.parquet")
        return key in manifest.withdrawn or name in self.withdrawn

    def lies_among_others(self, name: str) -> bool:
        key = import_key(self.folder / f"{name}.parquet")
        segments = read_manifest(self.path).segments
        return any(key in s.sources and len(s.sources) > 1 for s in segments)

    @rule(data=st.data(), value=st.integers(0, 9))
    @precondition(lambda self: self.clips)
    def annotate(self, data: Any, value: int) -> None:
        name = data.draw(st.sampled_from(sorted({c.recording for c in self.clips.values()})))
        sleepfm_index.annotate(self.path, {"recording_id": [name], "x": [value]})
        self.facts[name] = value
        self.committed()

    @rule(name=st.sampled_from("ab"))
    def tag(self, name: str) -> None:
        if name in self.tags:
            sleepfm_index.untag(self.path, name)
        sleepfm_index.tag(self.path, name)
        self.tags[name] = State(dict(self.clips), dict(self.facts), self.withdrawn)
        self.committed()

    @rule(name=st.sampled_from("ab"))
    def restore_tag(self, name: str) -> None:
        if name in self.tags:
            sleepfm_index.restore(self.path, name)
            self.back_to(self.tags[name])

    def back_to(self, state: State) -> None:
        self.clips, self.facts = dict(state.clips), dict(state.facts)
        self.withdrawn = state.withdrawn
        self.committed()

    @rule(by=st.integers(2, 5))
    def delete_where(self, by: int) -> None:
        gone = {i for i, c in self.clips.items() if i % by == 0 and c.stage == "N2"}
        self.delete(gone, where=f"clip_id % {by} = 0 AND stage = 'N2'")

    def delete(self, gone: set[int], **what: str) -> None:
        if not gone:
            with pytest.raises(QueryError):
                sleepfm_index.delete(self.path, **what)  # type: ignore[arg-type]
            return
        assert sleepfm_index.delete(self.path, **what).clips == len(gone)  # type: ignore[arg-type]
        self.clips = {i: c for i, c in self.clips.items() if i not in gone}
        self.committed()

    @rule(keep=st.integers(0, 2), size=st.sampled_from([6, 20, 1000]))
    def compact(self, keep: int, size: int) -> None:
        from sleepfm_index.lifecycle.compact import compact

        compact(self.path, keep_snapshots=keep, segment_clips=size)
        self.committed()

    @rule()
    def reindex(self) -> None:
        sleepfm_index.reindex(self.path)
        self.committed()

    @rule(data=st.data())
    def restore(self, data: Any) -> None:
        found = [s for s in sleepfm_index.snapshots(self.path) if not s.current and not s.missing]
        known = [s.number for s in found if s.number in self.earlier]
        if known:
            number = data.draw(st.sampled_from(known))
            sleepfm_index.restore(self.path, number)
            self.back_to(self.earlier[number])

    @rule(wanted=st.sampled_from(TARGETS), k=st.integers(1, 12), seed=st.integers(0, 99))
    def search(self, wanted: str, k: int, seed: int) -> None:
        query = np.random.default_rng(seed).standard_normal(512).astype(np.float32)
        vectors = {i: c.target(wanted) for i, c in self.clips.items()}
        ids = np.array([i for i, v in vectors.items() if v is not None], np.int64)
        scores = np.array([v @ query for v in vectors.values() if v is not None])
        best = np.lexsort((ids, -scores))[:k]
        ((found, given),) = self.store.search(wanted, query[None], k)
        np.testing.assert_array_equal(found, ids[best])
        np.testing.assert_allclose(given, scores[best], rtol=0, atol=1e-5)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert len(self.store) == len(self.clips)
        rows = self.store.sql("SELECT clip_id, recording_id AS r, stage FROM clips ORDER BY 1")
        expected = [(i, c.recording, c.stage) for i, c in sorted(self.clips.items())]
        assert [tuple(row.values()) for row in rows.to_pylist()] == expected
        names = self.store.sql("SELECT recording_id AS r FROM recordings").to_pylist()
        assert {row["r"] for row in names} == {c.recording for c in self.clips.values()}
        if "x" in self.store.clip_schema.names:
            facts = self.store.sql("SELECT DISTINCT recording_id AS r, x FROM clips").to_pylist()
            present = {c.recording for c in self.clips.values()}
            assert {row["r"]: row["x"] for row in facts} == {n: self.facts.get(n) for n in present}
        marks = {subject_mark(self.store.manifest.uuid, f"subject-{n}") for n in self.withdrawn}
        assert marks <= set(self.store.manifest.withdrawals)
        ids = np.array(sorted(self.clips), np.int64)
        for modality in ROBUST.modalities:
            stored, _ = self.store.vectors.of(ids, str(modality))
            for at, clip in enumerate(ids):
                kept = self.clips[int(clip)].vectors[modality]
                np.testing.assert_array_equal(stored[at], kept)


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=8, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
