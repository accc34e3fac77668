"""Contrastive pretraining: recordings in, weights out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sleepfm.contract import ROBUST, Contract
from sleepfm.encoders.cache import write_atomically
from sleepfm.encoders.inference import choose_device
from sleepfm.encoders.networks import initialise, tensors_of
from sleepfm.encoders.weights import Weights
from sleepfm.errors import TrainingError
from sleepfm.modality import EMBEDDING_DIM, Modality
from sleepfm.training.batches import Batch, ClipSet, in_order
from sleepfm.training.clipcache import CachedRecording, Prepared, prepare_clips
from sleepfm.training.loop import Metrics, Run, Task, choose_precision, fit
from sleepfm.training.metrics import gallery_metrics
from sleepfm.training.objectives import OTHERS, Objective, contrast
from sleepfm.training.recipe import AUTHORS, Precision, Recipe
from sleepfm.training.splits import FRACTIONS, Split, Splits, read_subjects, split_subjects


@dataclass(frozen=True)
class Watch:
    """Who is told how it goes; each may be left out.

    Parameters
    ----------
    preparing : callable
        Called with (recordings done, recordings).
    prepared : callable
        Called once with the prepared clips and the splits.
    training : callable
        Called with (epoch, batches done, batches, loss).
    epoch : callable
        Called with the metrics of each epoch.
    """

    preparing: Callable[[int, int], None] | None = None
    prepared: Callable[[Prepared, Splits], None] | None = None
    training: Callable[[int, int, int, float], None] | None = None
    epoch: Callable[[Metrics], None] | None = None


@dataclass(frozen=True)
class Data:
    """What is trained on.

    Parameters
    ----------
    paths : sequence of str or Path
        Recordings, folders, globs or cohort lists.
    subjects : Path, optional
        subjects.csv; without it every recording is its own subject.
    fractions : mapping
        Share of the subjects in each split.
    contract : Contract
        How clips are prepared; it becomes part of the weights.
    cache : Path, optional
        Folder of the clip cache; by default ``<stem>.clips`` beside the weights.
    substitute : bool
        Whether other derivations may fill a slot.
    description : str
        What the data is, for the training record.
    """

    paths: Sequence[str | Path]
    subjects: Path | None = None
    fractions: Mapping[Split, float] = field(default_factory=lambda: FRACTIONS)
    contract: Contract = ROBUST
    cache: Path | None = None
    substitute: bool = False
    description: str = ""


def pretrain(
    data: Data,
    out: Path,
    objective: Objective = "leave-one-out",
    recipe: Recipe = AUTHORS,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> list[Metrics]:
    """Train the encoders of all modalities that the recordings have.

    Beside ``out`` (safetensors, the best epoch) lie ``<stem>.splits.json``, ``<stem>.log.jsonl``
    and ``<stem>.checkpoint.pt``; see :func:`sleepfm.training.loop.fit`.

    Parameters
    ----------
    data : Data
        What to train on.
    out : Path
        The weights file.
    objective : {"pairwise", "leave-one-out"}
        What is contrasted with what.
    recipe : Recipe
        How.
    device, precision, threads
        Where: ``auto``, ``cpu``, ``cuda``, ``mps``; ``auto``, ``float32``, ``bfloat16``; threads on
        the CPU.
    resume : bool
        Go on from the checkpoint if there is one.
    watch : Watch, optional
        Who is told how it goes.

    Returns
    -------
    list of dict
        Metrics of every epoch.

    Raises
    ------
    TrainingError
        If training cannot start or go on; the last checkpoint is intact.
    """
    watch = watch or Watch()
    if threads is not None:
        torch.set_num_threads(threads)
    place = choose_device(device)
    run = Run(place, choose_precision(place, precision))
    cache = data.cache or out.with_name(f"{out.stem}.clips")
    prepared = prepare_clips(
        data.paths, cache, data.contract, substitute=data.substitute, watch=watch.preparing
    )
    subject_of = read_subjects(data.subjects) if data.subjects else {}
    owner = {
        r.recording_id: subject_of.get(r.recording_id, r.recording_id) for r in prepared.recordings
    }
    splits = split_subjects(owner.values(), data.fractions, recipe.seed)
    if watch.prepared is not None:
        watch.prepared(prepared, splits)
    chosen = {
        split: [r for r in prepared.recordings if splits.of_subject[owner[r.recording_id]] == split]
        for split in ("pretrain", "valid")
    }
    modalities = _modalities(chosen["pretrain"])
    clips = {name: ClipSet(own, modalities) for name, own in chosen.items()}
    for name, own in clips.items():
        if len(own) < 2:
            raise TrainingError(
                f"The split {name} has {len(own)} clips with two modalities; it needs at least 2."
            )
    write_atomically(out.with_name(f"{out.stem}.splits.json"), splits.to_json().encode())
    record: Metrics = {
        "objective": objective,
        "data": data.description or f"{len(prepared.recordings)} recordings",
        "recordings": {name: len(own) for name, own in chosen.items()},
        "clips": {name: len(own) for name, own in clips.items()},
        "modalities": [str(m) for m in modalities],
        "recipe": recipe.to_json(),
        "precision": str(run.dtype).removeprefix("torch."),
        "device": place.type,
        "torch": torch.__version__,
    }
    task = Contrastive(objective, modalities, data.contract, recipe, clips["valid"], record)
    task.to(place)
    identity = _identity(objective, data.contract, modalities, chosen)
    return fit(
        task,
        clips["pretrain"],
        recipe,
        run,
        out,
        identity=identity,
        resume=resume,
        progress=watch.training,
        report=watch.epoch,
    )


class Contrastive(Task):
    """The encoders under one of the two objectives, with a learned temperature."""

    def __init__(
        self,
        objective: Objective,
        modalities: Sequence[Modality],
        contract: Contract,
        recipe: Recipe,
        valid: ClipSet,
        record: Metrics,
    ) -> None:
        super().__init__()
        self.objective: Objective = objective
        self.modalities = tuple(modalities)
        networks = initialise(contract, modalities, recipe.seed, recipe.dropout)
        self.networks = nn.ModuleDict({str(m): n for m, n in networks.items()})
        self.temperature = nn.Parameter(torch.tensor(recipe.temperature))
        self._contract = contract
        self._batch_size = recipe.batch_size
        self._valid = valid
        self._record = record

    def encode(self, batch: Batch) -> list[Tensor]:
        """Give unit vectors, float32 [n, 512], of each modality; zero where a clip lacks it."""
        vectors = []
        for which, modality in enumerate(self.modalities):
            network, signals = self.networks[str(modality)], batch.signals[modality]
            has = None if batch.present is None else batch.present[which]
            if has is None or bool(has.all()):
                vectors.append(F.normalize(network(signals).float(), dim=1))
                continue
            out = torch.zeros(len(signals), EMBEDDING_DIM, device=signals.device)
            # a batch norm has nothing to learn from one clip
            if int(has.sum()) > 1 or not self.training:
                out[has] = F.normalize(network(signals[has]).float(), dim=1)
            vectors.append(out)
        return vectors

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast the vectors of a batch; counts hits of every term."""
        vectors = self.encode(batch)
        with torch.autocast(self.temperature.device.type, enabled=False):
            found = contrast(self.objective, vectors, self.temperature, batch.present)
        counts: dict[str, Tensor] = {}
        for term in found.terms:
            name = self._name(term.first, term.second)
            counts[f"{name}/hits"] = term.hits
            counts[f"{name}/clips"] = torch.tensor(2 * term.clips)
        return found.loss, counts

    def constrain(self) -> None:
        """Keep the temperature at 0 or above, as the authors do."""
        with torch.no_grad():
            self.temperature.clamp_(min=0)

    def train_metrics(self, counts: dict[str, float]) -> Metrics:
        """Top-1 within the batch, both directions together, and the temperature."""
        names = [k.removesuffix("/clips") for k in counts if k.endswith("/clips")]
        top1 = {n: round(counts[f"{n}/hits"] / counts[f"{n}/clips"], 5) for n in names}
        return {"top1_in_batch": top1, "temperature": self.temperature.item()}

    def evaluate(self, run: Run) -> Metrics:
        """Recall over the whole validation gallery, and the loss in batches of training's size."""
        parts: list[list[Tensor]] = []
        size = 2 * self._batch_size
        for batch in run.batches(self._valid, list(in_order(self._valid, size))):
            with run.autocast():
                parts.append(self.encode(batch))
        vectors = [torch.cat(own) for own in zip(*parts, strict=True)]
        present = torch.from_numpy(self._valid.present).to(run.device)
        gallery = gallery_metrics(
            dict(zip(self.modalities, vectors, strict=True)),
            dict(zip(self.modalities, present, strict=True)),
        )
        recalls = [g["recall_at_1"] for g in gallery.values() if g["gallery"]]
        return {
            "loss": self._valid_loss(vectors, present),
            "mean_recall_at_1": sum(recalls) / len(recalls),
            "gallery": gallery,
        }

    def _valid_loss(self, vectors: list[Tensor], present: Tensor) -> float:
        count = present.shape[1]
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        losses = []
        for rows in torch.split(order, min(self._batch_size, count)):
            if len(rows) == min(self._batch_size, count):
                own = rows.to(present.device)
                some = [v[own] for v in vectors]
                found = contrast(self.objective, some, self.temperature, present[:, own])
                losses.append(found.loss)
        return float(torch.stack(losses).mean())

    def export(self, path: Path, history: list[Metrics]) -> None:
        """Write the encoders with their training record; timings are left out."""
        last = {k: v for k, v in history[-1].items() if k not in _TIMINGS}
        record = {**self._record, "epoch": last["epoch"], "metrics": last}
        networks = {Modality(name): network for name, network in self.networks.items()}
        Weights(
            name=path.stem,
            trained=True,
            contract=self._contract,
            record=record,
            temperature=self.temperature.item(),
            tensors={m: tensors_of(n) for m, n in networks.items()},  # type: ignore[arg-type]
        ).save(path)

    def _name(self, first: int, second: int) -> str:
        other = "others" if second == OTHERS else str(self.modalities[second])
        return f"{self.modalities[first]}-{other}"


_TIMINGS = ("seconds", "valid_seconds", "clips_per_s", "waiting_for_data")


def _modalities(recordings: Sequence[CachedRecording]) -> tuple[Modality, ...]:
    found = tuple(m for m in Modality if any(r.present.get(m, _NONE).any() for r in recordings))
    if len(found) < 2:
        raise TrainingError(
            f"The recordings have {'only ' + found[0] if found else 'no modality'}; "
            "contrastive training needs two modalities."
        )
    return found


_NONE = torch.zeros(0).numpy()


def _identity(
    objective: Objective,
    contract: Contract,
    modalities: Sequence[Modality],
    chosen: Mapping[str, Sequence[CachedRecording]],
) -> str:
    clips = {s: [(r.recording_id, r.count) for r in own] for s, own in chosen.items()}
    parts = [objective, contract.sha256, list(modalities), clips]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
