"""Packages for aarch64, run under an emulator, give what they give here."""

import foreign
import numpy as np
import pytest

import braze
from braze import nn
from braze.nn import functional as F

pytestmark = pytest.mark.skipif(
    not foreign.AVAILABLE, reason=f"needs {foreign.COMPILER} and qemu-aarch64"
)


class ConvNet(nn.Module):
    """Convolutions of each kind, normalisation and pooling."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.last = nn.Conv2d(16, 24, 1)
        self.fc = nn.Linear(24, 10)

    def forward(self, x):
        h = F.max_pool2d(F.relu(self.norm(self.first(x))), 2)
        h = F.gelu(self.last(F.silu(self.depthwise(h))))
        return F.softmax(self.fc(h.mean((2, 3))), 1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(12, 20, 2)

    def forward(self, x):
        y, (h, c) = self.rnn(x)
        return y, h, c


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)

    def forward(self, x):
        return self.layers(x)


class Embedded(nn.Module):
    """Rows of a table, which also gives the scores."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 24)

    def forward(self, words):
        return F.linear(self.table(words).mean(1), self.table.weight)


def functions(x):
    """Vector mathematics, of which each target has its own code."""
    y = x * 3.0
    return braze.stack(
        [
            braze.exp(y), braze.log(y.abs() + 1e-3), braze.tanh(y), braze.erf(y), braze.sin(y * 9),
            braze.sigmoid(y), braze.sqrt(y.abs()), braze.pow(y.abs() + 0.1, 1.7), braze.atan2(y, x),
        ]
    )  # fmt: skip


def ordered(x):
    values, places = braze.sort(x, dim=1)
    return values, places, braze.cumsum(x, 1), braze.cumsum(x, 0), braze.argmax(x, 1)


def narrow_numbers(x):
    """f16 has instructions on aarch64, bf16 has integer arithmetic."""
    return (x.half() * 1.5).float(), (x.bfloat16() + 0.25).float(), (x * 100).to(braze.int8)


def built(make, *shape):
    braze.manual_seed(3)
    model = make()
    x = braze.randn(*shape)
    with braze.no_grad():
        model(x)  # running statistics other than those at the start
    return model.eval(), x


CASES = {
    "convolutions": lambda: built(ConvNet, 2, 3, 24, 24),
    "lstm": lambda: built(Recurrent, 6, 2, 12),
    "encoder": lambda: built(Encoder, 2, 20, 32),
    "functions": lambda: (functions, braze.randn(5, 77)),
    "ordered": lambda: (ordered, braze.randn(6, 333)),
    "narrow numbers": lambda: (narrow_numbers, braze.randn(7, 41)),
    "embedding": lambda: (Embedded().eval(), braze.arange(12).reshape(3, 4)),
}


def flat(result):
    return [x for part in result for x in flat(part)] if isinstance(result, tuple) else [result]


def check(model, x, tmp_path, threads=1, **options):
    path = tmp_path / "m.brz"
    braze.aot.compile(model, x, path, target=["host", "aarch64"], **options)
    wanted = flat(braze.aot.load(path)(x.numpy()))
    found = foreign.run_foreign(path, [x.numpy()], tmp_path, threads=threads)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if a.dtype.kind in "iub":
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
    return found


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_this_processor(name, tmp_path):
    braze.manual_seed(5)
    model, x = CASES[name]()
    check(model, x, tmp_path)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", ["convolutions", "lstm", "encoder", "embedding"])
def test_narrow_weights(name, weights, tmp_path):
    model, x = CASES[name]()
    (own, *_) = check(model, x, tmp_path, weights=weights)
    (wide, *_) = check(model, x, tmp_path)
    assert 0 < np.abs(own - wide).max() < 0.05 * np.abs(wide).max()


def test_threads_share_the_work(tmp_path):
    """Chunks are claimed, workers sleep and are woken: the pool's atomics, `isb` and futex."""
    braze.manual_seed(1)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256)).eval()
    x = braze.randn(192, 256)
    alone = check(model, x, tmp_path)
    for threads in (2, 4):
        shared = check(model, x, tmp_path, threads=threads)
        np.testing.assert_array_equal(shared[0], alone[0])
