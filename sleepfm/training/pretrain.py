"""Contrastive pretraining: recordings in, weights out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sleepfm.choices import Objective, Precision
from sleepfm.contract import Contract
from sleepfm.encoders.inference import choose_device
from sleepfm.encoders.networks import initialise, tensors_of
from sleepfm.encoders.weights import Weights
from sleepfm.errors import TrainingError
from sleepfm.modality import EMBEDDING_DIM
from sleepfm.training.batches import Batch, ClipSet, in_order
from sleepfm.training.clipcache import CachedRecording
from sleepfm.training.data import Data, Watch, gather, identity_of, record_of
from sleepfm.training.loop import fit, record_at_end, refuse_taken
from sleepfm.training.metrics import gallery_metrics
from sleepfm.training.objectives import OTHERS, contrast
from sleepfm.training.recipe import AUTHORS, Recipe
from sleepfm.training.task import Metrics, Run, Task, choose_precision

__all__ = ["Contrastive", "Data", "Watch", "pretrain"]


def pretrain(
    data: Data,
    out: Path,
    objective: Objective = "leave-one-out",
    recipe: Recipe = AUTHORS,
    *,
    modalities: Sequence[str] | None = None,
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
    modalities : sequence of str, optional
        Only these; by default all that the recordings have.
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
    refuse_taken(out, resume)
    cohort = gather(data, out, recipe.seed, watch)
    chosen = {s: cohort.recordings(s) for s in ("pretrain", "valid")}
    modalities = _modalities(chosen["pretrain"], data.contract, modalities)
    clips = {name: ClipSet(own, data.contract, modalities) for name, own in chosen.items()}
    for name, own in clips.items():
        if len(own) < 2:
            raise TrainingError(
                f"The split {name} has {len(own)} clips with two modalities; it needs at least 2."
            )
    cohort.write_splits(out)
    record = {"objective": objective, **record_of(data, clips, recipe, run)}
    record["modalities"] = [str(m) for m in modalities]
    task = Contrastive(objective, modalities, data.contract, recipe, clips["valid"], record)
    task.to(place)
    return fit(
        task,
        clips["pretrain"],
        recipe,
        run,
        out,
        identity=identity_of([objective, data.contract.sha256, list(modalities)], chosen),
        resume=resume,
        progress=watch.training,
        report=watch.epoch,
    )


class Contrastive(Task):
    """The encoders under one of the two objectives, with a learned temperature."""

    def __init__(
        self,
        objective: Objective,
        modalities: Sequence[str],
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
            if int(has.sum()) > int(self.training):
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
        """Write the encoders with their training record."""
        Weights(
            name=path.stem,
            trained=True,
            contract=self._contract,
            record=record_at_end(self._record, history),
            temperature=self.temperature.item(),
            tensors={m: tensors_of(n) for m, n in self.networks.items()},  # type: ignore[arg-type]
        ).save(path)

    def _name(self, first: int, second: int) -> str:
        other = "others" if second == OTHERS else str(self.modalities[second])
        return f"{self.modalities[first]}-{other}"


def _modalities(
    recordings: Sequence[CachedRecording], contract: Contract, wanted: Sequence[str] | None
) -> tuple[str, ...]:
    known = contract.modalities
    odd = [m for m in wanted or () if m not in known]
    if odd:
        raise TrainingError(
            f"{contract.name} has no modality {odd[0]}; choose from {', '.join(known)}"
        )
    there = [m for m in known if any(r.present.get(m, np.False_).any() for r in recordings)]
    found = tuple(m for m in there if m in (wanted or known))
    if len(found) < 2:
        asked = f" of {', '.join(wanted)}" if wanted else ""
        raise TrainingError(
            f"The recordings have {'only ' + found[0] if found else 'no modality'}{asked}; "
            "contrastive training needs two modalities."
        )
    return found
