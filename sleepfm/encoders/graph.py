"""The encoder as an OpenVINO graph, built from its tensors: no torch, no tracing, no converter.

OpenVINO's own ``convert_model`` reports its use over the network and traces by a part of torch that
is on its way out. The network is seven stages of one block, so it is written down here once more,
layer for layer as in :mod:`sleepfm.encoders.effnet`; tests hold the two together, and so does the
check that every build starts with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from sleepfm.encoders.layout import EARLY, POOLED, STAGES, blocks

if TYPE_CHECKING:
    import openvino

_EPSILON: Final = 1e-5  # torch.nn.BatchNorm1d

Tensors = Mapping[str, NDArray[Any]]
Array = NDArray[np.float32]


def early_graph(tensors: Tensors, batch: int, slots: int, samples: int) -> openvino.Model:
    """Give the stem and the early stages: [batch, slots, samples] to [batch, 40, samples / 16]."""
    from openvino import opset13 as ops

    clips = ops.parameter([batch, slots, samples], np.float32, name="clips")
    x = _convolved(ops, clips, *folded(tensors, "stage1", "b0"), stride=2, padding=1)
    return _model(_staged(ops, x, tensors, range(2, EARLY + 1)), clips)


def late_graph(tensors: Tensors, batch: int, width: int, length: int) -> openvino.Model:
    """Give everything after the early stages: [batch, width, length] to [batch, 512]."""
    from openvino import opset13 as ops

    early = ops.parameter([batch, width, length], np.float32, name="early")
    x = _staged(ops, early, tensors, range(EARLY + 1, STAGES.stop))
    x = _convolved(ops, x, *folded(tensors, "stage9"))
    x = ops.relu(ops.reduce_mean(x, ops.constant(np.array([2])), keep_dims=False))
    x = ops.matmul(x, ops.constant(_float32(tensors["fc.weight"])), False, True)
    return _model(ops.add(x, ops.constant(_float32(tensors["fc.bias"]))), early)


def folded(tensors: Tensors, convolution: str, norm: str = "") -> tuple[Array, Array]:
    """Give kernel and bias of a convolution, the batch norm after it folded in."""
    kernel = tensors[f"{convolution}.weight"].astype(np.float64)
    bias = tensors[f"{convolution}.bias"].astype(np.float64)
    if norm:
        weight, shift, mean, variance = (
            tensors[f"{norm}.{name}"].astype(np.float64)
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        gain = weight / np.sqrt(variance + _EPSILON)
        kernel, bias = kernel * gain[:, None, None], (bias - mean) * gain + shift
    return kernel.astype(np.float32), bias.astype(np.float32)


def _staged(ops: Any, x: Any, tensors: Tensors, numbers: range) -> Any:
    for number in numbers:
        for block in blocks(number):
            x = _bottleneck(ops, x, tensors, number, block, last=block == blocks(number)[-1])
        if number in POOLED:
            x = ops.max_pool(x, [1], [1], [1], [1], [3]).output(0)
    return x


def _bottleneck(ops: Any, x: Any, tensors: Tensors, stage: int, block: int, last: bool) -> Any:
    own = f"stage{stage}.stack.s{block}"
    y = _convolved(ops, x, *folded(tensors, f"{own}.conv1", f"{own}.b0"))
    y = ops.clamp(y, 0.0, 6.0)
    kernel, bias = folded(tensors, f"{own}.conv2", f"{own}.b1")
    y = _convolved(ops, y, kernel, bias, stride=2 if last else 1, padding=1, by_channel=True)
    y = ops.clamp(y, 0.0, 6.0)
    y = _convolved(ops, y, *folded(tensors, f"{own}.conv3", f"stage{stage}.bn" if last else ""))
    return y if last else ops.add(x, y)


def _convolved(
    ops: Any,
    x: Any,
    kernel: Array,
    bias: Array,
    *,
    stride: int = 1,
    padding: int = 0,
    by_channel: bool = False,
) -> Any:
    how = ([stride], [padding], [padding], [1])
    if by_channel:
        y = ops.group_convolution(x, ops.constant(kernel[:, None]), *how)
    else:
        y = ops.convolution(x, ops.constant(kernel), *how)
    return ops.add(y, ops.constant(bias[None, :, None]))


def _float32(values: NDArray[Any]) -> Array:
    return values.astype(np.float32)


def _model(result: Any, parameter: Any) -> openvino.Model:
    import openvino

    return openvino.Model([result], [parameter], "encoder")
