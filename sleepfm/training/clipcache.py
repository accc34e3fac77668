"""Clips prepared once and memory-mapped, so that an epoch reads no recording again.

Each recording is one folder, named by the hash of (the content of its files, contract, choice of
channels), that holds one ``.npy`` a modality and ``clips.json``; it appears whole or not at all.
Two people's ``night1.edf`` are two recordings, whatever their sizes and times. The cache holds
whole nights, so it is its owner's alone (0700).
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.atomic_write import write_bytes
from sleepfm.cohort_choices import NO_CHOICES, Choices
from sleepfm.contract import Contract
from sleepfm.errors import OutputError, RecordingError, SleepFMError, TrainingError
from sleepfm.progress import Progress
from sleepfm.recordings import RecordingFile, find_recordings
from sleepfm.recordings.beside import find_annotations

_VERSION: Final = 2


@dataclass(frozen=True)
class CachedRecording:
    """The clips of one recording.

    Parameters
    ----------
    recording_id : str
        The stem of its file.
    count : int
        How many clips.
    stage : tuple of str
        Of each clip.
    present : dict of str to ndarray of bool, shape [count]
        Which clips have which modality.
    signals : dict of str to memory-mapped ndarray, shape [count, slots, samples]
        Of :func:`stored_dtype`.
    """

    recording_id: str
    count: int
    stage: tuple[str, ...]
    present: dict[str, NDArray[np.bool_]]
    signals: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Prepared:
    """The recordings of a training set, and those that could not be used, with the reason."""

    recordings: tuple[CachedRecording, ...]
    left_out: tuple[tuple[str, str], ...]


def prepare_clips(
    paths: Sequence[str | Path],
    folder: Path,
    contract: Contract,
    *,
    choices: Choices = NO_CHOICES,
    progress: Progress | None = None,
) -> Prepared:
    """Cut all recordings under ``paths`` into clips, unless the cache has them already.

    Parameters
    ----------
    paths : sequence of str or Path
        Recordings, folders, globs or cohort lists.
    folder : Path
        Folder of the cache.
    contract : Contract
        Preparation of the clips.
    choices : Choices
        Options for reading the recordings.
    progress : Progress, optional
        Called with (done, total) after every recording.

    Raises
    ------
    TrainingError
        If the cache cannot be written, or no recording gives a clip.
    """
    found = find_recordings(paths)
    left_out = [(x.path.name, x.reason) for x in found.left_out]
    recordings = []
    digests = _Digests(Path(folder))
    for done, file in enumerate(found.recordings, start=1):
        try:
            recordings.append(_cached(file, folder, contract, choices, digests))
        except SleepFMError as error:
            if isinstance(error, TrainingError):
                raise
            left_out.append((file.path.name, str(error)))
        if progress is not None:
            progress(done, len(found.recordings))
    digests.save()
    if not recordings:
        why = f"; {left_out[0][0]}: {left_out[0][1]}" if left_out else ""
        raise TrainingError(f"no recording gives clips to train on{why}")
    return Prepared(tuple(recordings), tuple(left_out))


def stored_dtype(contract: Contract) -> type[np.floating[Any]]:
    """Return float16 where the contract scales (values are within +-20 then), else float32.

    Parameters
    ----------
    contract : Contract
    """
    return np.float16 if contract.scaling == "robust" else np.float32


def _cached(
    file: RecordingFile, folder: Path, contract: Contract, choices: Choices, digests: _Digests
) -> CachedRecording:
    place = folder / _key(file, contract, choices, digests)
    if not (place / "clips.json").is_file():
        _prepare(file, place, contract, choices)
    about = json.loads((place / "clips.json").read_text())
    present = {
        m: np.array(about["present"][m], bool) for m in contract.modalities if m in about["present"]
    }
    return CachedRecording(
        recording_id=file.stem,
        count=about["count"],
        stage=tuple(about["stage"]),
        present=present,
        signals={m: np.load(place / f"{m}.npy", mmap_mode="r") for m in present},
    )


def _key(file: RecordingFile, contract: Contract, choices: Choices, digests: _Digests) -> str:
    parts = [str(_VERSION), contract.sha256, *choices.identity]
    stem = file.path.name.partition(".")[0]
    beside = sorted(p for p in file.path.parent.glob(f"{glob.escape(stem)}*") if p.is_file())
    try:
        for source in {
            *beside,
            *find_annotations(file.path),
            file.path,
            *([file.annotations] if file.annotations else []),
        }:
            # Scoring is found by its name, so the ending counts; the rest of the name does not.
            parts.append(f"{source.name.removeprefix(stem)}/{digests.of(source)}")
    except OSError as error:
        raise RecordingError(f"{file.path.name} cannot be read: {error.strerror}") from error
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:32]


class _Digests:
    """Hashes of files, kept in the cache so that a file is read again only where it changed.

    A file is the one that was hashed if its path, device, inode, size and both times are the same:
    the time of change is the system's own, which no archive or copy can set.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "digests.json"
        self._known: dict[str, str] = {}
        self._fresh = False
        try:
            plain = json.loads(self._path.read_bytes())
            self._known = {str(k): str(v) for k, v in plain.items()}
        except (OSError, ValueError, AttributeError):
            pass  # it is hashed again

    def of(self, path: Path) -> str:
        """Return the SHA-256 of a file's content."""
        stat = path.stat()
        seen = (
            f"{path.absolute()}|{stat.st_dev}|{stat.st_ino}|{stat.st_size}|{stat.st_mtime_ns}"
            f"|{stat.st_ctime_ns}"
        )
        if seen not in self._known:
            with path.open("rb") as file:
                self._known[seen] = hashlib.file_digest(file, "sha256").hexdigest()
            self._fresh = True
        return self._known[seen]

    def save(self) -> None:
        """Save the digests, so that files need not be hashed again."""
        if self._fresh:
            with contextlib.suppress(OutputError):
                write_bytes(self._path, json.dumps(self._known).encode())


def _prepare(file: RecordingFile, place: Path, contract: Contract, choices: Choices) -> None:
    _, clips = choices.cut(choices.read(file.path, file.annotations), contract)
    kind = stored_dtype(contract)
    about = {
        "count": len(clips),
        "stage": clips.stage,
        "present": {m: (bits != 0).tolist() for m, bits in clips.filled.items()},
    }
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.parent.chmod(0o700)
        with tempfile.TemporaryDirectory(dir=place.parent, ignore_cleanup_errors=True) as made:
            whole = Path(made) / "clips"
            whole.mkdir()
            for modality, signals in clips.signals.items():
                np.save(whole / f"{modality}.npy", signals.astype(kind))
            (whole / "clips.json").write_text(json.dumps(about))
            if place.exists():  # left by a crash, without its clips.json
                shutil.rmtree(place)
            whole.rename(place)
    except OSError as error:
        raise TrainingError(
            f"the clip cache cannot be written: {error.strerror}; free space, or choose another "
            "folder with --cache"
        ) from error
