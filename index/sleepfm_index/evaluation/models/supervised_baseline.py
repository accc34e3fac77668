"""The supervised baseline: a network trained end to end on the split of a probe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sleepfm.atomic_write import write_file
from sleepfm.progress import Notice, Progress
from sleepfm_index.errors import QueryError
from sleepfm_index.evaluation.labels.labels import Labels
from sleepfm_index.evaluation.labels.splits import Split
from sleepfm_index.evaluation.models.external_predictions import SPLIT
from sleepfm_index.evaluation.models.features import check_features
from sleepfm_index.evaluation.models.prepared_nights import Nights
from sleepfm_index.evaluation.models.train_test import TrainTest, divide
from sleepfm_index.reader import Reader
from sleepfm_index.results import Result

if TYPE_CHECKING:
    from sleepfm.training.recipe import Recipe

_BLOCK = 64


@dataclass(frozen=True)
class Training:
    """Training settings of the networks.

    Parameters
    ----------
    recipe : Recipe
        Epochs, batch size, rates; its seed also shuffles and chooses the validation subjects.
    substitute : bool, optional
        Whether to fill missing slots from other channels; by default as in the store's last build.
    channels : path, optional
        Channel table; by default as in the store's last build.
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
    """Train one network per fold on the recordings, and predict the test subjects.

    Clips, labels and subjects of both sides are those of ``probe`` with the same arguments, so that
    both fit into one table: ``store.probe(label, compare_with=out)``. The epoch is chosen on a
    tenth of the training subjects, at least one. The networks and the prepared clips are stored in
    the folder ``<stem>.folds`` next to ``out``; the same call resumes an interrupted training.

    Parameters
    ----------
    store : Reader
        The open store.
    label, where, task, classes, split
        As in :func:`sleepfm_index.evaluation.models.probe.probe`; the label must have classes.
    out : path
        Parquet file to write: clip_id, fold, ``p_<class>``.
    training : Training
        Training settings of the networks.
    features : str, optional
        Modalities whose channels are stacked, joined by ``+``; by default all of the store.
    seed : int
        Random seed of the folds, as for the probe.
    progress : Progress, optional
        Called with the recordings whose clips are prepared, then with the steps of each epoch.
    notice : Notice, optional
        Called with each phase and the losses of each epoch.

    Returns
    -------
    Result
        The table in ``out``.

    Raises
    ------
    QueryError
        As in ``probe``; or if the label is numeric, or a recording is missing.
    TrainingError
        If training cannot start or continue.
    """
    known = store.manifest.modalities
    features = features or "+".join(known)
    check_features(features, known)
    plan = divide(
        store, label, split or Split(), where=where, task=task, classes=classes, seed=seed
    )
    out = Path(out)
    folder = out.with_name(f"{out.stem}.folds")
    networks = Networks.of(plan, features, folder, training, progress, notice)
    ids, folds, scores = [], [], []
    for fold, (train, test) in enumerate(plan.sides(features), start=1):
        name = f"fold-{fold}-{plan.identity[:12]}-{features}"
        scores.append(networks.predict(plan.train.take(train), test, name, f"fold {fold}"))
        ids.append(plan.test.clip_ids[test])
        folds.append(np.full(len(test), fold))
    about = {"label": label, "features": features, "recipe": training.recipe.to_json()}
    table = _table(
        np.concatenate(ids), np.concatenate(folds), np.concatenate(scores), plan.train.classes
    )
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


def _losses(title: str, notice: Notice) -> Callable[[Mapping[str, Any]], None]:
    def epoch(metrics: Mapping[str, Any]) -> None:
        notice(
            f"{title}, epoch {metrics['epoch']}: loss {metrics['loss']:.3f}, "
            f"validation {metrics['valid']['loss']:.3f}"
        )

    return epoch


@dataclass(frozen=True)
class Networks:
    """Networks for one split of labelled clips, with the prepared signals.

    Parameters
    ----------
    plan : TrainTest
        Training and test clips.
    features : str
        Modalities whose channels are stacked, joined by ``+``.
    folder : Path
        Folder of the networks.
    training : Training
        Training settings.
    learned, tested : Nights
        Signals of the training and test clips.
    progress : Progress, optional
        Called with the recordings whose clips are prepared, then with the steps of each epoch.
    notify : Notice
        Called with each phase and the losses of each epoch.
    """

    plan: TrainTest
    features: str
    folder: Path
    training: Training
    learned: Nights
    tested: Nights
    progress: Progress | None
    notify: Notice

    @classmethod
    def of(
        cls,
        plan: TrainTest,
        features: str,
        folder: Path,
        training: Training,
        progress: Progress | None = None,
        notice: Notice | None = None,
    ) -> Networks:
        """Prepare the signals of both sides.

        Parameters
        ----------
        plan, features, folder, training, progress
            As in :class:`Networks`.
        notice : Notice, optional
            As ``notify`` in :class:`Networks`.

        Raises
        ------
        QueryError
            If the label is numeric, or a recording is missing.
        """
        if not plan.train.classes:
            raise QueryError(
                f"{plan.train.name} is numeric, and the networks predict classes; use --task "
                "classification"
            )
        notify: Notice = notice or (lambda _: None)
        notify("preparing clips")
        options: Any = {
            "substitute": training.substitute,
            "channels": training.channels,
            "progress": progress,
        }
        cache, train_store, test_store = folder / "clips", plan.train_store, plan.test_store
        if train_store is test_store:
            ids = np.union1d(plan.train.clip_ids, plan.test.clip_ids)
            nights = Nights.read(train_store, ids, cache, **options)
            return cls(plan, features, folder, training, nights, nights, progress, notify)
        learned = Nights.read(train_store, plan.train.clip_ids, cache, **options)
        tested = Nights.read(test_store, plan.test.clip_ids, cache, **options)
        return cls(plan, features, folder, training, learned, tested, progress, notify)

    def predict(
        self, labels: Labels, test: NDArray[np.int64], name: str, title: str
    ) -> NDArray[np.float32]:
        """Train a network on labelled clips, or resume its training, and predict test clips.

        Parameters
        ----------
        labels : Labels
            Labels of the training clips.
        test : ndarray of int64, shape [m]
            Rows of ``plan.test`` to predict.
        name : str
            Name of the network's file.
        title : str
            Name of the network in messages.

        Returns
        -------
        ndarray of float32, shape [m, classes]
            Probabilities.
        """
        from sleepfm.encoders.classifier import load_classifier
        from sleepfm.training.data import Data, TrainingCallbacks
        from sleepfm.training.supervised import Labels as Classes
        from sleepfm.training.supervised import supervise_prepared

        contract = self.plan.train_store.manifest.contract
        modalities = self.features.split("+")
        file = self.folder / f"{name}.safetensors"
        supervise_prepared(
            self.learned.split(labels, self.training.recipe.seed),
            Data([], contract=contract, description=f"{labels.name} by {self.features}"),
            file,
            Classes(labels.classes, modalities),
            self.training.recipe,
            device=self.training.device,
            precision=self.training.precision,  # type: ignore[arg-type]
            threads=self.training.threads,
            resume=True,
            callbacks=TrainingCallbacks(
                training=_steps(self.progress), epoch=_losses(title, self.notify)
            ),
        )
        network = load_classifier(file)
        clips = self.plan.test.clip_ids[test]
        return np.concatenate(
            [
                network.probabilities(self.tested.signals(clips[i : i + _BLOCK], modalities))
                for i in range(0, len(clips), _BLOCK)
            ]
        )


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
