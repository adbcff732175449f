"""Networks written once for two libraries: each function takes the library's `nn`."""

from typing import Any


def resnet18(nn: Any, classes: int = 1000, width: int = 64) -> Any:
    """ResNet-18 with the names of torchvision's state dict.

    Source: He et al., "Deep residual learning for image recognition", 2015, table 1.
    """

    class BasicBlock(nn.Module):
        def __init__(self, inside: int, outside: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outside)
            self.relu = nn.ReLU(inplace=True)
            self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outside)
            self.downsample = None
            if stride != 1 or inside != outside:
                self.downsample = nn.Sequential(
                    nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
                )

        def forward(self, x: Any) -> Any:
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            y += x if self.downsample is None else self.downsample(x)
            return self.relu(y)

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            before = width
            for i in range(4):
                after = width << i
                first = BasicBlock(before, after, 1 if i == 0 else 2)
                setattr(self, f"layer{i + 1}", nn.Sequential(first, BasicBlock(after, after, 1)))
                before = after
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.fc = nn.Linear(before, classes)

        def forward(self, x: Any) -> Any:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(self.avgpool(x).flatten(1))

    return ResNet()


def lstm(nn: Any) -> Any:
    """Two layers in both directions."""
    return nn.LSTM(4, 3, num_layers=2, batch_first=True, bidirectional=True)


def transformer(nn: Any) -> Any:
    """An encoder and a decoder of one layer each."""
    return nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)
