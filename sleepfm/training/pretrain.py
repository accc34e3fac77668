"""Contrastive pretraining: recordings in, weights out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sleepfm.contract import Contract
from sleepfm.encoders.inference import choose_device
from sleepfm.encoders.networks import build, initialise, tensors_of
from sleepfm.encoders.weights import Weights
from sleepfm.errors import TrainingError
from sleepfm.modality import EMBEDDING_DIM, Modality
from sleepfm.training.batches import Batch, ClipSet, in_order, shuffled
from sleepfm.training.clipcache import CachedRecording
from sleepfm.training.data import Data, Watch, gather, identity_of, record_of
from sleepfm.training.knowledge import know
from sleepfm.training.loop import fit, record_at_end, refuse_taken
from sleepfm.training.metrics import gallery_metrics
from sleepfm.training.objectives import OTHERS, Objective, contrast
from sleepfm.training.physiology import Readers, targets_of
from sleepfm.training.recipe import AUTHORS, Precision, Recipe
from sleepfm.training.task import Metrics, Run, Task, choose_precision

__all__ = ["Contrastive", "Data", "Watch", "pretrain"]

_TO_FIT: Final = 2048
"""Clips that heads are fitted on where a run begins from trained weights."""


def pretrain(
    data: Data,
    out: Path,
    objective: Objective = "leave-one-out",
    recipe: Recipe = AUTHORS,
    *,
    modalities: Sequence[Modality] | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    resume: bool = False,
    start: Weights | None = None,
    checkpoint_minutes: float = 5.0,
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
    objective : {"pairwise", "leave-one-out", "physiology"}
        What is contrasted with what; ``physiology`` contrasts nothing, and regresses what is known.
    recipe : Recipe
        How.
    modalities : sequence of Modality, optional
        Only these; by default all that the recordings have.
    device, precision, threads
        Where: ``auto``, ``cpu``, ``cuda``, ``mps``; ``auto``, ``float32``, ``bfloat16``; threads on
        the CPU.
    resume : bool
        Go on from the checkpoint if there is one.
    start : Weights, optional
        Trained weights to begin from, of the same contract; by default a random initialisation.
        Heads that read physiology are fitted to what these weights know.
    checkpoint_minutes : float
        Time between two checkpoints.
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
    modalities = _modalities(chosen["pretrain"], modalities or tuple(Modality))
    targets = _targets(data, chosen, objective, recipe)
    seen = {**chosen, "pretrain": _repeated(chosen["pretrain"], data.repeats)}
    clips = {
        name: ClipSet(own, data.contract, modalities, targets=targets) for name, own in seen.items()
    }
    for name, own in clips.items():
        if len(own) < 2:
            raise TrainingError(
                f"The split {name} has {len(own)} clips with two modalities; it needs at least 2."
            )
    cohort.write_splits(out)
    record = {"objective": objective, **record_of(data, clips, recipe, run)}
    record["modalities"] = [str(m) for m in modalities]
    task = Contrastive(objective, modalities, data.contract, recipe, clips["valid"], record)
    if clips["pretrain"].targets is not None:
        task.readers = Readers(modalities, clips["pretrain"].targets)
    task.to(place)
    if start is not None:
        record["started_from"] = {"name": start.name, "sha256": start.sha256}
        task.begin(start, clips["pretrain"], run)
    return fit(
        task,
        clips["pretrain"],
        recipe,
        run,
        out,
        identity=identity_of(
            [objective, data.contract.sha256, list(modalities), start.sha256 if start else ""],
            seen,
        ),
        resume=resume,
        checkpoint_minutes=checkpoint_minutes,
        progress=watch.training,
        report=watch.epoch,
    )


def _repeated(
    recordings: Sequence[CachedRecording], repeats: Mapping[str, int]
) -> list[CachedRecording]:
    return [r for r in recordings for _ in range(repeats.get(r.recording_id, 1))]


def _targets(
    data: Data,
    chosen: Mapping[str, Sequence[CachedRecording]],
    objective: Objective,
    recipe: Recipe,
) -> dict[str, NDArray[np.float32]] | None:
    """Give what is known of the clips of each recording, where that plays a part."""
    if not recipe.physiology and objective != "physiology":
        return None
    if data.truth is None:
        raise TrainingError(
            "Nothing is known of the clips to learn from; give a truth file (--truth), as "
            "`simulate --truth` writes it."
        )
    return {
        r.recording_id: targets_of(data.truth.get(r.recording_id, {}), r.stage)
        for own in chosen.values()
        for r in own
    }


class Contrastive(Task):
    """The encoders under one objective, with a learned temperature."""

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
        self.readers: Readers | None = None
        self._weight = recipe.physiology
        self._contract = contract
        self._batch_size = recipe.batch_size
        self._valid = valid
        self._record = record

    def begin(self, weights: Weights, clips: ClipSet, run: Run) -> None:
        """Take over the encoders and the temperature of some weights, and fit the heads to them.

        Raises
        ------
        TrainingError
            If the weights are of another contract or lack a modality.
        """
        if weights.contract.sha256 != self._contract.sha256:
            raise TrainingError(
                f"{weights.name} expects clips of the contract {weights.contract.name}; train with "
                "--contract of the same name."
            )
        missing = [m for m in self.modalities if m not in weights.tensors]
        if missing:
            raise TrainingError(f"{weights.name} has no encoder for {', '.join(missing)}.")
        for modality in self.modalities:
            state = build(weights, modality).state_dict()
            self.networks[str(modality)].load_state_dict(state)
        with torch.no_grad():
            self.temperature.copy_(torch.tensor(max(weights.temperature, self.temperature.item())))
        if self.readers is not None:
            self._fit_readers(clips, run)

    @torch.no_grad()
    def _fit_readers(self, clips: ClipSet, run: Run) -> None:
        self.eval()
        orders = shuffled(clips, self._batch_size, 1, 0, 0)[: _TO_FIT // self._batch_size + 1]
        parts, known, there = [], [], []
        for batch in run.batches(clips, orders):
            with run.autocast():
                parts.append(self.outputs(batch))
            assert batch.targets is not None
            known.append(batch.targets)
            all_of_them = torch.ones(len(parts[-1]), len(batch.targets), dtype=torch.bool)
            there.append((all_of_them if batch.present is None else batch.present).to(run.device))
        present, targets = torch.cat(there, dim=1), torch.cat(known)
        assert self.readers is not None
        for which, modality in enumerate(self.modalities):
            own = torch.cat([p[which] for p in parts])[present[which]]
            self.readers.fit(modality, own, targets[present[which]])

    def encode(self, batch: Batch) -> list[Tensor]:
        """Give unit vectors, float32 [n, 512], of each modality; zero where a clip lacks it."""
        return [F.normalize(x, dim=1) for x in self.outputs(batch)]

    def outputs(self, batch: Batch) -> list[Tensor]:
        """Give what the encoders say, float32 [n, 512]; zero where a clip lacks a modality."""
        found = []
        for which, modality in enumerate(self.modalities):
            network, signals = self.networks[str(modality)], batch.signals[modality]
            has = None if batch.present is None else batch.present[which]
            if has is None or bool(has.all()):
                found.append(network(signals).float())
                continue
            out = torch.zeros(len(signals), EMBEDDING_DIM, device=signals.device)
            # a batch norm has nothing to learn from one clip
            if int(has.sum()) > int(self.training):
                out[has] = network(signals[has]).float()
            found.append(out)
        return found

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast the vectors of a batch, and read off what is known; counts hits of each term."""
        outputs = self.outputs(batch)
        counts: dict[str, Tensor] = {}
        with torch.autocast(self.temperature.device.type, enabled=False):
            read = self._read(outputs, batch.targets, batch.present)
            if read is not None:
                counts = {"read": read.detach(), "batches": torch.tensor(1)}
            if self.objective == "physiology":
                assert read is not None
                return read, counts
            vectors = [F.normalize(x, dim=1) for x in outputs]
            found = contrast(self.objective, vectors, self.temperature, batch.present)
        loss = found.loss if read is None else found.loss + self._weight * read
        for term in found.terms:
            name = self._name(term.first, term.second)
            counts[f"{name}/hits"] = term.hits
            counts[f"{name}/clips"] = torch.tensor(2 * term.clips)
        return loss, counts

    def _read(
        self, outputs: list[Tensor], targets: Tensor | None, present: Tensor | None
    ) -> Tensor | None:
        """Error of what is read off the outputs, mean over the modalities."""
        if self.readers is None or targets is None:
            return None
        parts = []
        for which, modality in enumerate(self.modalities):
            has = slice(None) if present is None else present[which]
            parts.append(self.readers.loss(modality, outputs[which][has], targets[has]))
        return torch.stack(parts).mean()

    def constrain(self) -> None:
        """Keep the temperature at 0 or above, as the authors do."""
        with torch.no_grad():
            self.temperature.clamp_(min=0)

    def train_metrics(self, counts: dict[str, float]) -> Metrics:
        """Top-1 within the batch, both directions together, and the temperature."""
        names = [k.removesuffix("/clips") for k in counts if k.endswith("/clips")]
        top1 = {n: round(counts[f"{n}/hits"] / counts[f"{n}/clips"], 5) for n in names}
        metrics: Metrics = {"top1_in_batch": top1, "temperature": self.temperature.item()}
        if "read" in counts:
            metrics["read"] = round(counts["read"] / counts["batches"], 5)
        return metrics

    def evaluate(self, run: Run) -> Metrics:
        """Recall over the whole validation gallery, and the loss in batches of training's size."""
        parts: list[list[Tensor]] = []
        size = self._batch_size
        for batch in run.batches(self._valid, list(in_order(self._valid, size))):
            with run.autocast():
                parts.append(self.outputs(batch))
        outputs = [torch.cat(own) for own in zip(*parts, strict=True)]
        vectors = [F.normalize(x, dim=1) for x in outputs]
        present = torch.from_numpy(self._valid.present).to(run.device)
        gallery = gallery_metrics(
            dict(zip(self.modalities, vectors, strict=True)),
            dict(zip(self.modalities, present, strict=True)),
        )
        recalls = [g["recall_at_1"] for g in gallery.values() if g["gallery"]]
        recalls_10 = [g["recall_at_10"] for g in gallery.values() if g["gallery"]]
        metrics: Metrics = {
            "mean_recall_at_1": sum(recalls) / len(recalls),
            "mean_recall_at_10": sum(recalls_10) / len(recalls_10),
            "knows": know(
                dict(zip(self.modalities, (v.cpu().numpy() for v in vectors), strict=True)),
                dict(zip(self.modalities, self._valid.present, strict=True)),
                self._valid,
            ),
            "gallery": gallery,
        }
        known = self._valid.targets
        targets = None if known is None else torch.from_numpy(known).to(run.device)
        read = self._read(outputs, targets, present)
        if read is not None:
            metrics["read"] = float(read)
        if self.objective == "physiology":
            return {"loss": metrics["read"], **metrics}
        return {"loss": self._valid_loss(vectors, present), **metrics}

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
        networks = {Modality(name): network for name, network in self.networks.items()}
        Weights(
            name=path.stem,
            trained=True,
            contract=self._contract,
            record=record_at_end(self._record, history),
            temperature=self.temperature.item(),
            tensors={m: tensors_of(n) for m, n in networks.items()},  # type: ignore[arg-type]
        ).save(path)

    def _name(self, first: int, second: int) -> str:
        other = "others" if second == OTHERS else str(self.modalities[second])
        return f"{self.modalities[first]}-{other}"


def _modalities(
    recordings: Sequence[CachedRecording], wanted: Sequence[Modality]
) -> tuple[Modality, ...]:
    there = [m for m in Modality if any(r.present.get(m, np.False_).any() for r in recordings)]
    found = tuple(m for m in there if m in wanted)
    if len(found) < 2:
        asked = "" if set(wanted) == set(Modality) else f" of {', '.join(wanted)}"
        raise TrainingError(
            f"The recordings have {'only ' + found[0] if found else 'no modality'}{asked}; "
            "contrastive training needs two modalities."
        )
    return found
