"""The SleepFM encoder: a one-dimensional EfficientNet from a 30 s clip to 512 numbers.

Layer for layer, and key for key in its state dict, the encoder that Thapa et al. (ICML 2024,
arXiv 2405.17766) published; its blocks are the inverted residuals of MobileNetV2 (Sandler et al.,
2018) scaled as in EfficientNet (Tan and Le, 2019).
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
    """A 1-D convolution run as a 2-D one over a picture one pixel high.

    Weights keep their 1-D shape; the 2-D channels-last kernels are the ones that CPUs and GPUs run
    fastest, in bfloat16 above all.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` of shape [n, channels, 1, time]."""
        return F.conv2d(
            x,
            self.weight.unsqueeze(2),
            self.bias,
            stride=(1, self.stride[0]),
            padding=(0, int(self.padding[0])),
            groups=self.groups,
        )


class Bottleneck(nn.Module):
    """Inverted residual: expand by a 1x1, filter each channel by itself, project by a 1x1.

    Parameters
    ----------
    inside, outside : int
        Channels that come in and go out.
    stride : int
        Of the depthwise convolution; at stride 1 the input is added to the result.
    dropout : float
        Rate on the branch before it is added.
    """

    def __init__(self, inside: int, outside: int, stride: int, dropout: float) -> None:
        super().__init__()
        wide = inside * EXPANSION
        self.conv1 = Conv(inside, wide, 1)
        self.b0: nn.Module = nn.BatchNorm2d(wide)
        self.conv2 = Conv(wide, wide, 3, stride=stride, padding=1, groups=wide)
        self.b1: nn.Module = nn.BatchNorm2d(wide)
        self.conv3 = Conv(wide, outside, 1)
        self.dropout = nn.Dropout(dropout)
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Give [n, outside, 1, time / stride]."""
        y = F.relu6(self.b0(self.conv1(x)), inplace=True)
        z: Tensor = self.conv3(F.relu6(self.b1(self.conv2(y)), inplace=True))
        if not self.residual:
            return z
        branch: Tensor = self.dropout(z)
        return x + branch


class MBConv(nn.Module):
    """One stage: residual bottlenecks at the incoming width, then one that halves the time.

    ``numbers`` are those that the published state dict gives the blocks.
    """

    def __init__(self, inside: int, outside: int, numbers: list[int], dropout: float) -> None:
        super().__init__()
        *residual, last = numbers
        self.stack = nn.Sequential()
        for i in residual:
            self.stack.add_module(f"s{i}", Bottleneck(inside, inside, 1, dropout))
        self.stack.add_module(f"s{last}", Bottleneck(inside, outside, 2, dropout))
        self.bn: nn.Module = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor) -> Tensor:
        """Give [n, outside, 1, time / 2]."""
        out: Tensor = self.bn(self.stack(x))
        return out


class EffNet(nn.Module):
    """The encoder of one modality.

    Parameters
    ----------
    channels : int
        Input channels: the modality's slots.
    dropout : float
        The authors train with 0.5; it plays no part in evaluation.
    outputs : int
        Length of the result: 512 for an embedding, the number of classes for a classifier.
    """

    def __init__(
        self, channels: int, dropout: float = DROPOUT, outputs: int = EMBEDDING_DIM
    ) -> None:
        super().__init__()
        self.stage1 = Conv(channels, STEM, 3, stride=2, padding=1)
        self.b0: nn.Module = nn.BatchNorm2d(STEM)
        inside = STEM
        for number, width in zip(STAGES, WIDTHS, strict=True):
            setattr(self, f"stage{number}", MBConv(inside, width, blocks(number), dropout))
            inside = width
        self.stage9 = Conv(inside, HEAD, 1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(HEAD, outputs)

    def forward(self, clips: Tensor) -> Tensor:
        """Encode clips.

        Parameters
        ----------
        clips : Tensor, shape [n, channels, samples]
            As the contract of the weights asks.

        Returns
        -------
        Tensor, shape [n, outputs]
            Not normalised.
        """
        return self.late(self.early(clips))

    def early(self, clips: Tensor) -> Tensor:
        """Give what the stem and stages 2 to 4 make of clips: [n, 40, 1, samples / 16].

        A third of the work; half precision costs most of its error here (docs/encoding.md).
        """
        x = clips.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        x = self.b0(self.stage1(x))
        return self._stages(x, range(STAGES.start, EARLY + 1))

    def late(self, x: Tensor) -> Tensor:
        """Give the result, from what :meth:`early` gave."""
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


def folded(network: EffNet) -> EffNet:
    """Give a copy for evaluation, with every batch norm folded into the convolution before it.

    Parameters
    ----------
    network : EffNet
        In evaluation mode, on any device.
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
