"""Pretraining of the encoders of all modalities under one objective."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sleepfm.choices import Objective
from sleepfm.contract import Contract
from sleepfm.encoders.networks import build, initialise, tensors_of
from sleepfm.encoders.weights import Weights
from sleepfm.errors import TrainingError
from sleepfm.modality import EMBEDDING_DIM
from sleepfm.training.batches import Batch, ClipSet, in_order, shuffled
from sleepfm.training.knowledge import embedding_metrics
from sleepfm.training.loop import record_at_end
from sleepfm.training.masked import SpectrumHeads
from sleepfm.training.metrics import gallery_metrics
from sleepfm.training.modality_encoders import ModalityEncoders
from sleepfm.training.objectives import OTHERS, contrast
from sleepfm.training.physiology import RegressionHeads
from sleepfm.training.recipe import Recipe
from sleepfm.training.redundancy import barlow, covariance, vicreg
from sleepfm.training.task import Metrics, Run, Task, not_finite

_BIAS: Final = -10.0
"""Initial bias of SigLIP, as nearly all pairs of a batch do not match (arXiv 2303.15343)."""

_CLIPS_TO_FIT: Final = 2048
"""Approximate number of clips to which the heads are fitted when starting from trained weights."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random generator for a ``with`` block, and restore its state afterwards.

    Parameters
    ----------
    seed : int
        Seed of the generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Contrastive(Task):
    """The encoders of all modalities, an objective and a learned temperature.

    Parameters
    ----------
    objective : Objective
        The objective of pretraining.
    modalities : sequence of str
        The modalities; each has one encoder.
    contract : Contract
        The contract by which clips are prepared.
    recipe : Recipe
        Settings of the run.
    valid : ClipSet
        The validation clips.
    record : dict
        The training record, to be stored in the weights.
    """

    memory: Tensor
    remembered: Tensor

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
        self.networks = ModalityEncoders(
            initialise(contract, modalities, recipe.seed, recipe.dropout)
        )
        self.temperature = nn.Parameter(torch.tensor(recipe.temperature))
        self.bias = nn.Parameter(torch.tensor(_BIAS), requires_grad=objective == "siglip")
        self.readers: RegressionHeads | None = None
        with seeded(recipe.seed):
            self.spectra = SpectrumHeads(contract, modalities) if recipe.masked else None
        size = (recipe.memory, len(modalities), EMBEDDING_DIM)
        self.register_buffer("memory", torch.zeros(size))
        self.register_buffer("remembered", torch.zeros((), dtype=torch.int64))
        self._recipe = recipe
        self._contract = contract
        self._batch_size = recipe.batch_size
        self._valid = valid
        self._record = record

    def add_regression(self, targets: NDArray[np.float32]) -> None:
        """Add linear heads that predict regression targets from the encoder outputs.

        Parameters
        ----------
        targets : ndarray of float32, shape [clips, k]
            Regression targets of the training clips (:mod:`sleepfm.training.physiology`).
        """
        with seeded(self._recipe.seed):
            self.readers = RegressionHeads(self.modalities, targets)

    def initialise_from(self, weights: Weights, clips: ClipSet, run: Run) -> None:
        """Copy encoders and temperature from trained weights, and fit the regression heads to them.

        Parameters
        ----------
        weights : Weights
            Trained weights of the same contract.
        clips : ClipSet
            The clips to which the heads are fitted.
        run : Run
            Device and precision of the run.

        Raises
        ------
        TrainingError
            If the weights are of another contract or lack a modality.
        """
        if weights.contract.sha256 != self._contract.sha256:
            raise TrainingError(
                f"{weights.name} expects clips of the contract {weights.contract.name}; train with "
                "--contract of the same name"
            )
        missing = [m for m in self.modalities if m not in weights.tensors]
        if missing:
            raise TrainingError(f"{weights.name} has no encoder for {', '.join(missing)}")
        for modality in self.modalities:
            state = build(weights, modality).state_dict()
            self.networks[str(modality)].load_state_dict(state)
        with torch.no_grad():
            self.temperature.copy_(torch.tensor(max(weights.temperature, self.temperature.item())))
        if self.readers is not None:
            self._fit_heads(clips, run)

    @torch.no_grad()
    def _fit_heads(self, clips: ClipSet, run: Run) -> None:
        self.eval()
        orders = shuffled(clips, self._batch_size, 1, 0, 0)[: _CLIPS_TO_FIT // self._batch_size + 1]
        parts, target_parts, present_parts = [], [], []
        for batch in run.batches(clips, orders):
            with run.autocast():
                parts.append(self.outputs(batch))
            assert batch.targets is not None
            target_parts.append(batch.targets)
            full = torch.ones(len(parts[-1]), len(batch.targets), dtype=torch.bool)
            present_parts.append((full if batch.present is None else batch.present).to(run.device))
        present, targets = torch.cat(present_parts, dim=1), torch.cat(target_parts)
        assert self.readers is not None
        for i, modality in enumerate(self.modalities):
            modality_outputs = torch.cat([p[i] for p in parts])[present[i]]
            self.readers.fit(modality, modality_outputs, targets[present[i]])

    def encode(self, batch: Batch) -> list[Tensor]:
        """Return the embeddings of a batch: the outputs scaled to unit length.

        Parameters
        ----------
        batch : Batch
            Clips, on the device of the networks.
        """
        return [F.normalize(x, dim=1) for x in self.outputs(batch)]

    def outputs(self, batch: Batch) -> list[Tensor]:
        """Return the encoder outputs: float32 [n, 512] per modality, zero where a clip lacks it.

        Parameters
        ----------
        batch : Batch
            Clips, on the device of the networks.
        """
        return self.networks.outputs(batch)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of objective and auxiliary losses, and counts for the metrics.

        Parameters
        ----------
        batch : Batch
            Clips, on the device of the networks.
        """
        recipe, present, unmasked = self._recipe, batch.present, batch
        if self.spectra is not None and batch.hidden is not None:
            batch = self.spectra.hide(batch)
        views = [batch]
        if recipe.within:
            middle = next(iter(batch.signals.values())).shape[-1] // 2
            views = [batch.window(0, middle), batch.window(middle, 2 * middle)]
        outputs = [self.outputs(view) for view in views]
        losses: list[Tensor] = []
        counts: dict[str, Tensor] = {}
        with torch.autocast(self.temperature.device.type, enabled=False):
            errors = [self._regression_loss(x, batch) for x in outputs]
            if errors[0] is not None:
                mean = torch.stack([r for r in errors if r is not None]).mean()
                counts = {"read": mean.detach(), "batches": torch.tensor(1)}
                losses.append((1.0 if self.objective == "physiology" else recipe.physiology) * mean)
            for encoded in outputs:
                if self.objective != "physiology":
                    losses.append(self._objective_loss(encoded, present, counts) / len(outputs))
                if recipe.covariance:
                    term = torch.stack([covariance(x) for x in encoded if len(x) > 1]).mean()
                    losses.append(recipe.covariance * term / len(outputs))
            if recipe.within:
                losses.append(recipe.within * self._half_clip_loss(outputs, present))
            if self.spectra is not None and batch.hidden is not None:
                losses.append(recipe.masked * self._masked_loss(outputs, unmasked))
        return torch.stack(losses).sum(), counts

    def _objective_loss(
        self, outputs: list[Tensor], present: Tensor | None, counts: dict[str, Tensor]
    ) -> Tensor:
        """Return the loss of the objective, without auxiliary losses; add its hits to counts."""
        if self.objective == "barlow":
            return barlow(outputs, present)
        if self.objective == "vicreg":
            return vicreg(outputs, present)
        vectors = [F.normalize(x, dim=1) for x in outputs]
        negatives = self.memory[: int(self.remembered.clamp(max=len(self.memory)))].clone()
        contrasted = contrast(
            self.objective,
            vectors,
            self.temperature,
            present,
            memory=list(negatives.unbind(1)) if len(negatives) else None,
            bias=self.bias,
        )
        if len(self.memory) and torch.is_grad_enabled():
            self._remember(vectors, present)
        for term in contrasted.terms:
            name = self._name(term.first, term.second)
            for key, value in (("hits", term.hits), ("clips", torch.tensor(2 * term.clips))):
                counts[f"{name}/{key}"] = counts.get(f"{name}/{key}", 0) + value
        return contrasted.loss

    @torch.no_grad()
    def _remember(self, vectors: list[Tensor], present: Tensor | None) -> None:
        """Add clips with all modalities to the memory, replacing the oldest."""
        rows = torch.stack(vectors, dim=1)
        rows = (rows if present is None else rows[present.all(dim=0)])[: len(self.memory)]
        slots = (self.remembered + torch.arange(len(rows), device=rows.device)) % len(self.memory)
        self.memory[slots] = rows
        self.remembered += len(rows)

    def _half_clip_loss(self, outputs: list[list[Tensor]], present: Tensor | None) -> Tensor:
        """Return the SimCLR loss between the two halves of each clip, mean over the modalities."""
        parts = []
        for i, (a, b) in enumerate(zip(*outputs, strict=True)):
            mask = slice(None) if present is None else present[i]
            halves = [F.normalize(x[mask], dim=1) for x in (a, b)]
            if len(halves[0]) > 1:
                parts.append(contrast("pairwise", halves, self.temperature).loss)
        return torch.stack(parts).mean()

    def _masked_loss(self, outputs: list[list[Tensor]], batch: Batch) -> Tensor:
        """Return the masked reconstruction loss, mean over the modalities."""
        assert self.spectra is not None and batch.hidden is not None
        parts = []
        for x in outputs:
            for i, modality in enumerate(self.modalities):
                mask = slice(None) if batch.present is None else batch.present[i]
                signals = batch.signals[modality][mask]
                parts.append(self.spectra.loss(modality, x[i][mask], signals, batch.hidden[mask]))
        return torch.stack(parts).mean()

    def _regression_loss(self, outputs: list[Tensor], batch: Batch) -> Tensor | None:
        """Return the regression loss, mean over the modalities; None without targets or heads."""
        present, targets = batch.present, batch.targets
        if self.readers is None or targets is None:
            return None
        parts = []
        for i, modality in enumerate(self.modalities):
            mask = slice(None) if present is None else present[i]
            weights = batch.target_weights.get(modality)
            parts.append(self.readers.loss(modality, outputs[i][mask], targets[mask], weights))
        return torch.stack(parts).mean()

    def constrain(self) -> None:
        """Keep the temperature at 0 or above, as the authors do."""
        with torch.no_grad():
            self.temperature.clamp_(min=0)

    def train_metrics(self, counts: dict[str, float]) -> Metrics:
        """Return top-1 accuracy within batches, over both directions, and the temperature.

        Parameters
        ----------
        counts : dict of str to float
            The counts of ``loss``, summed over the batches of the epoch.
        """
        names = [k.removesuffix("/clips") for k in counts if k.endswith("/clips")]
        top1 = {n: round(counts[f"{n}/hits"] / counts[f"{n}/clips"], 5) for n in names}
        metrics: Metrics = {"top1_in_batch": top1, "temperature": self.temperature.item()}
        if "read" in counts:
            metrics["read"] = round(counts["read"] / counts["batches"], 5)
        return metrics

    def evaluate(self, run: Run) -> Metrics:
        """Measure recall over all validation clips, and the loss in batches of the usual size.

        Parameters
        ----------
        run : Run
            Device and precision of the run.
        """
        parts: list[list[Tensor]] = []
        size = self._batch_size
        for batch in run.batches(self._valid, list(in_order(self._valid, size))):
            with run.autocast():
                parts.append(self.outputs(batch))
            if not all(bool(x.isfinite().all()) for x in parts[-1]):
                raise not_finite(batch, "the output for validation clips")
        outputs = [torch.cat(chunks) for chunks in zip(*parts, strict=True)]
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
            "knows": embedding_metrics(
                dict(zip(self.modalities, (v.cpu().numpy() for v in vectors), strict=True)),
                dict(zip(self.modalities, self._valid.present, strict=True)),
                self._valid,
            ),
            "gallery": gallery,
        }
        targets = self._valid.targets
        known = None if targets is None else torch.from_numpy(targets).to(run.device)
        regression = self._regression_loss(outputs, Batch({}, present, torch.empty(0), known))
        if regression is not None:
            metrics["read"] = float(regression)
        if self.objective == "physiology":
            return {"loss": metrics["read"], **metrics}
        if self.objective in ("barlow", "vicreg"):
            return {"loss": float(self._objective_loss(outputs, present, {})), **metrics}
        return {"loss": self._contrastive_loss(vectors, present), **metrics}

    def _contrastive_loss(self, vectors: list[Tensor], present: Tensor) -> float:
        count = present.shape[1]
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        losses = []
        for rows in torch.split(order, min(self._batch_size, count)):
            if len(rows) == min(self._batch_size, count):
                selected = rows.to(present.device)
                batch = [v[selected] for v in vectors]
                has = present[:, selected]
                result = contrast(self.objective, batch, self.temperature, has, bias=self.bias)
                losses.append(result.loss)
        return float(torch.stack(losses).mean())

    def export(self, path: Path, history: list[Metrics]) -> None:
        """Write the encoders with their training record.

        Parameters
        ----------
        path : Path
            The weights file to write.
        history : list of dict
            Metrics of each epoch, in order.
        """
        networks = dict(self.networks.items())
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
