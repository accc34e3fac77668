"""Encoders of all modalities with a pretraining objective."""

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
from sleepfm.training.knowledge import know
from sleepfm.training.loop import record_at_end
from sleepfm.training.masked import SpectrumReaders
from sleepfm.training.metrics import gallery_metrics
from sleepfm.training.objectives import OTHERS, contrast
from sleepfm.training.physiology import Readers
from sleepfm.training.recipe import Recipe
from sleepfm.training.redundancy import barlow, covariance, vicreg
from sleepfm.training.task import Metrics, Run, Task

_BIAS: Final = -10.0
"""Initial bias of SigLIP: nearly all pairs of a batch do not match."""

_TO_FIT: Final = 2048
"""Clips used for fitting the heads when starting from trained weights."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Use a seed in a ``with`` block, and restore the state of torch's generator.

    Parameters
    ----------
    seed : int
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Contrastive(Task):
    """The encoders under one objective, with a learned temperature.

    Parameters
    ----------
    objective : Objective
    modalities : sequence of str
        One encoder each.
    contract : Contract
    recipe : Recipe
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
        networks = initialise(contract, modalities, recipe.seed, recipe.dropout)
        self.networks = nn.ModuleDict({str(m): n for m, n in networks.items()})
        self.temperature = nn.Parameter(torch.tensor(recipe.temperature))
        self.bias = nn.Parameter(torch.tensor(_BIAS), requires_grad=objective == "siglip")
        self.readers: Readers | None = None
        with seeded(recipe.seed):
            self.spectra = SpectrumReaders(contract, modalities) if recipe.masked else None
        size = (recipe.memory, len(modalities), EMBEDDING_DIM)
        self.register_buffer("memory", torch.zeros(size))
        self.register_buffer("remembered", torch.zeros((), dtype=torch.int64))
        self._recipe = recipe
        self._contract = contract
        self._batch_size = recipe.batch_size
        self._valid = valid
        self._record = record

    def read_off(self, known: NDArray[np.float32]) -> None:
        """Add heads that predict the known values of the training clips.

        Parameters
        ----------
        known : ndarray of float32, shape [clips, k]
        """
        with seeded(self._recipe.seed):
            self.readers = Readers(self.modalities, known)

    def begin(self, weights: Weights, clips: ClipSet, run: Run) -> None:
        """Copy encoders and temperature from weights, and fit the heads to them.

        Parameters
        ----------
        weights : Weights
        clips : ClipSet
            The clips to which the heads are fitted.
        run : Run

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
        """Return unit vectors, float32 [n, 512], of each modality; zero where a clip lacks it.

        Parameters
        ----------
        batch : Batch
        """
        return [F.normalize(x, dim=1) for x in self.outputs(batch)]

    def outputs(self, batch: Batch) -> list[Tensor]:
        """Return what the encoders say, float32 [n, 512]; zero where a clip lacks a modality.

        Parameters
        ----------
        batch : Batch
        """
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
        """Weigh the objective and what stands beside it; counts hits of each term.

        Parameters
        ----------
        batch : Batch
        """
        recipe, present, whole = self._recipe, batch.present, batch
        if self.spectra is not None and batch.hidden is not None:
            batch = self.spectra.hide(batch)
        if recipe.within:
            middle = next(iter(batch.signals.values())).shape[-1] // 2
            views = [batch.window(0, middle), batch.window(middle, 2 * middle)]
        else:
            views = [batch]
        outputs = [self.outputs(view) for view in views]
        losses: list[Tensor] = []
        counts: dict[str, Tensor] = {}
        with torch.autocast(self.temperature.device.type, enabled=False):
            reads = [self._read(own, batch.targets, present) for own in outputs]
            if reads[0] is not None:
                read = torch.stack([r for r in reads if r is not None]).mean()
                counts = {"read": read.detach(), "batches": torch.tensor(1)}
                losses.append((1.0 if self.objective == "physiology" else recipe.physiology) * read)
            for own in outputs:
                if self.objective != "physiology":
                    losses.append(self._shared(own, present, counts) / len(outputs))
                if recipe.covariance:
                    term = torch.stack([covariance(x) for x in own if len(x) > 1]).mean()
                    losses.append(recipe.covariance * term / len(outputs))
            if recipe.within:
                losses.append(recipe.within * self._within(outputs, present))
            if self.spectra is not None and batch.hidden is not None:
                losses.append(recipe.masked * self._masked(outputs, whole))
        return torch.stack(losses).sum(), counts

    def _shared(
        self, outputs: list[Tensor], present: Tensor | None, counts: dict[str, Tensor]
    ) -> Tensor:
        """Return the loss of the objective itself, and count its hits."""
        if self.objective == "barlow":
            return barlow(outputs, present)
        if self.objective == "vicreg":
            return vicreg(outputs, present)
        vectors = [F.normalize(x, dim=1) for x in outputs]
        old = self.memory[: int(self.remembered.clamp(max=len(self.memory)))].clone()
        found = contrast(
            self.objective,
            vectors,
            self.temperature,
            present,
            memory=list(old.unbind(1)) if len(old) else None,
            bias=self.bias,
        )
        if len(self.memory) and torch.is_grad_enabled():
            self._remember(vectors, present)
        for term in found.terms:
            name = self._name(term.first, term.second)
            for key, value in (("hits", term.hits), ("clips", torch.tensor(2 * term.clips))):
                counts[f"{name}/{key}"] = counts.get(f"{name}/{key}", 0) + value
        return found.loss

    @torch.no_grad()
    def _remember(self, vectors: list[Tensor], present: Tensor | None) -> None:
        """Add clips with all modalities to the memory, replacing the oldest."""
        rows = torch.stack(vectors, dim=1)
        rows = (rows if present is None else rows[present.all(dim=0)])[: len(self.memory)]
        at = (self.remembered + torch.arange(len(rows), device=rows.device)) % len(self.memory)
        self.memory[at] = rows
        self.remembered += len(rows)

    def _within(self, outputs: list[list[Tensor]], present: Tensor | None) -> Tensor:
        """Contrast the two halves of the clips, within each modality (SimCLR)."""
        parts = []
        for which, (a, b) in enumerate(zip(*outputs, strict=True)):
            has = slice(None) if present is None else present[which]
            pair = [F.normalize(x[has], dim=1) for x in (a, b)]
            if len(pair[0]) > 1:
                parts.append(contrast("pairwise", pair, self.temperature).loss)
        return torch.stack(parts).mean()

    def _masked(self, outputs: list[list[Tensor]], whole: Batch) -> Tensor:
        """Read the spectra of what was hidden off the outputs."""
        assert self.spectra is not None and whole.hidden is not None
        parts = []
        for own in outputs:
            for which, modality in enumerate(self.modalities):
                has = slice(None) if whole.present is None else whole.present[which]
                signals = whole.signals[modality][has]
                parts.append(
                    self.spectra.loss(modality, own[which][has], signals, whole.hidden[has])
                )
        return torch.stack(parts).mean()

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
        """Top-1 within the batch, both directions together, and the temperature.

        Parameters
        ----------
        counts : dict of str to float
        """
        names = [k.removesuffix("/clips") for k in counts if k.endswith("/clips")]
        top1 = {n: round(counts[f"{n}/hits"] / counts[f"{n}/clips"], 5) for n in names}
        metrics: Metrics = {"top1_in_batch": top1, "temperature": self.temperature.item()}
        if "read" in counts:
            metrics["read"] = round(counts["read"] / counts["batches"], 5)
        return metrics

    def evaluate(self, run: Run) -> Metrics:
        """Recall over the whole validation gallery, and the loss in batches of training's size.

        Parameters
        ----------
        run : Run
        """
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
        if self.objective in ("barlow", "vicreg"):
            return {"loss": float(self._shared(outputs, present, {})), **metrics}
        return {"loss": self._valid_loss(vectors, present), **metrics}

    def _valid_loss(self, vectors: list[Tensor], present: Tensor) -> float:
        count = present.shape[1]
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        losses = []
        for rows in torch.split(order, min(self._batch_size, count)):
            if len(rows) == min(self._batch_size, count):
                own = rows.to(present.device)
                some = [v[own] for v in vectors]
                found = contrast(
                    self.objective, some, self.temperature, present[:, own], bias=self.bias
                )
                losses.append(found.loss)
        return float(torch.stack(losses).mean())

    def export(self, path: Path, history: list[Metrics]) -> None:
        """Write the encoders with their training record.

        Parameters
        ----------
        path : Path
        history : list of dict
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
