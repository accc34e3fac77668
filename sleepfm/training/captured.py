"""Encoders captured as CUDA graphs, so that a training step is not limited by kernel launches.

A step runs thousands of small kernels, which a GPU finishes faster than Python can launch them. A
CUDA graph launches all kernels of a forward or backward pass at once; it is bound to the shape of
its input.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sleepfm.training.task import Run


class _Forward(nn.Module):
    """A network as a module of its own, so that capturing leaves the network itself unchanged."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, signals: Tensor) -> Tensor:
        out: Tensor = self.network(signals)
        return out


class Captured:
    """CUDA graphs of the encoders in training mode.

    They share parameters and batch-norm statistics with the networks. The statistics that capturing
    updates are restored.

    Parameters
    ----------
    networks : mapping of str to Module
        The encoders, in training mode, on a GPU.
    shapes : mapping of str to tuple of int
        Shape [n, slots, samples] of the signals of a training batch, by modality.
    run : Run
        Device and precision of the run.
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], shapes: Mapping[str, tuple[int, ...]], run: Run
    ) -> None:
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        before = {
            name: {k: v.clone() for k, v in network.named_buffers()}
            for name, network in networks.items()
        }
        modules = {name: _Forward(network).train() for name, network in networks.items()}
        inputs = {
            name: torch.randn(shape, device=run.device, dtype=run.dtype)
            for name, shape in self.shapes.items()
        }
        # Weights are cast inside the graph, so that every replay casts the current ones.
        with torch.autocast(
            run.device.type, run.dtype, enabled=run.dtype != torch.float32, cache_enabled=False
        ):
            for name, module in modules.items():
                torch.cuda.make_graphed_callables(module, (inputs[name],))
        # torch captures on a stream of its own, and its newer versions warn of that.
        set_warn = "set_warn_on_accumulate_grad_stream_mismatch"
        getattr(torch.autograd.graph, set_warn, lambda _: None)(False)
        self._modules = modules
        with torch.no_grad():
            for name, network in networks.items():
                for key, buffer in network.named_buffers():
                    buffer.copy_(before[name][key])

    def fits(self, modality: str, signals: Tensor) -> bool:
        """Return whether signals have the captured shape.

        Parameters
        ----------
        modality : str
            Name of the modality.
        signals : Tensor, shape [n, slots, samples]
            Signals of a batch.
        """
        return self.shapes.get(modality) == tuple(signals.shape)

    def outputs(self, modality: str, signals: Tensor, rows: Tensor | None = None) -> Tensor:
        """Run one encoder on a batch of the captured shape.

        Parameters
        ----------
        modality : str
            Name of the modality.
        signals : Tensor, shape [n, slots, samples]
            Signals of a batch.
        rows : Tensor of int64, shape [k], optional
            The clips to encode, at least one. They are repeated until the batch is full, because
            the number of clips in a graph is fixed; repetitions count in the batch norms.

        Returns
        -------
        Tensor, shape [n, 512] or [k, 512]
            The outputs of all clips, or of those in ``rows``.
        """
        module = self._modules[modality]
        if rows is None:
            whole: Tensor = module(signals)
            return whole
        repeated = rows[torch.arange(len(signals), device=rows.device) % len(rows)]
        part: Tensor = module(signals[repeated])[: len(rows)]
        return part
