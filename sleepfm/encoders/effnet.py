"""The SleepFM encoder: a one-dimensional EfficientNet from a 30 s clip to 512 numbers.

The layers and the keys of the state dict are those of the encoder that Thapa et al. (ICML 2024,
arXiv 2405.17766) published. Its blocks are the inverted residuals of MobileNetV2 (Sandler et al.,
2018), scaled as in EfficientNet (Tan and Le, 2019).
"""

from __future__ import annotations

import copy
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sleepfm.encoders.layout import (
    EARLY,
    EXPANSION,
    HEAD,
    POOLED,
    STAGES,
    STEM,
    WIDTHS,
    blocks,
)
from sleepfm.modality import EMBEDDING_DIM

DROPOUT: Final = 0.5
"""The authors' rate, both in the residual branches and before the last layer."""


class Conv(nn.Conv1d):
    """A 1-D convolution computed as a 2-D one over an image one pixel high.

    Weights keep their 1-D shape. CPUs and GPUs run 2-D channels-last kernels fastest, above all in
    bfloat16.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a batch.

        Parameters
        ----------
        x : Tensor, shape [n, channels, 1, time]

        Returns
        -------
        Tensor, shape [n, out_channels, 1, time / stride]
        """
        return F.conv2d(
            x,
            self.weight.unsqueeze(2),
            self.bias,
            stride=(1, self.stride[0]),
            padding=(0, int(self.padding[0])),
            groups=self.groups,
        )


class Bottleneck(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, 1x1 projection.

    Parameters
    ----------
    in_channels, out_channels : int
        Width of the input and of the output.
    stride : int
        Stride of the depthwise convolution; at stride 1 the input is added to the result.
    dropout : float
        Dropout rate of the branch before the addition.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        wide = in_channels * EXPANSION
        self.conv1 = Conv(in_channels, wide, 1)
        self.b0: nn.Module = nn.BatchNorm2d(wide)
        self.conv2 = Conv(wide, wide, 3, stride=stride, padding=1, groups=wide)
        self.b1: nn.Module = nn.BatchNorm2d(wide)
        self.conv3 = Conv(wide, out_channels, 1)
        self.dropout = nn.Dropout(dropout)
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : Tensor, shape [n, in_channels, 1, time]

        Returns
        -------
        Tensor, shape [n, out_channels, 1, time / stride]
        """
        y = F.relu6(self.b0(self.conv1(x)), inplace=True)
        z: Tensor = self.conv3(F.relu6(self.b1(self.conv2(y)), inplace=True))
        if not self.residual:
            return z
        branch: Tensor = self.dropout(z)
        return x + branch


class MBConv(nn.Module):
    """One stage: residual bottlenecks at the input width, then one that halves the time axis.

    Parameters
    ----------
    in_channels, out_channels : int
        Width of the input and of the output.
    numbers : list of int
        Numbers of the blocks in the published state dict.
    dropout : float
        Dropout rate of the residual branches.
    """

    def __init__(
        self, in_channels: int, out_channels: int, numbers: list[int], dropout: float
    ) -> None:
        super().__init__()
        *residual, last = numbers
        self.stack = nn.Sequential()
        for i in residual:
            self.stack.add_module(f"s{i}", Bottleneck(in_channels, in_channels, 1, dropout))
        self.stack.add_module(f"s{last}", Bottleneck(in_channels, out_channels, 2, dropout))
        self.bn: nn.Module = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the stage.

        Parameters
        ----------
        x : Tensor, shape [n, in_channels, 1, time]

        Returns
        -------
        Tensor, shape [n, out_channels, 1, time / 2]
        """
        out: Tensor = self.bn(self.stack(x))
        return out


class EffNet(nn.Module):
    """The encoder of one modality.

    Parameters
    ----------
    channels : int
        Input channels: the modality's slots.
    dropout : float
        Dropout rate; the authors train with 0.5. It has no effect in evaluation mode.
    outputs : int
        Length of the output: 512 for an embedding, the number of classes for a classifier.
    """

    def __init__(
        self, channels: int, dropout: float = DROPOUT, outputs: int = EMBEDDING_DIM
    ) -> None:
        super().__init__()
        self.stage1 = Conv(channels, STEM, 3, stride=2, padding=1)
        self.b0: nn.Module = nn.BatchNorm2d(STEM)
        in_channels = STEM
        for number, width in zip(STAGES, WIDTHS, strict=True):
            setattr(self, f"stage{number}", MBConv(in_channels, width, blocks(number), dropout))
            in_channels = width
        self.stage9 = Conv(in_channels, HEAD, 1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(HEAD, outputs)

    def forward(self, clips: Tensor) -> Tensor:
        """Encode clips.

        Parameters
        ----------
        clips : Tensor, shape [n, channels, samples]
            Prepared as the contract of the weights requires.

        Returns
        -------
        Tensor, shape [n, outputs]
            Not normalised.
        """
        return self.late(self.early(clips))

    def early(self, clips: Tensor) -> Tensor:
        """Run the stem and stages 2 to 4.

        This is a third of the work. Most of the error of half precision arises here
        (docs/encoding.md).

        Parameters
        ----------
        clips : Tensor, shape [n, channels, samples]

        Returns
        -------
        Tensor, shape [n, 40, 1, samples / 16]
        """
        x = clips.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        x = self.b0(self.stage1(x))
        return self._stages(x, range(STAGES.start, EARLY + 1))

    def late(self, x: Tensor) -> Tensor:
        """Run the remaining stages and the last layer.

        Parameters
        ----------
        x : Tensor, shape [n, 40, 1, samples / 16]
            Output of :meth:`early`.

        Returns
        -------
        Tensor, shape [n, outputs]
            Not normalised.
        """
        x = self._stages(x, range(EARLY + 1, STAGES.stop))
        x = F.relu(self.stage9(x).mean(dim=(2, 3)))
        out: Tensor = self.fc(self.dropout(x))
        return out

    def _stages(self, x: Tensor, numbers: range) -> Tensor:
        for number in numbers:
            x = getattr(self, f"stage{number}")(x)
            if number in POOLED:
                x = F.max_pool2d(x, (1, 3), stride=1, padding=(0, 1))
        return x


def fold_batch_norms(network: EffNet) -> EffNet:
    """Copy a network for evaluation, with each batch norm folded into the convolution before it.

    Parameters
    ----------
    network : EffNet
        In evaluation mode, on any device; it is not changed.

    Returns
    -------
    EffNet
        On the same device, without gradients.
    """
    net = copy.deepcopy(network).eval().requires_grad_(False)

    def fold(convolution: nn.Module, norm: nn.Module) -> Conv:
        assert isinstance(convolution, Conv) and isinstance(norm, nn.BatchNorm2d)
        return fuse_conv_bn_eval(convolution, norm)

    net.stage1, net.b0 = fold(net.stage1, net.b0), nn.Identity()
    for stage in (m for m in net.modules() if isinstance(m, MBConv)):
        blocks = [m for m in stage.stack if isinstance(m, Bottleneck)]
        for block in blocks:
            block.conv1, block.b0 = fold(block.conv1, block.b0), nn.Identity()
            block.conv2, block.b1 = fold(block.conv2, block.b1), nn.Identity()
        blocks[-1].conv3, stage.bn = fold(blocks[-1].conv3, stage.bn), nn.Identity()
    return net
