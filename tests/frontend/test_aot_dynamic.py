"""Packages whose calls choose the size of a dimension."""

import threading

import numpy as np
import pytest
from rewritten import rewritten

import braze
from braze import nn
from braze.aot import Dim
from braze.ir.errors import ShapeError
from braze.runtime import load
from braze.runtime.package_format import Archive, PackageError
from braze.runtime.weights import unpack_weights


class Pool(nn.Module):
    """Convolution, normalisation and a mean: a batch of images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(nn.functional.relu(self.norm(self.conv(x))).mean(dim=(2, 3)))


class Encoder(nn.Module):
    """Attention over a sequence of any length."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x):
        return self.layer(x)


def check(model, path, shape, axis, sizes):
    rng = np.random.default_rng(0)
    packed = load(path)
    for size in sizes:
        own = list(shape)
        own[axis] = size
        x = rng.standard_normal(own).astype(np.float32)
        with braze.no_grad():
            expected = model(braze.tensor(x)).numpy()
        result = packed(x)
        assert result.shape == expected.shape
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    return packed


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    braze.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10)).eval()
    path = tmp_path_factory.mktemp("mlp") / "mlp.brz"
    braze.aot.compile(model, braze.randn(8, 32), path, dynamic=[{0: "batch"}])
    return model, path


def test_every_batch_size_is_served(mlp):
    model, path = mlp
    packed = check(model, path, [0, 32], 0, [1, 2, 3, 4, 7, 8, 31, 64, 100, 511, 1000, 1024])
    assert packed.dynamic.dims[0].axes == {"input": (0,)}


def test_weights_are_stored_once_for_all_sizes_unless_packed_otherwise(mlp):
    _, path = mlp
    assert path.stat().st_size < 400_000


def test_images(tmp_path):
    braze.manual_seed(0)
    model = Pool()
    model(braze.randn(4, 3, 8, 8))
    model.eval()
    path = tmp_path / "m.brz"
    braze.aot.compile(
        model, braze.randn(4, 3, 8, 8), path, dynamic={"x": {0: Dim("batch", max=64)}}
    )
    check(model, path, [0, 3, 8, 8], 0, [1, 2, 3, 5, 16, 33, 64])


class Residual(nn.Module):
    """Two 3x3 convolutions of normalised images around which their input goes, with fewer places
    and more channels behind it."""

    def __init__(self, inner, outer, stride):
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.around = nn.Conv2d(inner, outer, 1, stride, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outer) for _ in range(3)])

    def forward(self, x):
        y = nn.functional.relu(self.norms[0](self.first(x)))
        y = self.norms[1](self.second(y)) + self.norms[2](self.around(x))
        return nn.functional.relu(y)


def test_a_residual_network_has_few_codes_for_all_batches(tmp_path):
    """Layers of small images, whose best kernels depend on how many there are."""
    braze.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 7, 2, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.MaxPool2d(3, 2, 1), Residual(32, 64, 1), Residual(64, 64, 2), Residual(64, 128, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    model(braze.randn(4, 3, 56, 56))
    model.eval()
    path = tmp_path / "m.brz"
    example = braze.randn(8, 3, 56, 56)
    braze.aot.compile(model, example, path, dynamic=[{0: Dim("batch", max=64)}])
    check(model, path, [0, 3, 56, 56], 0, [1, 2, 3, 7, 8, 9, 17, 40, 64])
    (entry,) = Archive(path).manifest["targets"]
    ranges = [(code["lowest"][0], code["highest"][0]) for code in entry["codes"]]
    assert len([low for low, high in ranges if low < high]) <= 2, ranges
    assert [low for low, high in sorted(ranges) if low == high] == [*range(1, 9)], ranges


def test_a_sequence_of_any_length(tmp_path):
    braze.manual_seed(0)
    model = Encoder().eval()
    path = tmp_path / "m.brz"
    braze.aot.compile(model, braze.randn(2, 12, 16), path, dynamic={"x": {1: Dim("time", max=96)}})
    check(model, path, [2, 0, 16], 1, [1, 2, 3, 8, 17, 64, 96])


def test_sizes_are_checked_at_the_call(mlp):
    packed = load(mlp[1])
    for size in (0, 1025):
        text = rf"dimension 0 of input input \(batch\) must be 1 to 1024, given {size}"
        with pytest.raises(ShapeError, match=text):
            packed(np.zeros((size, 32), np.float32))
    with pytest.raises(ShapeError, match="input input must have 2 dimensions"):
        packed(np.zeros(32, np.float32))


def test_equal_names_are_equal_sizes(tmp_path):
    def function(x, y):
        return x * 2 + y

    path = tmp_path / "m.brz"
    examples = [braze.randn(6, 3), braze.randn(6, 3)]
    braze.aot.compile(function, examples, path, dynamic=[{0: "n"}, {0: "n"}])
    packed = load(path)
    ones = np.ones((9, 3), np.float32)
    np.testing.assert_array_equal(packed(ones, ones), ones * 3)
    with pytest.raises(ShapeError, match=r"must be equal to dimension 0 .* \(n\): 8 != 9"):
        packed(ones, ones[:8])


def test_integers_stay_integers(tmp_path):
    braze.manual_seed(0)
    table = nn.Embedding(10, 4)
    path = tmp_path / "m.brz"
    ids = braze.zeros(8, 3, dtype=braze.int64)
    braze.aot.compile(lambda ids: table(ids), ids, path, dynamic={"ids": {0: "n"}})
    packed = load(path)
    for size in (1, 5, 40):
        given = np.arange(size * 3).reshape(size, 3) % 10
        np.testing.assert_array_equal(packed(given), table.weight.detach().numpy()[given])


def test_python_that_asks_for_the_size_is_refused_with_its_line(tmp_path):
    def function(x):
        if x.shape[0] > 30:
            return x.exp()  # only for many
        return x.tanh()

    with pytest.raises(ShapeError, match="n is .* than where it is .*(?s:.*)only for many"):
        braze.aot.compile(function, braze.randn(6, 3), tmp_path / "m.brz", dynamic=[{0: "n"}])
    assert not (tmp_path / "m.brz").exists()


@pytest.mark.parametrize(
    ("dynamic", "error", "text"),
    [
        ({"y": {0: "n"}}, ValueError, "no input is called 'y'"),
        ([{5: "n"}], ValueError, "has 2 dimensions, not 5"),
        ([{0: 3}], TypeError, "must be a name or a Dim, given int"),
        ([{0: "n", -1: "m", 1: "m"}], ValueError, "dimension 1 of input x is given twice"),
        ("n", TypeError, "must be a dict or a list"),
    ],
)
def test_what_is_given_wrongly(tmp_path, dynamic, error, text):
    with pytest.raises(error, match=text):
        braze.aot.compile(lambda x: x * 2, braze.randn(6, 3), tmp_path / "m", dynamic=dynamic)


def test_eight_threads_call_one_model(mlp):
    model, path = mlp
    packed = load(path)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((n, 32)).astype(np.float32) for n in (1, 2, 3, 9, 40, 64, 65, 7)]
    with braze.no_grad():
        expected = [model(braze.tensor(x)).numpy() for x in inputs]
    wrong = []

    def work(first):
        for i in range(40):
            at = (first + i) % len(inputs)
            if not np.allclose(packed(inputs[at]), expected[at], rtol=1e-4, atol=1e-5):
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def stored(path):
    """The names and shapes of a package's weights."""
    weights = unpack_weights(Archive(path)["weights.safetensors"])
    return {name: array.shape for name, array in weights}


class Table(nn.Module):
    """A table that is cut to the size, from its beginning and from elsewhere, and is computed."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(braze.randn(64, 4))

    def forward(self, x):
        n = x.shape[0]
        own = x + self.table[:n].exp() * self.table[2 : n + 2]
        return own, self.table[64 - n :] * 2, self.table[1:].sum(0)


def test_a_table_that_is_cut_to_the_size(tmp_path):
    model, path = Table().eval(), tmp_path / "m.brz"
    braze.aot.compile(model, braze.randn(20, 4), path, dynamic=[{0: Dim("n", max=62)}])
    packed = load(path)
    for size in (1, 2, 7, 19, 20, 33, 62):
        x = braze.randn(size, 4)
        for found, expected in zip(packed(x.numpy()), model(x), strict=True):
            np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    shapes = list(stored(path).values())
    assert shapes.count((64, 4)) == 1 and (4,) in shapes  # what all sizes share is computed
    with pytest.raises(ShapeError, match=r"do not broadcast: f32\[63,4\], f32\[62,4\]"):
        braze.aot.compile(
            model, braze.randn(20, 4), tmp_path / "more.brz", dynamic=[{0: Dim("n", max=63)}]
        )


class Positions(nn.Module):
    """Learned positions and a causal mask, as a GPT has."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(11, 8), nn.Embedding(48, 8)
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.register_buffer("mask", braze.tril(braze.ones(1, 48, 48)))
        self.register_buffer("numbers", braze.arange(48))

    def forward(self, ids):
        n = ids.shape[1]
        x = self.words(ids) + self.places.weight[:n] + self.places(self.numbers[:n])
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 8**0.5
        scores = scores.masked_fill(self.mask[:, :n, :n] == 0, float("-inf"))
        return scores.softmax(-1) @ self.value(x)


@pytest.mark.parametrize("both", [False, True])
def test_positions_and_a_mask_are_cut_to_the_length(tmp_path, both):
    braze.manual_seed(0)
    model, path = Positions().eval(), tmp_path / "m.brz"
    example = braze.zeros(3, 16, dtype=braze.int64)
    dims = {1: Dim("time", max=48), **({0: Dim("batch", max=6)} if both else {})}
    braze.aot.compile(model, example, path, dynamic=[dims])
    packed = load(path)
    rng = np.random.default_rng(0)
    for batch in (1, 2, 3, 6) if both else (3,):
        for time in (1, 2, 7, 16, 23, 47, 48):
            ids = rng.integers(0, 11, (batch, time))
            with braze.no_grad():
                expected = model(braze.tensor(ids)).numpy()
            np.testing.assert_allclose(packed(ids), expected, rtol=1e-4, atol=1e-5)
    ranges = [(tuple(c["lowest"]), tuple(c["highest"])) for c in codes(Archive(path).manifest)]
    assert len(set(ranges)) == len(ranges)
    # The whole mask, and what it comes to where it is not cut, in many sizes and in one.
    assert sum(shape[-2:] == (48, 48) for shape in stored(path).values()) <= 3


def codes(manifest):
    return manifest["targets"][0]["codes"]


HOSTILE = [
    lambda m: m["dynamic"][0].update(lowest=0),
    lambda m: m["dynamic"][0].update(lowest=5, highest=4),
    lambda m: m["dynamic"][0].update(highest=10**9),
    lambda m: m["dynamic"][0].update(axes={}),
    lambda m: m["dynamic"][0].update(axes={"input": [7]}),
    lambda m: m["dynamic"][0].update(axes={"input": [-1]}),
    lambda m: m["dynamic"][0].update(axes={"other": [0]}),
    lambda m: m["dynamic"][0].update(highest="many"),
    lambda m: m.update(dynamic=None),
    lambda m: codes(m).clear(),
    lambda m: codes(m)[0].update(layout={"sizes": [[1]], "below": []}),
    lambda m: codes(m)[0].update(layout={"sizes": [[1]], "below": [[3]]}),
    lambda m: codes(m)[0].update(layout=None),
    lambda m: codes(m)[0].update(objects=["code/none.o"]),
    lambda m: codes(m)[0].update(weights={"input": "none"}),
    lambda m: codes(m)[0]["facts"].update(scratch_bytes={"value": 1, "form": ["/", 1, 2]}),
    lambda m: codes(m)[0]["facts"].update(scratch_bytes={"value": 1, "form": ["//", 1, 0]}),
    lambda m: codes(m)[0]["facts"].update(scratch_bytes={"value": 1, "form": ["affine", 99, 1, 0]}),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_manifest_is_refused(mlp, tmp_path, number):
    path = rewritten(mlp[1], tmp_path / "m.brz", HOSTILE[number])
    with pytest.raises(PackageError):
        load(path)


def test_an_unchanged_manifest_is_not(mlp, tmp_path):
    path = rewritten(mlp[1], tmp_path / "m.brz", lambda m: None)
    assert load(path)(np.zeros((3, 32), np.float32)).shape == (3, 10)


def test_errors_name_the_line_of_the_model_that_was_compiled(tmp_path):
    """And not that of another program which captured the same before."""
    table = braze.randn(11, 3)

    def first(ids):
        return table[ids]

    def second(ids):
        return table[ids]  # the second

    path = tmp_path / "m.brz"
    for function in (first, second):
        braze.aot.compile(function, braze.zeros(4, dtype=braze.int64), path)
    with pytest.raises(IndexError, match="the second"):
        load(path)(np.array([1, 2, 3, 11]))
