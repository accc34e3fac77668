"""The encoder as an OpenVINO graph, built from its tensors: no torch, no tracing, no converter.

OpenVINO's own ``convert_model`` reports its use over the network and relies on a deprecated tracer
of torch. The network is seven stages of one kind of block, so this module repeats it layer for
layer as in :mod:`sleepfm.encoders.effnet`. Tests compare the two, and so does the check at the
start of every build.
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
    """Build the stem and the early stages.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        State dict of the encoder.
    batch, slots, samples : int
        Shape of the input.

    Returns
    -------
    openvino.Model
        From [batch, slots, samples] to [batch, 40, samples / 16], float32.
    """
    from openvino import opset13 as ops

    clips = ops.parameter([batch, slots, samples], np.float32, name="clips")
    x = _convolved(ops, clips, *fold_batch_norms(tensors, "stage1", "b0"), stride=2, padding=1)
    return _model(_staged(ops, x, tensors, range(2, EARLY + 1)), clips)


def late_graph(tensors: Tensors, batch: int, width: int, length: int) -> openvino.Model:
    """Build everything after the early stages.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        State dict of the encoder.
    batch, width, length : int
        Shape of the input, which is the output of :func:`early_graph`.

    Returns
    -------
    openvino.Model
        From [batch, width, length] to [batch, 512], float32, not normalised.
    """
    from openvino import opset13 as ops

    early = ops.parameter([batch, width, length], np.float32, name="early")
    x = _staged(ops, early, tensors, range(EARLY + 1, STAGES.stop))
    x = _convolved(ops, x, *fold_batch_norms(tensors, "stage9"))
    x = ops.relu(ops.reduce_mean(x, ops.constant(np.array([2])), keep_dims=False))
    x = ops.matmul(x, ops.constant(_float32(tensors["fc.weight"])), False, True)
    return _model(ops.add(x, ops.constant(_float32(tensors["fc.bias"]))), early)


def fold_batch_norms(tensors: Tensors, convolution: str, norm: str = "") -> tuple[Array, Array]:
    """Fold a batch norm into the convolution before it.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        State dict of the encoder.
    convolution : str
        Key of the convolution, without ``.weight`` and ``.bias``.
    norm : str
        Key of the batch norm; by default there is none.

    Returns
    -------
    kernel : ndarray of float32, shape [out, in, width]
    bias : ndarray of float32, shape [out]
    """
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
    prefix = f"stage{stage}.stack.s{block}"
    y = _convolved(ops, x, *fold_batch_norms(tensors, f"{prefix}.conv1", f"{prefix}.b0"))
    y = ops.clamp(y, 0.0, 6.0)
    kernel, bias = fold_batch_norms(tensors, f"{prefix}.conv2", f"{prefix}.b1")
    y = _convolved(ops, y, kernel, bias, stride=2 if last else 1, padding=1, by_channel=True)
    y = ops.clamp(y, 0.0, 6.0)
    y = _convolved(
        ops, y, *fold_batch_norms(tensors, f"{prefix}.conv3", f"stage{stage}.bn" if last else "")
    )
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
    geometry = ([stride], [padding], [padding], [1])
    if by_channel:
        y = ops.group_convolution(x, ops.constant(kernel[:, None]), *geometry)
    else:
        y = ops.convolution(x, ops.constant(kernel), *geometry)
    return ops.add(y, ops.constant(bias[None, :, None]))


def _float32(values: NDArray[Any]) -> Array:
    return values.astype(np.float32)


def _model(result: Any, parameter: Any) -> openvino.Model:
    import openvino

    return openvino.Model([result], [parameter], "encoder")
