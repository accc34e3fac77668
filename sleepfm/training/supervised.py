"""Supervised training: the encoder with a class head, end to end, from recordings to a classifier.

This is the baseline with which SleepFM's embeddings are compared (Thapa et al., ICML 2024, section
4): one network over the stacked channels of all modalities, or of one modality, trained on the
subjects of ``pretrain`` and ``train`` together (``combined`` in the authors'
``EventDatasetSupervised``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from sleepfm.choices import Precision
from sleepfm.contract import Contract
from sleepfm.encoders.classifier import Classifier
from sleepfm.encoders.effnet import EffNet
from sleepfm.encoders.inference import choose_device
from sleepfm.encoders.networks import tensors_of
from sleepfm.errors import TrainingError
from sleepfm.stages import SCORED
from sleepfm.training.batches import Batch, ClipSet, in_order
from sleepfm.training.clipcache import CachedRecording
from sleepfm.training.data import (
    Data,
    TrainingCallbacks,
    prepare_cohort,
    run_identity,
    training_record,
)
from sleepfm.training.loop import fit, record_at_end, refuse_taken
from sleepfm.training.metrics import class_metrics
from sleepfm.training.recipe import AUTHORS, Recipe
from sleepfm.training.splits import Split
from sleepfm.training.task import Metrics, Run, Task, choose_precision

CLASSES: Final = SCORED
"""Classes; clips with any other label (unscored, artefact) are excluded."""


@dataclass(frozen=True)
class Labels:
    """Classes, input modalities and training splits.

    Parameters
    ----------
    classes : sequence of str
        Stages (or other labels of clips), in the order of the network's outputs.
    modalities : sequence of str, optional
        The modalities whose channels are stacked, by default all of the contract; a modality that a
        clip lacks is zero.
    train : sequence of str
        The splits used for training; ``valid`` selects the epoch, ``test`` is not used.
    """

    classes: Sequence[str] = CLASSES
    modalities: Sequence[str] | None = None
    train: Sequence[Split] = ("pretrain", "train")


def supervise(
    data: Data,
    out: Path,
    labels: Labels | None = None,
    recipe: Recipe = AUTHORS,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    resume: bool = False,
    callbacks: TrainingCallbacks | None = None,
) -> list[Metrics]:
    """Train a sleep stage classifier end to end.

    Parameters
    ----------
    data : Data
        The training data.
    out : Path
        The classifier's file (safetensors, see :class:`~sleepfm.encoders.classifier.Classifier`);
        next to it are the same files as in pretraining.
    labels : Labels, optional
        Classes, input modalities and training splits.
    recipe, device, precision, threads, resume, callbacks
        As in :func:`sleepfm.training.pretrain.pretrain`.

    Returns
    -------
    list of dict
        Metrics of each epoch; ``valid`` has loss, accuracy, balanced accuracy, macro AUROC and
        macro AUPRC. The classifier's record has the number of clips excluded for other labels.

    Raises
    ------
    TrainingError
        If training cannot start or continue; the last checkpoint is intact.
    """
    labels, callbacks = labels or Labels(), callbacks or TrainingCallbacks()
    refuse_taken(out, resume)
    cohort = prepare_cohort(data, out, recipe.seed, callbacks)
    recordings_of = {"train": cohort.recordings(*labels.train), "valid": cohort.recordings("valid")}
    cohort.write_splits(out)
    return supervise_prepared(
        recordings_of,
        data,
        out,
        labels,
        recipe,
        device=device,
        precision=precision,
        threads=threads,
        resume=resume,
        callbacks=callbacks,
    )


def supervise_prepared(
    recordings_of: Mapping[str, Sequence[CachedRecording]],
    data: Data,
    out: Path,
    labels: Labels,
    recipe: Recipe = AUTHORS,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    resume: bool = False,
    callbacks: TrainingCallbacks | None = None,
) -> list[Metrics]:
    """Train a classifier on recordings that are already prepared and split.

    Parameters
    ----------
    recordings_of : mapping of str to sequence of CachedRecording
        The recordings of ``train`` and of ``valid``; their ``stage`` is the class label, which may
        be any label of a clip.
    data : Data
        Supplies contract and description; the other fields are not used.
    out, labels, recipe, device, precision, threads, resume, callbacks
        As in :func:`supervise`; ``labels.train`` and ``recipe.jitter_s`` are not used.

    Returns
    -------
    list of dict
        As from :func:`supervise`.

    Raises
    ------
    TrainingError
        As :func:`supervise`.
    """
    callbacks = callbacks or TrainingCallbacks()
    recipe = replace(recipe, jitter_s=0.0)  # one network sees how its channels go together in time
    if threads is not None:
        torch.set_num_threads(threads)
    torch_device = choose_device(device)
    run = Run(torch_device, choose_precision(torch_device, precision))
    refuse_taken(out, resume)
    numbers = {name: i for i, name in enumerate(labels.classes)}
    modalities = tuple(labels.modalities or data.contract.modalities)
    clips = {
        name: ClipSet(recordings, data.contract, modalities, numbers, at_least=1, labelled=True)
        for name, recordings in recordings_of.items()
    }
    for modality in modalities:
        if not any(modality in r.present for r in recordings_of["train"]):
            raise TrainingError(f"no recording to train on has {modality}; exclude it")
    unscored = {name: _unscored(recordings, numbers) for name, recordings in recordings_of.items()}
    for name, clip_set in clips.items():
        if not len(clip_set):
            raise TrainingError(
                f"the {name} recordings have no clip scored {', '.join(labels.classes)} with the "
                f"required signals ({unscored[name]} clips have another label or none); add "
                "hypnograms next to the recordings"
            )
    record = {
        "objective": "supervised",
        **training_record(data, clips, recipe, run),
        "unscored": unscored,
        "classes": list(labels.classes),
    }
    task = Supervised(labels, data.contract, recipe, clips["valid"], record).to(torch_device)
    definition = [
        *("supervised", data.contract.sha256, list(labels.classes), list(modalities)),
        {name: clip_set.labels.tolist() for name, clip_set in clips.items()},
    ]
    return fit(
        task,
        clips["train"],
        recipe,
        run,
        out,
        identity=run_identity(definition, recordings_of),
        resume=resume,
        progress=callbacks.training,
        report=callbacks.epoch,
    )


class Supervised(Task):
    """A network over stacked channels, trained with cross-entropy.

    Parameters
    ----------
    labels : Labels
        Classes and input modalities.
    contract : Contract
        The contract by which clips are prepared.
    recipe : Recipe
        Settings of the run.
    valid : ClipSet
        The validation clips.
    record : dict
        The training record, to be stored in the weights.
    """

    def __init__(
        self, labels: Labels, contract: Contract, recipe: Recipe, valid: ClipSet, record: Metrics
    ) -> None:
        super().__init__()
        self._labels = labels
        self._modalities = tuple(labels.modalities or contract.modalities)
        self._contract = contract
        self._batch_size = recipe.batch_size
        self._valid = valid
        self._record = record
        channels = sum(len(contract.slots_of(m)) for m in self._modalities)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network = EffNet(channels, recipe.dropout, len(labels.classes))

    def logits(self, batch: Batch) -> Tensor:
        """Return the class logits of a batch.

        Parameters
        ----------
        batch : Batch
            Clips, on the device of the network.

        Returns
        -------
        Tensor of float32, shape [n, classes]
            Logits.
        """
        stacked = torch.cat([batch.signals[m] for m in self._modalities], dim=1)
        out: Tensor = self.network(stacked).float()
        return out

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean cross-entropy of a batch, and the number of correct clips.

        Parameters
        ----------
        batch : Batch
            Clips, on the device of the network.

        Returns
        -------
        loss : Tensor, scalar
            Mean cross-entropy.
        counts : dict of str to Tensor
            ``hits``, the clips classified correctly, and ``clips``.
        """
        logits = self.logits(batch)
        with torch.autocast(logits.device.type, enabled=False):
            loss = F.cross_entropy(logits, batch.labels)
        hits = (logits.argmax(1) == batch.labels).sum()
        return loss, {"hits": hits, "clips": torch.tensor(len(logits))}

    def train_metrics(self, counts: dict[str, float]) -> Metrics:
        """Return the training accuracy over the epoch.

        Parameters
        ----------
        counts : dict of str to float
            The counts of ``loss``, summed over the epoch.
        """
        return {"accuracy": round(counts["hits"] / counts["clips"], 5)}

    def evaluate(self, run: Run) -> Metrics:
        """Measure loss, accuracies, macro AUROC and macro AUPRC on the validation clips.

        Parameters
        ----------
        run : Run
            Device and precision of the run.
        """
        parts = []
        for batch in run.batches(self._valid, in_order(self._valid, 2 * self._batch_size)):
            with run.autocast():
                parts.append(self.logits(batch).cpu())
        logits = torch.cat(parts)
        labels = torch.from_numpy(self._valid.labels)
        return {
            "loss": float(F.cross_entropy(logits, labels)),
            **class_metrics(logits.softmax(1).numpy(), self._valid.labels),
        }

    def export(self, path: Path, history: list[Metrics]) -> None:
        """Write the network with its training record.

        Parameters
        ----------
        path : Path
            The weights file to write.
        history : list of dict
            Metrics of each epoch, in order.
        """
        Classifier(
            name=path.stem,
            classes=tuple(self._labels.classes),
            modalities=self._modalities,
            contract=self._contract,
            record=record_at_end(self._record, history),
            tensors=tensors_of(self.network),
        ).save(path)


def _unscored(recordings: Sequence[CachedRecording], numbers: Mapping[str, int]) -> int:
    return sum(stage not in numbers for r in recordings for stage in r.stage)
