"""The prepared signals of labelled clips, for networks trained on the recordings."""

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
    """The prepared clips of one store, with the recording and row of each clip.

    Parameters
    ----------
    recordings : mapping of str to CachedRecording
        Prepared recordings by ``recording_id``.
    recording, row : mapping of int to str, of int to int
        Recording and row within it, by clip id.
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
        """Prepare the recordings of clips.

        Parameters
        ----------
        store : Reader
            The open store.
        ids : ndarray of int64, shape [n]
            Clip ids.
        cache : path
            Folder of the prepared clips.
        substitute, channels
            Filling of slots; by default as in the store's last build.
        progress : Progress, optional
            Called with (recordings prepared, total recordings).

        Raises
        ------
        QueryError
            If a recording is missing.
        """
        from sleepfm.training.clipcache import prepare_clips

        contract = store.manifest.contract
        facts = clip_columns(store, ids, ["recording_id", "start_s"])
        names = facts["recording_id"].to_pylist()
        # The first clip may begin a fraction of a clip after the start of the recording.
        rows = np.floor(numbers(facts["start_s"]) / contract.clip_seconds + 1e-6).astype(np.int64)
        choices = store.manifest.choices.updated(contract, substitute=substitute, channels=channels)
        files = {name: recording_file(store.path, name) for name in sorted(set(names))}
        recordings = {}
        for done, (name, path) in enumerate(files.items()):
            if progress is not None:
                progress(done, len(files))
            prepared = prepare_clips([path], cache, contract, choices=choices)
            (recordings[name],) = prepared.recordings
        clips = ids.tolist()
        return cls(
            recordings,
            dict(zip(clips, names, strict=True)),
            dict(zip(clips, rows.tolist(), strict=True)),
        )

    def split(self, labels: Labels, seed: int) -> dict[str, list[CachedRecording]]:
        """Split the recordings into training and validation, with the labels of each side.

        Parameters
        ----------
        labels : Labels
            Labels of the clips. A single subject is used for both training and validation.
        seed : int
            Random seed of the validation subjects: a tenth of the subjects, at least one.
        """
        from sleepfm.training.splits import split_subjects

        subjects = [labels.subject_names[i] for i in labels.subjects]
        if len(set(subjects)) == 1:
            recordings = self.split_into(labels, dict.fromkeys(subjects, "train"))["train"]
            return {"train": recordings, "valid": recordings}
        splits = split_subjects(subjects, {"train": 1 - _VALID, "valid": _VALID}, seed).of_subject
        return self.split_into(labels, splits)

    def split_into(
        self, labels: Labels, splits: Mapping[str, str]
    ) -> dict[str, list[CachedRecording]]:
        """Split the recordings by subject, with the labels of each side.

        Parameters
        ----------
        labels : Labels
            Labels of the clips.
        splits : mapping of str to str
            ``train`` or ``valid``, by subject.
        """
        subjects = [labels.subject_names[i] for i in labels.subjects]
        stages_of: dict[str, dict[str, list[str]]] = {"train": {}, "valid": {}}
        for clip, code, subject in zip(labels.clip_ids, labels.values, subjects, strict=True):
            name = self.recording[int(clip)]
            side = stages_of[splits[subject]]
            if name not in side:
                side[name] = [""] * self.recordings[name].count
            side[name][self.row[int(clip)]] = labels.classes[int(code)]
        return {
            split: [
                replace(self.recordings[name], stage=tuple(stages)) for name, stages in side.items()
            ]
            for split, side in stages_of.items()
        }

    def signals(
        self, clips: NDArray[np.int64], modalities: list[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Signals of clips, float32 [n, slots, samples] by modality.

        Parameters
        ----------
        clips : ndarray of int64, shape [n]
            Clip ids.
        modalities : list of str
            Modalities to read.

        Raises
        ------
        QueryError
            If a recording lacks a modality when it is read again.
        """
        rows = [(self.recordings[self.recording[c]], self.row[c]) for c in clips.tolist()]
        for night, row in rows:
            missing = [m for m in modalities if m not in night.signals or row >= night.count]
            if missing:
                raise QueryError(
                    f"{night.recording_id} gives no {missing[0]} when it is read again; was the "
                    "store built with --substitute or --channels?"
                )
        return {
            m: np.stack([np.asarray(night.signals[m][row], np.float32) for night, row in rows])
            for m in modalities
        }
