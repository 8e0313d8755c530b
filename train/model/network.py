"""ResNets for any number of input channels, with torchvision's parameter names, and three networks for small planes.

He et al., "Deep residual learning for image recognition", 2015. A bottleneck's stride is in its 3x3 convolution,
as in torchvision ("ResNet v1.5"), so that torchvision's weights fit. The plain stem is that of He et al. for
CIFAR's 32 x 32 pixels: it keeps the full resolution for the first layer.
"""

from collections.abc import Sequence

import torch
from torch import nn

from pipeline.features.frequencies import compute_frequencies


def _convolve(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.conv1 = _convolve(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _convolve(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.relu(x + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.conv1 = _convolve(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolve(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolve(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.relu(x + shortcut)


# Name: kind of block, channels of the first layer (each further one has twice as many), and blocks in each layer.
LAYERS = {
    "resnet18": (BasicBlock, 64, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, 64, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, 64, (3, 4, 6, 3)),
    "small": (BasicBlock, 32, (1, 1, 1)),
}
LINEAR = "linear"
RADIAL = "radial"
RADIAL_UP_TO = 128  # side of the planes; the table of rings needs gigabytes beyond
PLAIN_UP_TO = 64  # side of the planes, in bins, beyond which "auto" chooses the strided stem


def resolve_stem(stem: str, side: int) -> str:
    """Return the stem for planes of that side; "auto" is "plain" for small planes, else "strided"."""
    if stem != "auto":
        return stem
    return "plain" if side <= PLAIN_UP_TO else "strided"


def build_network(name: str, inputs: Sequence[str], side: int, classes: int, dropout: float, stem: str) -> nn.Module:
    """Build the network of that name, one of `LAYERS`, "linear" or "radial".

    Parameters
    ----------
    inputs : sequence of str, the kind of each plane
    side : int, of the planes, in bins
    classes, dropout, stem : see `ResNet`
    """
    if name == LINEAR:
        return LinearNetwork(len(inputs) * side**2, classes, dropout)
    if name == RADIAL:
        return RadialNetwork(inputs, side, classes, dropout)
    return ResNet(name, len(inputs), classes, dropout, resolve_stem(stem, side))


class LinearNetwork(nn.Module):
    """A weight for every frequency of every plane: (B, channels, H, W) float to (B, classes) logits.

    Convolutions and pooling detect the same pattern at all frequencies, but in planes of few bins the frequency
    itself distinguishes the classes.

    Parameters
    ----------
    inputs : int, number of values in all planes
    dropout : float, share of the values dropped while training
    """

    def __init__(self, inputs: int, classes: int = 2, dropout: float = 0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, classes)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.dropout(x.flatten(1)))


class RadialNetwork(nn.Module):
    """A weight for every radius of every plane: (B, channels, N, N) float to (B, classes) logits.

    A plane's radial profile is the mean over all directions of a frequency (after Durall et al., "Watch your
    up-convolution", 2020), in rings as wide as a row of the plane; the corners beyond Nyquist's frequency
    are one ring. It has far fewer weights to overfit with than `LinearNetwork`.

    Parameters
    ----------
    inputs : sequence of str, the kind of each plane, which decides where its zero frequency is
    side : int, N
    dropout : float, share of the profiles' values dropped while training
    """

    def __init__(self, inputs: Sequence[str], side: int, classes: int = 2, dropout: float = 0.0):
        super().__init__()
        shares = [_ring_shares(kind, side) for kind in inputs]
        self.register_buffer("shares", torch.stack(shares), persistent=False)
        values = len(inputs) * self.shares.shape[2]
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(values, classes)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A product: sums scattered to their rings would come out differently from run to run on some devices.
        profiles = torch.einsum("bcv,cvr->bcr", x.flatten(2), self.shares)
        return self.fc(self.dropout(profiles.flatten(1)))


def _ring_shares(kind: str, side: int) -> torch.Tensor:
    """Compute the weight of each value of a plane in the mean of each ring, float32 (side * side, rings)."""
    radius = torch.from_numpy(compute_frequencies(kind, side, side)) * side
    ring = radius.round().long().clamp_max(side // 2 + 1).flatten()
    members = nn.functional.one_hot(ring).float()
    return members / members.sum(dim=0)


class ResNet(nn.Module):
    """A residual network, (B, channels, H, W) float to (B, classes) logits, sides of at least 8.

    Parameters
    ----------
    name : one of `LAYERS`
    channels : of the input
    classes : number of outputs
    dropout : share of the pooled features dropped before the last layer while training
    stem : "strided" divides the sides by 4 before the first layer (7x7 convolution and pooling, both of stride 2);
        "plain" keeps them (3x3 convolution), for small planes
    """

    def __init__(
        self,
        name: str = "resnet18",
        channels: int = 9,
        classes: int = 2,
        dropout: float = 0.0,
        stem: str = "strided",
    ):
        super().__init__()
        block, first, counts = LAYERS[name]
        self.name = name
        strided = stem == "strided"
        self.conv1 = _convolve(channels, first, 7, stride=2) if strided else _convolve(channels, first, 3)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if strided else nn.Identity()
        inputs = first
        self.layers = [f"layer{number}" for number in range(1, len(counts) + 1)]
        for number, (layer, count) in enumerate(zip(self.layers, counts, strict=True)):
            width = first * 2**number
            self.add_module(layer, _build_layer(block, inputs, width, count, stride=2 if number else 1))
            inputs = width * block.expansion
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            # On the device "meta", which holds shapes only, this would import torch._dynamo, which takes a second.
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for layer in self.layers:
            x = getattr(self, layer)(x)
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))


def _build_layer(block: type, inputs: int, width: int, count: int, stride: int) -> nn.Sequential:
    outputs = width * block.expansion
    downsample = None
    if stride != 1 or inputs != outputs:
        downsample = nn.Sequential(_convolve(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
    rest = [block(outputs, width, 1, None) for _ in range(count - 1)]
    return nn.Sequential(block(inputs, width, stride, downsample), *rest)
