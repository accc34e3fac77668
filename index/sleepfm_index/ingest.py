"""A folder of recordings becomes a store: read, cut, encode, commit, one recording at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from sleepfm.clips import Clips, cut_clips
from sleepfm.contract import Contract
from sleepfm.errors import RecordingError, SleepFMError, WeightsError
from sleepfm.modality import Modality
from sleepfm.recordings import RecordingFile, find_recordings, read_recording
from sleepfm.recordings.annotations import Coding
from sleepfm.recordings.channels import ChannelMap, match_channels
from sleepfm.recordings.recording import Recording
from sleepfm.recordings.telling import telling
from sleepfm_index import private
from sleepfm_index.disk import fingerprint
from sleepfm_index.errors import QueryError
from sleepfm_index.manifest import WeightsIdentity
from sleepfm_index.query import clip_position
from sleepfm_index.rows import segment_rows
from sleepfm_index.store import Store
from sleepfm_index.subjects import Subjects, no_subjects, read_subjects
from sleepfm_index.writer import Writer

if TYPE_CHECKING:
    from sleepfm.encoders.inference import Encoder
    from sleepfm.encoders.weights import Weights

Status = Literal["added", "already there", "left out", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Parameters
    ----------
    file : Path
        The file.
    status : {"added", "already there", "left out", "failed"}
    reason : str
        Why it was left out or failed; one sentence.
    recording_id : str
    clips : int
        Clips added.
    slots : dict of str to str
        Slot to channel, for what was read.
    unmatched : tuple of str
        Channels that no slot took.
    warnings : tuple of str
        What was odd but readable.
    """

    file: Path
    status: Status
    reason: str = ""
    recording_id: str = ""
    clips: int = 0
    slots: dict[str, str] | None = None
    unmatched: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildReport:
    """What a build did: the weights it used, and the outcome of every file in order."""

    store: Path
    weights: WeightsIdentity
    outcomes: tuple[Outcome, ...]

    def of(self, status: Status) -> tuple[Outcome, ...]:
        """Outcomes of one status."""
        return tuple(o for o in self.outcomes if o.status == status)

    @property
    def clips_added(self) -> int:
        """Clips that this build added."""
        return sum(o.clips for o in self.outcomes)


@dataclass(frozen=True)
class Preparation:
    """How a file is to be prepared; with the file's content it decides the vectors."""

    contract: Contract
    substitute: bool = False
    channels: Path | None = None
    strict: bool = False
    coding: Coding | None = None

    def read(self, path: Path, annotations: Path | None = None) -> Recording:
        """Read a recording and its scoring."""
        return read_recording(path, annotations, coding=self.coding)

    def prepare(self, path: Path) -> tuple[Recording, ChannelMap, Clips]:
        """Read a recording, find its channels and cut it into clips."""
        recording = self.read(path)
        return recording, *self.cut(recording)

    def cut(self, recording: Recording) -> tuple[ChannelMap, Clips]:
        """Find a recording's channels and cut it into clips."""
        channels = match_channels(
            recording, self.contract, substitute=self.substitute, overrides=self.channels
        )
        return channels, cut_clips(recording, channels, self.contract, strict=self.strict)

    def key(self, recording: Recording, weights: WeightsIdentity) -> str:
        """Content key: SHA-256 over (sources, contract, weights, choice of channels)."""
        parts = [fingerprint(source).sha256 for source in recording.sources]
        parts += [self.contract.sha256, weights.sha256, f"substitute={self.substitute}"]
        if self.channels is not None:
            parts.append(fingerprint(self.channels).sha256)
        if self.coding is not None:
            parts.append(f"coding={self.coding}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def build(
    store: str | Path,
    paths: Iterable[str | Path],
    *,
    weights: str = "untrained",
    subjects: str | Path | None = None,
    ids: Literal["stem", "hash"] = "stem",
    substitute: bool = False,
    channels: str | Path | None = None,
    strict: bool = False,
    coding: Coding | None = None,
    device: str = "auto",
    threads: int | None = None,
    watch: Callable[[Outcome, int, int], None] | None = None,
) -> BuildReport:
    """Add recordings to a store, which is made if there is none.

    Every recording is committed by itself: what is done stays done, and a repeated or resumed
    build skips it. A recording that cannot be read is left out whole, with its reason, and the
    others go on.

    Parameters
    ----------
    store : path
        The store's folder.
    paths : iterable of path
        Recordings, folders, globs or cohort lists.
    weights : str
        Name or path of the weights.
    subjects : path, optional
        subjects.csv.
    ids : {"stem", "hash"}
        Whether ``recording_id`` is the file's stem or a keyed hash of it.
    substitute : bool
        Fill slots from other derivations or sensors where their own are missing.
    channels : path, optional
        A table of channel names that goes before the package's own.
    strict : bool
        Leave out a recording whose values contradict their unit, instead of warning.
    coding : {"yasa", "profusion", "rk", "ucddb"}, optional
        What integer stages mean; without it they are not taken.
    device : str
        Where the encoders run: ``auto``, ``cpu``, ``cuda``, ``mps``.
    threads : int, optional
        Threads of the encoders; by default all cores.
    watch : callable, optional
        Called after each file with (outcome, files done, files in all).

    Returns
    -------
    BuildReport

    Raises
    ------
    RecordingError
        If there is nothing to read.
    StoreError
        If the store cannot be written, or holds vectors of other weights.
    WeightsError
        If the weights cannot be loaded.
    """
    from sleepfm.encoders.weights import load_weights

    named = [Path(path) for path in paths]
    found = find_recordings(named)
    if not found.recordings and not found.left_out:
        raise RecordingError(
            f"there is no recording in {', '.join(map(str, named))}; "
            "`sleepfm-index scan` says what can be read"
        )
    cohort = read_subjects(Path(subjects)) if subjects is not None else no_subjects()
    loaded = load_weights(weights)
    identity = identity_of(loaded)
    preparation = Preparation(
        loaded.contract, substitute, None if channels is None else Path(channels), strict, coding
    )
    outcomes = [Outcome(f.path, "left out", f.reason) for f in found.left_out]
    with Writer(Path(store), identity, loaded.contract) as writer:
        worker = _Worker(writer, loaded, preparation, cohort, ids, device, threads)
        for done, file in enumerate(found.recordings, start=1):
            outcomes.append(worker.add(file))
            if watch is not None:
                watch(outcomes[-1], done, len(found.recordings))
        writer.reindex()
    return BuildReport(Path(store), identity, tuple(outcomes))


class _Worker:
    """Takes one file after another into the store; the encoder is made when first needed."""

    def __init__(
        self,
        writer: Writer,
        weights: Weights,
        preparation: Preparation,
        subjects: Subjects,
        ids: str,
        device: str,
        threads: int | None,
    ) -> None:
        self._writer = writer
        self._identity = identity_of(weights)
        self._preparation = preparation
        self._subjects = subjects
        self._ids = ids
        self._encoder = _LazyEncoder(weights, device, threads)
        with Store(writer.path) as store:
            names = store.sql("SELECT recording_id FROM recordings").table["recording_id"]
            self._taken = set(names.to_pylist())

    def add(self, file: RecordingFile) -> Outcome:
        """Read, cut, encode and commit one recording; a bad one changes nothing."""
        try:
            recording = self._preparation.read(file.path, file.annotations)
            key = self._preparation.key(recording, self._identity)
            if key in self._writer.manifest.sources:
                return Outcome(file.path, "already there")
            if key in self._writer.manifest.withdrawn:
                return Outcome(file.path, "left out", "it was deleted from this store")
            name = self._name(file.stem)
            channels, clips = self._preparation.cut(recording)
            vectors = {m: self._encoder.encode(m, x) for m, x in clips.signals.items()}
        except (SleepFMError, OSError) as error:
            return Outcome(file.path, "failed", str(error))
        except Exception as error:  # one odd file must not cost the others
            return Outcome(file.path, "failed", f"unexpected {type(error).__name__}: {error}")
        rows = segment_rows(key, name, recording, channels, clips, vectors, self._subjects)
        private.remember_file(self._writer.path, name, file.path)
        self._writer.append(rows)
        self._taken.add(name)
        return Outcome(
            file.path,
            "added",
            recording_id=name,
            clips=len(clips),
            slots={slot: " - ".join(m.labels) for slot, m in channels.slots.items()},
            unmatched=channels.unmatched,
            warnings=(
                *self._telling(file.stem),
                *recording.warnings,
                *channels.warnings,
                *clips.warnings,
            ),
        )

    def _telling(self, stem: str) -> tuple[str, ...]:
        looks = telling(stem) if self._ids == "stem" else None
        return (f"the name looks like {looks}: consider --ids hash",) if looks else ()

    def _name(self, stem: str) -> str:
        name = private.hashed_id(self._writer.path, stem) if self._ids == "hash" else stem
        if name in self._taken:
            raise QueryError(
                f"another recording named {stem} is already in the store; rename this file, or "
                "delete the other one first"
            )
        return name


class _LazyEncoder:
    def __init__(self, weights: Weights, device: str, threads: int | None) -> None:
        self._arguments = (weights, device, threads)
        self._encoder: Encoder | None = None

    def encode(self, modality: Modality, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._encoder is None:
            from sleepfm.encoders.inference import Encoder

            weights, device, threads = self._arguments
            self._encoder = Encoder(weights, device=device, threads=threads)
        return self._encoder.encode(modality, clips)


def identity_of(weights: Weights) -> WeightsIdentity:
    """Give what a manifest keeps of weights."""
    note = "" if weights.trained else "UNTRAINED: a seeded random initialisation"
    return WeightsIdentity(weights.name, weights.sha256, weights.trained, note)


def encode_clip(
    store: Store, file: Path, at: str, modality: Modality, weights: str | None = None
) -> NDArray[np.float32]:
    """Encode one clip of a recording as the store's own clips were.

    Parameters
    ----------
    at : str
        As in :class:`sleepfm_index.query.Question`.
    weights : str, optional
        Name or path of the store's weights; by default the name that the manifest states.

    Returns
    -------
    ndarray of float32, shape [512]
        A unit vector, rounded to float16 as in the store.

    Raises
    ------
    QueryError
        If the weights are not the store's, no clip covers ``at``, or it lacks the modality.
    """
    from sleepfm.encoders.inference import Encoder
    from sleepfm.encoders.weights import load_weights

    if not file.is_file():
        raise QueryError(f"there is no file {file}")
    own = store.manifest.weights
    try:
        loaded = load_weights(weights or own.name)
    except WeightsError as error:
        raise QueryError(
            f"the store was built with the weights {own.name}, which cannot be loaded ({error}); "
            "name their file by --weights"
        ) from error
    if loaded.sha256 != own.sha256:
        raise QueryError(
            f"{loaded.name} ({loaded.sha256[:12]}) are not the store's weights {own.name} "
            f"({own.sha256[:12]}); name those by --weights"
        )
    _, _, clips = Preparation(store.manifest.contract).prepare(file)
    seconds = store.manifest.contract.clip_seconds
    at_clip = clip_position(at, clips.start_s, clips.clock_s, seconds)
    if not clips.filled[modality][at_clip]:
        raise QueryError(f"{file.name} has no {modality} signal at {at}")
    one = clips.signals[modality][at_clip : at_clip + 1]
    vectors = Encoder(loaded).encode(modality, one).astype(np.float16)
    stored: NDArray[np.float32] = vectors[0].astype(np.float32)
    return stored
