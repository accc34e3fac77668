"""Clips prepared once and memory-mapped, so that an epoch reads no recording again.

Each recording is one folder, named by the hash of (its files' names, sizes and times, contract,
choice of channels), that holds one ``.npy`` a modality and ``clips.json``; it appears whole or not
at all.
"""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.clips import cut_clips
from sleepfm.contract import Contract
from sleepfm.errors import SleepFMError, TrainingError
from sleepfm.modality import Modality
from sleepfm.recordings import RecordingFile, find_recordings, read_recording
from sleepfm.recordings.channels import match_channels
from sleepfm.recordings.scoring.vocabulary import Coding

_VERSION: Final = 1


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
    present : dict of Modality to ndarray of bool, shape [count]
        Which clips have which modality.
    signals : dict of Modality to memory-mapped ndarray, shape [count, slots, samples]
        Of :func:`stored_dtype`.
    """

    recording_id: str
    count: int
    stage: tuple[str, ...]
    present: dict[Modality, NDArray[np.bool_]]
    signals: dict[Modality, NDArray[Any]]


@dataclass(frozen=True)
class Reading:
    """How channels and stages of a recording are taken.

    Parameters
    ----------
    substitute : bool
        Whether other derivations may fill a slot.
    channels : Path, optional
        A channels file.
    coding : {"yasa", "profusion", "rk", "ucddb"}, optional
        What integer stages mean.
    """

    substitute: bool = False
    channels: Path | None = None
    coding: Coding | None = None


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
    reading: Reading | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Cut all recordings under ``paths`` into clips, unless the cache has them already.

    Parameters
    ----------
    paths : sequence of str or Path
        Recordings, folders, globs or cohort lists.
    folder : Path
        Of the cache.
    contract : Contract
        How clips are prepared.
    reading : Reading, optional
        How channels and stages are taken.
    watch : callable, optional
        Called with (done, total) after every recording.

    Raises
    ------
    TrainingError
        If the cache cannot be written, or no recording gives a clip.
    """
    found = find_recordings(paths)
    left_out = [(x.path.name, x.reason) for x in found.left_out]
    recordings = []
    for done, file in enumerate(found.recordings, start=1):
        try:
            recordings.append(_cached(file, folder, contract, reading or Reading()))
        except SleepFMError as error:
            if isinstance(error, TrainingError):
                raise
            left_out.append((file.path.name, str(error)))
        if watch is not None:
            watch(done, len(found.recordings))
    if not recordings:
        why = f"; {left_out[0][0]}: {left_out[0][1]}" if left_out else ""
        raise TrainingError(f"No recording gives clips to train on{why}")
    return Prepared(tuple(recordings), tuple(left_out))


def stored_dtype(contract: Contract) -> type[np.floating[Any]]:
    """Give float16 where the contract scales (values are within +-20 then), else float32."""
    return np.float16 if contract.scaling == "robust" else np.float32


def _cached(
    file: RecordingFile, folder: Path, contract: Contract, reading: Reading
) -> CachedRecording:
    place = folder / _key(file, contract, reading)
    if not (place / "clips.json").is_file():
        _prepare(file, place, contract, reading)
    about = json.loads((place / "clips.json").read_text())
    present = {Modality(m): np.array(bits, bool) for m, bits in about["present"].items()}
    return CachedRecording(
        recording_id=file.stem,
        count=about["count"],
        stage=tuple(about["stage"]),
        present=present,
        signals={m: np.load(place / f"{m}.npy", mmap_mode="r") for m in present},
    )


def _key(file: RecordingFile, contract: Contract, reading: Reading) -> str:
    parts = [str(_VERSION), contract.sha256, str(reading.substitute)]
    if reading.channels is not None:
        parts.append(f"channels/{hashlib.sha256(reading.channels.read_bytes()).hexdigest()}")
    if reading.coding is not None:
        parts.append(f"coding/{reading.coding}")
    stem = file.path.name.partition(".")[0]
    beside = sorted(p for p in file.path.parent.glob(f"{glob.escape(stem)}*") if p.is_file())
    for source in {*beside, file.path, *([file.annotations] if file.annotations else [])}:
        stat = source.stat()
        parts.append(f"{source.name}/{stat.st_size}/{stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:32]


def _prepare(file: RecordingFile, place: Path, contract: Contract, reading: Reading) -> None:
    recording = read_recording(file.path, file.annotations, coding=reading.coding)
    slots = match_channels(
        recording, contract, substitute=reading.substitute, overrides=reading.channels
    )
    clips = cut_clips(recording, slots, contract)
    kind = stored_dtype(contract)
    about = {
        "count": len(clips),
        "stage": clips.stage,
        "present": {m: (bits != 0).tolist() for m, bits in clips.filled.items()},
    }
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
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
            f"The clip cache cannot be written: {error.strerror}; free space, or name another "
            "folder by --cache."
        ) from error
