"""What is interrupted: each verb that changes a store, on a store where it has work to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stores import WEIGHTS, drawn_segment

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.building.import_vectors import import_vectors
from sleepfm_index.storage import private
from sleepfm_index.storage.labels import append_labels
from sleepfm_index.storage.manifest import read_manifest
from sleepfm_index.storage.writer import Writer


@dataclass(frozen=True)
class Scenario:
    """A store, and a command that can be run again on it whenever it was stopped.

    The command is what ``parts`` do in order; each is one commit, and between two of them it may
    be stopped.
    """

    prepare: Callable[[Path], object]
    parts: tuple[Callable[[Path], object], ...]
    files: bool = False
    """Whether the places of the recordings are part of what it changes."""

    def run(self, path: Path) -> None:
        for part in self.parts:
            part(path)


def _append(path: Path, *names: str) -> None:
    with Writer(path, WEIGHTS, ROBUST) as writer:
        for name in names:
            data = drawn_segment(name, 5, ord(name), lacking=0.2)
            if data.key not in writer.manifest.sources:
                private.remember_file(path, name, Path(f"{name}.edf"))
                writer.append(data)


def _reindex(path: Path) -> None:
    # So few clips would be searched exactly: an index is asked for by name.
    sleepfm_index.reindex(path, index="IVF2,SQ4", recall=0.1)


def _indexed(path: Path) -> None:
    _append(path, "a", "b", "c")
    _reindex(path)


def _with_deleted(path: Path) -> None:
    _indexed(path)
    sleepfm_index.delete(path, where="recording_id = 'b' OR clip_id = 12")


def _with_unindexed(path: Path) -> None:
    _indexed(path)
    _append(path, "d")


def _labelled(path: Path) -> None:
    _with_deleted(path)
    append_labels(path, "mine", [1, 6, 12], "odd", "ak")


def _label(path: Path, value: str) -> None:
    append_labels(path, "mine", [1], value, "ak")


def _delete(path: Path) -> None:
    if not read_manifest(path).withdrawn:
        sleepfm_index.delete(path, recording="b")


def _restore(path: Path) -> None:
    if read_manifest(path).deleted:
        sleepfm_index.restore(path, 4)


def _annotate(path: Path) -> None:
    sleepfm_index.annotate(
        path, {"recording_id": ["a", "c"], "nsrr_age": [50.0, 60.0], "x": [1, 2]}
    )


def _tag(path: Path) -> None:
    if not read_manifest(path).tags:
        sleepfm_index.tag(path, "kept")


def _with_exports(path: Path) -> None:
    _indexed(path)
    for name in "de":
        other = path.parent / f"other-{name}"
        _append(other, name)
        sleepfm_index.export(other, path.parent / f"{name}.parquet")


def _import(path: Path, name: str) -> None:
    import_vectors(path, [path.parent / f"{name}.parquet"])


def _recorded_elsewhere(path: Path) -> None:
    _indexed(path)
    for name in "abc":
        for place in ("old", "new"):
            file = path.parent / place / f"{name}.edf"
            file.parent.mkdir(exist_ok=True)
            file.touch()
        private.remember_file(path, name, path.parent / "old" / f"{name}.edf")


def _move(path: Path) -> None:
    old, new = path.parent / "old", path.parent / "new"
    if any(file.parent == old for file in private.files(path).values()):
        sleepfm_index.move_recordings(path, old, new)


_BUILD = (lambda p: _append(p, "d"), lambda p: _append(p, "e"), _reindex)

SCENARIOS = {
    "append to nothing": Scenario(lambda _: None, _BUILD),
    "append": Scenario(_indexed, _BUILD),
    "delete": Scenario(_indexed, (_delete,)),
    "compact": Scenario(_labelled, (sleepfm_index.compact,)),
    "reindex": Scenario(_with_unindexed, (_reindex,)),
    "restore": Scenario(_with_deleted, (_restore,)),
    "annotate": Scenario(_indexed, (_annotate,)),
    "tag": Scenario(_indexed, (_tag,)),
    "import": Scenario(_with_exports, (lambda p: _import(p, "d"), lambda p: _import(p, "e"))),
    "label": Scenario(_indexed, (lambda p: _label(p, "odd"), lambda p: _label(p, "even"))),
    "move": Scenario(_recorded_elsewhere, (_move,), files=True),
}
