"""Networks, written once against PyTorch's names: each function takes a namespace `T`."""

from __future__ import annotations

from typing import Any


def mlp(T: Any, *sizes: int) -> Any:
    """Dense layers of these sizes with ReLU between them."""
    layers: list[Any] = []
    for before, after in zip(sizes, sizes[1:], strict=False):
        layers += [T.nn.Linear(before, after), T.nn.ReLU()]
    return T.nn.Sequential(*layers[:-1])


def mnist_network(T: Any, drop1: float = 0.25, drop2: float = 0.5) -> Any:
    """The two-convolution network of PyTorch's MNIST example."""
    nn, functional = T.nn, T.nn.functional

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 32, 3, 1)
            self.conv2 = nn.Conv2d(32, 64, 3, 1)
            self.dropout1 = nn.Dropout(drop1)
            self.dropout2 = nn.Dropout(drop2)
            self.fc1 = nn.Linear(9216, 128)
            self.fc2 = nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            x = functional.relu(self.conv1(x))
            x = functional.relu(self.conv2(x))
            x = self.dropout1(functional.max_pool2d(x, 2))
            x = functional.relu(self.fc1(T.flatten(x, 1)))
            return functional.log_softmax(self.fc2(self.dropout2(x)), dim=1)

    return Net()


def language_model(T: Any, vocabulary: int, size: int, layers: int, dropout: float) -> Any:
    """Embedding, LSTM, decoder: the word-level language model of PyTorch's examples."""
    nn, functional = T.nn, T.nn.functional

    class LanguageModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(dropout)
            self.encoder = nn.Embedding(vocabulary, size)
            self.rnn = nn.LSTM(size, size, layers, dropout=dropout)
            self.decoder = nn.Linear(size, vocabulary)

        def forward(self, words: Any, hidden: Any) -> Any:
            output, hidden = self.rnn(self.drop(self.encoder(words)), hidden)
            decoded = self.decoder(self.drop(output))
            return functional.log_softmax(decoded.view(-1, vocabulary), dim=1), hidden

    return LanguageModel()


def resnet(T: Any, depths: tuple[int, ...], bottleneck: bool, classes: int = 1000) -> Any:
    """ResNet of blocks of two convolutions, or of three with a bottleneck.

    Source: He et al., "Deep residual learning for image recognition", 2015, table 1; the stride
    of a bottleneck is in its 3 x 3 convolution.
    """
    nn = T.nn
    expansion = 4 if bottleneck else 1

    class Block(nn.Module):
        def __init__(self, inside: int, width: int, stride: int) -> None:
            super().__init__()
            outside = width * expansion
            if bottleneck:
                shapes = [(inside, width, 1, 1), (width, width, 3, stride), (width, outside, 1, 1)]
            else:
                shapes = [(inside, width, 3, stride), (width, width, 3, 1)]
            self.count = len(shapes)
            for i, (before, after, kernel, step) in enumerate(shapes, start=1):
                convolution = nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False)
                setattr(self, f"conv{i}", convolution)
                setattr(self, f"bn{i}", nn.BatchNorm2d(after))
            self.relu = nn.ReLU()
            self.downsample = None
            if stride != 1 or inside != outside:
                self.downsample = nn.Sequential(
                    nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
                )

        def forward(self, x: Any) -> Any:
            y = x
            for i in range(1, self.count + 1):
                y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
                if i < self.count:
                    y = self.relu(y)
            return self.relu(y + (x if self.downsample is None else self.downsample(x)))

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.relu = nn.ReLU()
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            before = 64
            for i, depth in enumerate(depths):
                blocks = []
                for j in range(depth):
                    blocks.append(Block(before, 64 << i, 2 if i and not j else 1))
                    before = (64 << i) * expansion
                setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.fc = nn.Linear(before, classes)

        def forward(self, x: Any) -> Any:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(T.flatten(self.avgpool(x), 1))

    return ResNet()


def resnet18(T: Any) -> Any:
    """Two blocks of two convolutions at each of four sizes."""
    return resnet(T, (2, 2, 2, 2), bottleneck=False)


def resnet50(T: Any) -> Any:
    """Three, four, six and three bottlenecks."""
    return resnet(T, (3, 4, 6, 3), bottleneck=True)


# Expansion, channels, blocks and first stride: Sandler et al., "MobileNetV2", 2018, table 2.
MOBILE_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip


def mobile_network(T: Any, classes: int = 1000) -> Any:
    """MobileNetV2: inverted residuals around depthwise convolutions."""
    nn = T.nn

    def step(before: int, after: int, kernel: int, stride: int, groups: int) -> list[Any]:
        convolution = nn.Conv2d(
            before, after, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        return [convolution, nn.BatchNorm2d(after), nn.ReLU6()]

    class Inverted(nn.Module):
        def __init__(self, before: int, after: int, expansion: int, stride: int) -> None:
            super().__init__()
            inner = before * expansion
            layers = [] if expansion == 1 else step(before, inner, 1, 1, 1)
            layers += step(inner, inner, 3, stride, inner)
            layers += step(inner, after, 1, 1, 1)[:-1]
            self.conv = nn.Sequential(*layers)
            self.residual = stride == 1 and before == after

        def forward(self, x: Any) -> Any:
            return x + self.conv(x) if self.residual else self.conv(x)

    class MobileNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers, before = step(3, 32, 3, 2, 1), 32
            for expansion, after, count, stride in MOBILE_STAGES:
                for i in range(count):
                    layers.append(Inverted(before, after, expansion, 1 if i else stride))
                    before = after
            self.features = nn.Sequential(*layers, *step(before, 1280, 1, 1, 1))
            self.classifier = nn.Linear(1280, classes)

        def forward(self, x: Any) -> Any:
            return self.classifier(self.features(x).mean((2, 3)))

    return MobileNetwork()


def generator(T: Any, noise: int = 100, width: int = 64) -> Any:
    """DCGAN's generator of 64 x 64 pictures."""
    nn = T.nn
    layers: list[Any] = []
    sizes = [noise, 8 * width, 4 * width, 2 * width, width, 3]
    for i, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
        stride, padding = (1, 0) if i == 0 else (2, 1)
        layers.append(nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU()] if after != 3 else [nn.Tanh()]
    return nn.Sequential(*layers)


def discriminator(T: Any, width: int = 64) -> Any:
    """DCGAN's discriminator of 64 x 64 pictures."""
    nn = T.nn
    layers: list[Any] = []
    sizes = [3, width, 2 * width, 4 * width, 8 * width, 1]
    for i, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
        stride, padding = (2, 1) if after != 1 else (1, 0)
        layers.append(nn.Conv2d(before, after, 4, stride, padding, bias=False))
        layers += [nn.BatchNorm2d(after)] if 0 < i < 4 else []
        layers += [nn.LeakyReLU(0.2)] if after != 1 else [nn.Sigmoid()]
    return nn.Sequential(*layers)


def autoencoder(T: Any) -> Any:
    """The variational autoencoder of PyTorch's examples; it is given its noise."""
    nn, functional = T.nn, T.nn.functional

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(784, 400)
            self.fc21 = nn.Linear(400, 20)
            self.fc22 = nn.Linear(400, 20)
            self.fc3 = nn.Linear(20, 400)
            self.fc4 = nn.Linear(400, 784)

        def forward(self, x: Any, noise: Any) -> Any:
            h = functional.relu(self.fc1(x.view(-1, 784)))
            mean, variance = self.fc21(h), self.fc22(h)
            z = mean + noise * T.exp(0.5 * variance)
            return T.sigmoid(self.fc4(functional.relu(self.fc3(z)))), mean, variance

    return VAE()


def super_resolution(T: Any, factor: int = 3) -> Any:
    """The sub-pixel network of PyTorch's super-resolution example."""
    nn, functional = T.nn, T.nn.functional

    class SuperResolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 64, 5, 1, 2)
            self.conv2 = nn.Conv2d(64, 64, 3, 1, 1)
            self.conv3 = nn.Conv2d(64, 32, 3, 1, 1)
            self.conv4 = nn.Conv2d(32, factor**2, 3, 1, 1)

        def forward(self, x: Any) -> Any:
            for layer in (self.conv1, self.conv2, self.conv3):
                x = functional.relu(layer(x))
            return functional.pixel_shuffle(self.conv4(x), factor)

    return SuperResolution()


def policy(T: Any) -> Any:
    """Actor and critic of PyTorch's reinforcement learning example."""
    nn, functional = T.nn, T.nn.functional

    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.affine1 = nn.Linear(4, 128)
            self.action_head = nn.Linear(128, 2)
            self.value_head = nn.Linear(128, 1)

        def forward(self, x: Any) -> Any:
            x = functional.relu(self.affine1(x))
            return functional.softmax(self.action_head(x), dim=-1), self.value_head(x)

    return Policy()


def blocks(T: Any, size: int, heads: int, layers: int, vocabulary: int, length: int) -> Any:
    """A GPT: embeddings, pre-norm blocks of causal attention and GELU layers, a head."""
    nn, functional = T.nn, T.nn.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln1 = nn.LayerNorm(size)
            self.qkv = nn.Linear(size, 3 * size)
            self.proj = nn.Linear(size, size)
            self.ln2 = nn.LayerNorm(size)
            self.up = nn.Linear(size, 4 * size)
            self.down = nn.Linear(4 * size, size)

        def forward(self, x: Any) -> Any:
            b, t, _ = x.shape
            parts = self.qkv(self.ln1(x)).split(size, dim=2)
            q, k, v = (p.view(b, t, heads, size // heads).transpose(1, 2) for p in parts)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(y.transpose(1, 2).reshape(b, t, size))
            return x + self.down(functional.gelu(self.up(self.ln2(x))))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(vocabulary, size)
            self.wpe = nn.Embedding(length, size)
            self.h = nn.Sequential(*(Block() for _ in range(layers)))
            self.ln = nn.LayerNorm(size)
            self.head = nn.Linear(size, vocabulary, bias=False)

        def forward(self, words: Any) -> Any:
            x = self.wte(words) + self.wpe(T.arange(words.shape[1]))
            return self.head(self.ln(self.h(x)))

    return GPT()


def encoder(T: Any, size: int, heads: int, inner: int, layers: int) -> Any:
    """Layers of PyTorch's Transformer encoder, batch first."""
    layer = T.nn.TransformerEncoderLayer(size, heads, inner, 0.1, batch_first=True)
    return T.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
