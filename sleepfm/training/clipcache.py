"""Cache of prepared clips, memory-mapped, so that no epoch reads a recording again.

Each recording has one folder, named by a hash of the content of its files, the contract and the
choice of channels, with one ``.npy`` file per modality and ``clips.json``; the folder is created
atomically. The ``night1.edf`` of two people are two recordings, even if sizes and times agree. The
cache contains whole nights, so only its owner may read it (mode 0700).
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
from sleepfm.recordings.find import refuse_shared_ids
from sleepfm.recordings.find_scoring import find_annotations

_VERSION: Final = 2


@dataclass(frozen=True)
class CachedRecording:
    """The clips of one recording.

    Parameters
    ----------
    recording_id : str
        Identifier of the recording, the stem of its file name.
    count : int
        Number of clips.
    stage : tuple of str, length count
        Sleep stage of each clip.
    present : dict of str to ndarray of bool, shape [count]
        By modality, whether each clip has it.
    signals : dict of str to memory-mapped ndarray, shape [count, slots, samples]
        Prepared signals by modality, in the dtype of :func:`stored_dtype`.
    """

    recording_id: str
    count: int
    stage: tuple[str, ...]
    present: dict[str, NDArray[np.bool_]]
    signals: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Prepared:
    """The prepared recordings, and those that could not be used.

    Parameters
    ----------
    recordings : tuple of CachedRecording
        The recordings that have clips.
    left_out : tuple of (str, str)
        File name and reason of each recording that could not be used.
    """

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
    """Cut recordings into clips and cache them; recordings already in the cache are not read.

    Parameters
    ----------
    paths : sequence of str or Path
        Recordings, folders, globs or cohort lists.
    folder : Path
        Folder of the cache.
    contract : Contract
        The contract by which clips are prepared.
    choices : Choices
        Options for reading the recordings.
    progress : Progress, optional
        Called with (recordings done, recordings) after every recording.

    Returns
    -------
    Prepared
        The prepared recordings and those left out.

    Raises
    ------
    TrainingError
        If the cache cannot be written, or no recording gives a clip.
    RecordingError
        If two recordings have the same id.
    """
    found = find_recordings(paths)
    refuse_shared_ids(found.recordings)
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
    """Return the dtype of cached signals: float16 for robust scaling, otherwise float32.

    Robust scaling clips values to +-20, well within the range and precision of float16.

    Parameters
    ----------
    contract : Contract
        The contract by which clips are prepared.
    """
    return np.float16 if contract.scaling == "robust" else np.float32


def _cached(
    file: RecordingFile, folder: Path, contract: Contract, choices: Choices, digests: _Digests
) -> CachedRecording:
    recording_folder = folder / _key(file, contract, choices, digests)
    if not (recording_folder / "clips.json").is_file():
        _prepare(file, recording_folder, contract, choices)
    metadata = json.loads((recording_folder / "clips.json").read_text())
    present = {
        m: np.array(metadata["present"][m], bool)
        for m in contract.modalities
        if m in metadata["present"]
    }
    return CachedRecording(
        recording_id=file.stem,
        count=metadata["count"],
        stage=tuple(metadata["stage"]),
        present=present,
        signals={m: np.load(recording_folder / f"{m}.npy", mmap_mode="r") for m in present},
    )


def _key(file: RecordingFile, contract: Contract, choices: Choices, digests: _Digests) -> str:
    parts = [str(_VERSION), contract.sha256, *choices.identity]
    stem = file.path.name.partition(".")[0]
    siblings = sorted(p for p in file.path.parent.glob(f"{glob.escape(stem)}*") if p.is_file())
    try:
        for source in {
            *siblings,
            *find_annotations(file.path),
            file.path,
            *([file.annotations] if file.annotations else []),
        }:
            # Scoring files are recognised by the end of their names, so that enters the key.
            parts.append(f"{source.name.removeprefix(stem)}/{digests.of(source)}")
    except OSError as error:
        raise RecordingError(f"{file.path.name} cannot be read: {error.strerror}") from error
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:32]


class _Digests:
    """SHA-256 digests of files, stored in the cache so that only changed files are hashed again.

    A file counts as unchanged if its path, device, inode, size, mtime and ctime are the same; ctime
    is set by the system and cannot be restored by an archive or a copy.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "digests.json"
        self._known: dict[str, str] = {}
        self._changed = False
        try:
            plain = json.loads(self._path.read_bytes())
            self._known = {str(k): str(v) for k, v in plain.items()}
        except (OSError, ValueError, AttributeError):
            pass  # every file is hashed again

    def of(self, path: Path) -> str:
        """Return the SHA-256 of a file's content."""
        stat = path.stat()
        identity = (
            f"{path.absolute()}|{stat.st_dev}|{stat.st_ino}|{stat.st_size}|{stat.st_mtime_ns}"
            f"|{stat.st_ctime_ns}"
        )
        if identity not in self._known:
            with path.open("rb") as file:
                self._known[identity] = hashlib.file_digest(file, "sha256").hexdigest()
            self._changed = True
        return self._known[identity]

    def save(self) -> None:
        """Write the digests to the cache if any were added."""
        if self._changed:
            with contextlib.suppress(OutputError):
                write_bytes(self._path, json.dumps(self._known).encode())


def _prepare(file: RecordingFile, target: Path, contract: Contract, choices: Choices) -> None:
    _, clips = choices.cut(choices.read(file.path, file.annotations), contract)
    dtype = stored_dtype(contract)
    metadata = {
        "count": len(clips),
        "stage": clips.stage,
        "present": {m: (bits != 0).tolist() for m, bits in clips.filled.items()},
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.parent.chmod(0o700)
        with tempfile.TemporaryDirectory(
            dir=target.parent, ignore_cleanup_errors=True
        ) as temporary:
            partial = Path(temporary) / "clips"
            partial.mkdir()
            for modality, signals in clips.signals.items():
                np.save(partial / f"{modality}.npy", signals.astype(dtype))
            (partial / "clips.json").write_text(json.dumps(metadata))
            if target.exists():  # incomplete after a crash: it has no clips.json
                shutil.rmtree(target)
            partial.rename(target)
    except OSError as error:
        raise TrainingError(
            f"the clip cache cannot be written: {error.strerror}; free space, or choose another "
            "folder with --cache"
        ) from error
