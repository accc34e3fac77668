"""The supervised baseline: a network trained end to end on exactly the probe's split."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm.atomic_write import write_file
from sleepfm.progress import Notice, Progress
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.columns import clip_columns, numbers
from sleepfm_index.evaluation.labels.splits import Split
from sleepfm_index.evaluation.models.external_predictions import SPLIT
from sleepfm_index.evaluation.models.features import check_features
from sleepfm_index.evaluation.models.train_test import TrainTest, divide
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result
from sleepfm_index.storage.private import recording_file

if TYPE_CHECKING:
    from sleepfm.training.clipcache import CachedRecording
    from sleepfm.training.recipe import Recipe

_VALID = 0.1
_BLOCK = 64


@dataclass(frozen=True)
class Training:
    """Training settings of the networks.

    Parameters
    ----------
    recipe : Recipe
        Epochs, batch size, rates; its seed also shuffles and chooses the validation subjects.
    substitute : bool, optional
    channels : path, optional
        How channels fill slots, where not as in the store's last build.
    device, precision, threads
        As in :func:`sleepfm.training.pretrain.pretrain`.
    """

    recipe: Recipe
    substitute: bool | None = None
    channels: str | Path | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None


def supervise(
    store: Reader,
    label: str,
    out: str | Path,
    training: Training,
    *,
    features: str | None = None,
    seed: int = 0,
    where: str | None = None,
    task: str = "auto",
    classes: Sequence[str] | None = None,
    split: Split | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Result:
    """Train one network a fold on the recordings themselves, and predict whom it never saw.

    Clips, labels and subjects on either side are those of ``probe`` with the same arguments, so the
    two can stand in one table: ``store.probe(label, compare_with=out)``. A tenth of the subjects
    that are learned from, at least one, chooses the epoch. The networks lie in ``<stem>.folds/``
    beside ``out``, with the prepared clips; the same call goes on where it was stopped.

    Parameters
    ----------
    store : Reader
        The open store.
    label, where, task, classes, split
        As in :func:`sleepfm_index.evaluation.models.probe.probe`; the label must have classes.
    out : path
        A Parquet file: clip_id, fold, ``p_<class>``.
    training : Training
        How.
    features : str, optional
        Modalities whose channels are stacked, joined by ``+``; by default all of the store.
    seed : int
        Seed of the folds, as the probe's.
    progress : Progress, optional
        Called with the recordings whose clips are prepared, then with the steps of each epoch.
    notice : Notice, optional
        Called with each phase and the losses of each epoch.

    Returns
    -------
    Result
        What was written to ``out``.

    Raises
    ------
    QueryError
        As ``probe``; if the label is a number, or a recording is not where it was.
    TrainingError
        If training cannot start or go on.
    """
    from sleepfm.encoders.classifier import load_classifier
    from sleepfm.training.data import Data, TrainingCallbacks
    from sleepfm.training.supervised import Labels, learn

    known = store.manifest.modalities
    features = features or "+".join(known)
    modalities = check_features(features, known)
    plan = divide(
        store, label, split or Split(), where=where, task=task, classes=classes, seed=seed
    )
    names = plan.train.classes
    if not names:
        raise QueryError(
            f"{label} is numeric, and the networks predict classes; use --task classification"
        )
    out = Path(out)
    work = out.with_name(f"{out.stem}.folds")
    tell: Notice = notice or (lambda _: None)
    tell("preparing clips")
    night = _Nights.read(store, plan, work / "clips", training, progress)
    data = Data([], contract=store.manifest.contract, description=f"{label} by {features}")
    ids, folds, scores = [], [], []
    for fold, (train, test) in enumerate(plan.sides(features)):
        file = work / f"fold-{fold + 1}-{plan.identity[:12]}-{features}.safetensors"
        learn(
            night.split(plan, train, training.recipe.seed),
            data,
            file,
            Labels(names, modalities),
            training.recipe,
            device=training.device,
            precision=training.precision,  # type: ignore[arg-type]
            threads=training.threads,
            resume=True,
            callbacks=TrainingCallbacks(
                training=_steps(progress), epoch=_losses(f"fold {fold + 1}", tell)
            ),
        )
        network = load_classifier(file)
        clips = plan.test.clip_ids[test]
        for at in range(0, len(clips), _BLOCK):
            scores.append(network.probabilities(night.signals(clips[at : at + _BLOCK], modalities)))
        ids.append(clips)
        folds.append(np.full(len(clips), fold + 1))
    about = {"label": label, "features": features, "recipe": training.recipe.to_json()}
    table = _table(np.concatenate(ids), np.concatenate(folds), np.concatenate(scores), names)
    table = table.replace_schema_metadata(
        {SPLIT: plan.identity.encode(), b"sleepfm_baseline": json.dumps(about).encode()}
    )
    write_file(out, lambda path: pq.write_table(table, path, compression="zstd"))
    note = f"a network on the stacked channels of {features}, {len(folds)} trained; {plan.note}"
    return Result(table, note)


def _steps(progress: Progress | None) -> Callable[[int, int, int, float], None]:
    def step(_epoch: int, done: int, total: int, _loss: float) -> None:
        if progress is not None:
            progress(done, total)

    return step


def _losses(fold: str, notice: Notice) -> Callable[[Mapping[str, Any]], None]:
    def epoch(metrics: Mapping[str, Any]) -> None:
        notice(
            f"{fold}, epoch {metrics['epoch']}: loss {metrics['loss']:.3f}, "
            f"validation {metrics['valid']['loss']:.3f}"
        )

    return epoch


@dataclass(frozen=True)
class _Nights:
    """The prepared clips behind a plan: each recording, and where each clip is in which."""

    recordings: Mapping[str, CachedRecording]
    recording: Mapping[int, str]
    row: Mapping[int, int]

    @classmethod
    def read(
        cls,
        store: Reader,
        plan: TrainTest,
        cache: Path,
        training: Training,
        progress: Progress | None,
    ) -> _Nights:
        from sleepfm.training.clipcache import prepare_clips

        contract = store.manifest.contract
        ids = np.union1d(plan.train.clip_ids, plan.test.clip_ids)
        facts = clip_columns(store, ids, ["recording_id", "start_s"])
        names = facts["recording_id"].to_pylist()
        # Clips may begin a part of one after the recording.
        rows = np.floor(numbers(facts["start_s"]) / contract.clip_seconds + 1e-6).astype(np.int64)
        choices = store.manifest.choices.told(
            contract, substitute=training.substitute, channels=training.channels
        )
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

    def split(
        self, plan: TrainTest, train: NDArray[np.int64], seed: int
    ) -> dict[str, list[CachedRecording]]:
        """Return the recordings to train on and to validate on, no clips labelled but theirs."""
        from sleepfm.training.splits import split_subjects

        labels = plan.train.take(train)
        people = [labels.subject_names[i] for i in labels.subjects]
        splits = split_subjects(people, {"train": 1 - _VALID, "valid": _VALID}, seed).of_subject
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
        """Signals of some clips, float32 [n, slots, samples] by modality."""
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


def _table(
    ids: NDArray[np.int64],
    folds: NDArray[np.int64],
    scores: NDArray[np.float32],
    classes: tuple[str, ...],
) -> pa.Table:
    order = np.argsort(ids)
    columns = {"clip_id": ids[order], "fold": folds[order]}
    return pa.table(
        columns
        | {f"p_{name}": scores[order, i].astype(np.float64) for i, name in enumerate(classes)}
    )
