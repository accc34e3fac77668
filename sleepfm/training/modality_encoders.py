"""The encoders of all modalities, applied to a batch in which clips may lack a modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sleepfm.contract import Contract
from sleepfm.modality import EMBEDDING_DIM
from sleepfm.training.batches import Batch
from sleepfm.training.captured import Captured
from sleepfm.training.recipe import Recipe
from sleepfm.training.task import Run


class ModalityEncoders(nn.ModuleDict):
    """One network per modality.

    Parameters
    ----------
    networks : mapping of str to Module
        The networks by modality, in the order of the rows of ``Batch.present``.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__({str(name): network for name, network in networks.items()})
        self._captured: Captured | None = None

    def capture(self, contract: Contract, recipe: Recipe, run: Run) -> None:
        """Capture the networks as CUDA graphs, which training steps on whole batches then use.

        Parameters
        ----------
        contract : Contract
            The contract by which clips are prepared.
        recipe : Recipe
            Supplies the batch size and the window of a step.
        run : Run
            Device and precision of the run; the device is a GPU.
        """
        samples = recipe.window_samples(contract)
        shapes = {m: (recipe.batch_size, len(contract.slots_of(m)), samples) for m in self}
        self._captured = Captured(dict(self.items()), shapes, run)

    def outputs(self, batch: Batch) -> list[Tensor]:
        """Return the outputs: float32 [n, 512] per modality, zero where a clip lacks it.

        Parameters
        ----------
        batch : Batch
            Clips, on the device of the networks.
        """
        outputs = []
        for i, modality in enumerate(self):
            signals = batch.signals[modality]
            present = None if batch.present is None else batch.present[i]
            if present is None or bool(present.all()):
                outputs.append(self._run(modality, signals, None).float())
                continue
            out = torch.zeros(len(signals), EMBEDDING_DIM, device=signals.device)
            rows = present.nonzero().flatten()
            # batch normalisation in training mode needs at least two clips
            if len(rows) > int(self.training):
                out[rows] = self._run(modality, signals, rows).float()
            outputs.append(out)
        return outputs

    def _run(self, modality: str, signals: Tensor, rows: Tensor | None) -> Tensor:
        graphs = self._captured
        if self.training and torch.is_grad_enabled() and graphs and graphs.fits(modality, signals):
            return graphs.outputs(modality, signals, rows)
        outputs: Tensor = self[modality](signals if rows is None else signals[rows])
        return outputs
