"""The prepared signals behind labelled clips, for networks that learn from the recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.progress import Progress
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, numbers
from sleepfm_index.evaluation.labels.labels import Labels
from sleepfm_index.reader import Reader
from sleepfm_index.storage.private import recording_file

if TYPE_CHECKING:
    from sleepfm.training.clipcache import CachedRecording

_VALID: Final = 0.1


@dataclass(frozen=True)
class Nights:
    """The prepared clips of one store: each recording, and where each clip is in which.

    Parameters
    ----------
    recordings : mapping of str to CachedRecording
        By ``recording_id``.
    recording, row : mapping of int to str, of int to int
        Where each clip is, by clip id.
    """

    recordings: Mapping[str, CachedRecording]
    recording: Mapping[int, str]
    row: Mapping[int, int]

    @classmethod
    def read(
        cls,
        store: Reader,
        ids: NDArray[np.int64],
        cache: Path,
        *,
        substitute: bool | None = None,
        channels: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Nights:
        """Prepare the recordings of some clips.

        Parameters
        ----------
        store : Reader
            The open store.
        ids : ndarray of int64, shape [n]
            Clip ids.
        cache : path
            Folder of the prepared clips.
        substitute, channels
            How channels fill slots, where not as in the store's last build.
        progress : Progress, optional
            Called with (recordings prepared, recordings).

        Raises
        ------
        QueryError
            If a recording is not where it was.
        """
        from sleepfm.training.clipcache import prepare_clips

        contract = store.manifest.contract
        facts = clip_columns(store, ids, ["recording_id", "start_s"])
        names = facts["recording_id"].to_pylist()
        # Clips may begin a part of one after the recording.
        rows = np.floor(numbers(facts["start_s"]) / contract.clip_seconds + 1e-6).astype(np.int64)
        choices = store.manifest.choices.updated(contract, substitute=substitute, channels=channels)
        files = {name: recording_file(store.path, name) for name in sorted(set(names))}
        found = {}
        for done, (name, path) in enumerate(files.items()):
            if progress is not None:
                progress(done, len(files))
            prepared = prepare_clips([path], cache, contract, choices=choices)
            (found[name],) = prepared.recordings
        clips = ids.tolist()
        return cls(
            found,
            dict(zip(clips, names, strict=True)),
            dict(zip(clips, rows.tolist(), strict=True)),
        )

    def split(self, labels: Labels, seed: int) -> dict[str, list[CachedRecording]]:
        """Give the recordings to train on and to validate on, no clips labelled but theirs.

        Parameters
        ----------
        labels : Labels
            The clips to learn from. A single subject is both trained and validated on.
        seed : int
            Chooses the tenth of the subjects, at least one, that is validated on.
        """
        from sleepfm.training.splits import split_subjects

        people = [labels.subject_names[i] for i in labels.subjects]
        if len(set(people)) == 1:
            whole = self.split_into(labels, dict.fromkeys(people, "train"))["train"]
            return {"train": whole, "valid": whole}
        splits = split_subjects(people, {"train": 1 - _VALID, "valid": _VALID}, seed).of_subject
        return self.split_into(labels, splits)

    def split_into(
        self, labels: Labels, splits: Mapping[str, str]
    ) -> dict[str, list[CachedRecording]]:
        """Give the recordings of each side, no clips labelled but those of ``labels``.

        Parameters
        ----------
        labels : Labels
            The clips to learn from.
        splits : mapping of str to str
            ``train`` or ``valid``, by subject.
        """
        people = [labels.subject_names[i] for i in labels.subjects]
        told: dict[str, dict[str, list[str]]] = {"train": {}, "valid": {}}
        for clip, code, person in zip(labels.clip_ids, labels.values, people, strict=True):
            name = self.recording[int(clip)]
            side = told[splits[person]]
            if name not in side:
                side[name] = [""] * self.recordings[name].count
            side[name][self.row[int(clip)]] = labels.classes[int(code)]
        return {
            split: [replace(self.recordings[name], stage=tuple(own)) for name, own in side.items()]
            for split, side in told.items()
        }

    def signals(
        self, clips: NDArray[np.int64], modalities: list[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Signals of some clips, float32 [n, slots, samples] by modality.

        Parameters
        ----------
        clips : ndarray of int64, shape [n]
            Clip ids.
        modalities : list of str
            Whose channels.

        Raises
        ------
        QueryError
            If a recording lacks a modality when it is read again.
        """
        places = [(self.recordings[self.recording[c]], self.row[c]) for c in clips.tolist()]
        for night, row in places:
            lacking = [m for m in modalities if m not in night.signals or row >= night.count]
            if lacking:
                raise QueryError(
                    f"{night.recording_id} gives no {lacking[0]} when it is read again; was the "
                    "store built with --substitute or --channels?"
                )
        return {
            m: np.stack([np.asarray(night.signals[m][row], np.float32) for night, row in places])
            for m in modalities
        }
