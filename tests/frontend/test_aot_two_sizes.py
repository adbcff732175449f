"""Packages whose calls choose two sizes: a batch and a length, most of the time."""

import threading

import numpy as np
import pytest
from rewritten import rewritten

import braze
from braze import nn
from braze.aot import Dim
from braze.cli import main
from braze.ir.errors import ShapeError
from braze.runtime import load
from braze.runtime.package_format import Archive, PackageError

BATCH, TIME = Dim("batch", max=20), Dim("time", max=40)
CORNERS = [(1, 1), (1, 40), (20, 1), (20, 40), (1, 2), (2, 1), (2, 2), (2, 40), (20, 2)]
F = nn.functional


class Encoder(nn.Module):
    def __init__(self, causal=False):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.causal = causal

    def forward(self, x):
        mask = None
        if self.causal:
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.layer(x, src_mask=mask, is_causal=self.causal)


class Tagger(nn.Module):
    """Two recurrent layers, and a linear one for each step."""

    def __init__(self, kind):
        super().__init__()
        self.layers = kind(6, 10, 2, batch_first=True)
        self.fc = nn.Linear(10, 3)

    def forward(self, x):
        return self.fc(self.layers(x)[0])


class Weighted(nn.Module):
    """A mean over time with learned weights: sums over the second size."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 6)

    def forward(self, x):
        y = self.fc(x)
        return {"mean": (F.softmax(y, dim=1) * y).sum(1), "each": F.relu(y)}


def compiled(folder, model, example, dynamic, **options):
    path = folder / "m.brz"
    braze.aot.compile(model, example, path, dynamic=dynamic, **options)
    return path


def random_sizes(seed, lowest=(1, 1), highest=(20, 40)):
    rng = np.random.default_rng(seed)
    return [tuple(map(int, rng.integers(lowest, highest, endpoint=True))) for _ in range(12)]


def check(model, path, shape_at, sizes):
    rng = np.random.default_rng(0)
    packed = load(path)
    for chosen in sizes:
        x = rng.standard_normal(shape_at(*chosen)).astype(np.float32)
        with braze.no_grad():
            expected = model(braze.tensor(x))
        result = packed(x)
        pairs = [(result, expected)]
        if isinstance(expected, dict):
            pairs = [(result[key], expected[key]) for key in expected]
        for found, wanted in pairs:
            assert found.shape == tuple(wanted.shape)
            np.testing.assert_allclose(
                found, wanted.numpy(), rtol=1e-4, atol=1e-5, err_msg=f"{chosen}"
            )
    return packed


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    braze.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 5)).eval()
    folder = tmp_path_factory.mktemp("mlp")
    return model, compiled(folder, model, braze.randn(4, 9, 8), {"input": {0: BATCH, 1: TIME}})


def test_a_perceptron_for_every_choice_of_sizes(mlp):
    packed = check(*mlp, lambda b, t: (b, t, 8), CORNERS + random_sizes(0))
    assert [(d.name, d.lowest, d.highest, d.axes) for d in packed.dynamic.dims] == [
        ("batch", 1, 20, {"input": (0,)}),
        ("time", 1, 40, {"input": (1,)}),
    ]


def test_few_codes_serve_most_choices(mlp):
    (entry,) = Archive(mlp[1]).manifest["targets"]
    codes = [(code["lowest"], code["highest"]) for code in entry["codes"]]
    open_codes = [own for own in codes if all(a < b for a, b in zip(*own, strict=True))]
    lines = [own for own in codes if sum(a < b for a, b in zip(*own, strict=True)) == 1]
    assert len(open_codes) <= 4 and len(lines) <= 6, codes
    assert all(1 in low for low, high in codes if (low, high) not in open_codes), codes


@pytest.mark.parametrize("causal", [False, True])
def test_an_encoder_over_batch_and_time(tmp_path, causal):
    braze.manual_seed(0)
    model = Encoder(causal).eval()
    path = compiled(tmp_path, model, braze.randn(4, 12, 16), [{0: BATCH, 1: TIME}])
    check(model, path, lambda b, t: (b, t, 16), CORNERS + random_sizes(1) + [(3, 7), (7, 3)])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU], ids=["lstm", "gru"])
def test_recurrent_layers_over_batch_and_time(tmp_path, kind):
    braze.manual_seed(0)
    model = Tagger(kind).eval()
    path = compiled(tmp_path, model, braze.randn(4, 9, 6), [{0: BATCH, 1: TIME}])
    check(model, path, lambda b, t: (b, t, 6), CORNERS + random_sizes(2))


def test_recurrent_layers_over_a_batch_alone(tmp_path):
    braze.manual_seed(0)
    model = Tagger(nn.LSTM).eval()
    path = compiled(tmp_path, model, braze.randn(4, 9, 6), [{0: BATCH}])
    check(model, path, lambda b: (b, 9, 6), [(b,) for b in range(1, 21)])


def test_sums_over_the_second_size(tmp_path):
    braze.manual_seed(0)
    model = Weighted().eval()
    path = compiled(tmp_path, model, braze.randn(4, 9, 8), [{0: BATCH, 1: TIME}])
    check(model, path, lambda b, t: (b, t, 8), CORNERS + random_sizes(3))


def test_images_of_any_height(tmp_path):
    braze.manual_seed(0)
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    convolution(braze.randn(4, 3, 16, 24))
    model = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    model.eval()
    path = compiled(
        tmp_path, model, braze.randn(4, 3, 16, 24), [{0: BATCH, 2: Dim("height", max=40)}]
    )
    check(model, path, lambda b, h: (b, 3, h, 24), CORNERS + random_sizes(4))


def test_a_kernel_that_has_no_code_for_every_height_is_named(tmp_path):
    """Narrow images are read around their borders, which only one size has code for."""
    model = nn.Conv2d(3, 8, 3, padding=1).eval()
    dims = [{0: BATCH, 2: Dim("height", max=40)}]
    with pytest.raises(PackageError, match="many sizes of batch and height: .*contraction @"):
        compiled(tmp_path, model, braze.randn(4, 3, 9, 10), dims)


def test_sizes_may_begin_above_one(tmp_path):
    braze.manual_seed(0)
    model = nn.Linear(8, 5).eval()
    dims = {0: Dim("rows", 3, 30), 1: Dim("time", 10, 50)}
    path = compiled(tmp_path, model, braze.randn(4, 12, 8), [dims])
    sizes = [(3, 10), (3, 50), (30, 10), (30, 50), *random_sizes(5, (3, 10), (30, 50))]
    packed = check(model, path, lambda b, t: (b, t, 8), sizes)
    with pytest.raises(ShapeError, match=r"dimension 0 of input input \(rows\) must be 3 to 30"):
        packed(np.zeros((2, 12, 8), np.float32))


def test_two_inputs_share_one_of_the_sizes(tmp_path):
    braze.manual_seed(0)

    def scores(query, keys):
        return F.softmax(query @ keys.transpose(-2, -1), dim=-1)

    examples = [braze.randn(4, 5, 8), braze.randn(4, 11, 8)]
    path = tmp_path / "m.brz"
    dims = {"query": {0: BATCH}, "keys": {0: "batch", 1: TIME}}
    with pytest.raises(ValueError, match="dimension batch has two different limits"):
        braze.aot.compile(scores, examples, path, dynamic=dims)
    dims["keys"][0] = BATCH
    braze.aot.compile(scores, examples, path, dynamic=dims)
    packed = load(path)
    rng = np.random.default_rng(0)
    for batch, time in CORNERS + random_sizes(6):
        query = rng.standard_normal((batch, 5, 8)).astype(np.float32)
        keys = rng.standard_normal((batch, time, 8)).astype(np.float32)
        expected = scores(braze.tensor(query), braze.tensor(keys)).numpy()
        np.testing.assert_allclose(packed(query, keys), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ShapeError, match=r"must be equal to dimension 0 of input query \(batch\)"):
        packed(np.zeros((3, 5, 8), np.float32), np.zeros((4, 9, 8), np.float32))


def test_sizes_are_checked_at_the_call(mlp):
    packed = load(mlp[1])
    for shape, text in {
        (21, 40, 8): r"dimension 0 of input input \(batch\) must be 1 to 20, given 21",
        (20, 41, 8): r"dimension 1 of input input \(time\) must be 1 to 40, given 41",
        (20, 0, 8): r"dimension 1 of input input \(time\) must be 1 to 40, given 0",
    }.items():
        with pytest.raises(ShapeError, match=text):
            packed(np.zeros(shape, np.float32))
    with pytest.raises(ShapeError, match=r"input input must be f32\[3,4,8\], given shape"):
        packed(np.zeros((3, 4, 9), np.float32))


def test_the_inspector_says_what_calls_choose(mlp, capsys):
    assert main(["inspect", str(mlp[1])]) == 0
    said = capsys.readouterr().out
    assert "batch: 1 to 20 (dimension 0 of input)\ntime: 1 to 40 (dimension 1 of input)\n" in said
    assert "for many sizes of both" in said and "for one choice" in said


def test_threads_choose_their_sizes(mlp):
    model, path = mlp
    packed = load(path)
    wrong = []

    def work(number):
        rng = np.random.default_rng(number)
        for _ in range(30):
            x = rng.standard_normal((*rng.integers(1, [21, 41]), 8)).astype(np.float32)
            expected = packed(x)
            if not all(np.array_equal(packed(x), expected) for _ in range(2)):
                wrong.append(x.shape)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_narrow_weights(tmp_path):
    braze.manual_seed(0)
    model = Encoder().eval()
    path = tmp_path / "m.brz"
    given = [braze.randn(7, 11, 16), braze.randn(1, 40, 16)]
    report = braze.aot.compile(
        model, braze.randn(4, 12, 16), path, dynamic=[{0: BATCH, 1: TIME}],
        weights="int8", calibration=given,
    )  # fmt: skip
    assert report.inputs == 3
    packed = load(path)
    for sizes in CORNERS:
        x = braze.randn(*sizes, 16)
        with braze.no_grad():
            np.testing.assert_allclose(packed(x.numpy()), model(x).numpy(), rtol=0.1, atol=0.1)
    with pytest.raises(ValueError, match=r"calibration\[0\]: time must be 1 to 40, given 41"):
        braze.aot.compile(
            model, braze.randn(4, 12, 16), path, dynamic=[{0: BATCH, 1: TIME}],
            weights="int8", calibration=[braze.randn(7, 41, 16)],
        )  # fmt: skip


# What is refused ---------------------------------------------------------------------------------


def test_three_names_are_too_many(tmp_path):
    with pytest.raises(
        ValueError, match=r"dimension or two, given 3 names \(a, b, c\)"
    ):
        compiled(tmp_path, lambda x: x * 2, braze.randn(4, 5, 6), [{0: "a", 1: "b", 2: "c"}])


def test_python_that_asks_for_one_of_the_sizes_is_refused_with_its_line(tmp_path):
    def function(x):
        if x.shape[1] > 30:
            return x.exp()  # only for long ones
        return x.tanh()

    text = r"where batch is \d+ and time is \d+ than where they are .*(?s:.*)only for long ones"
    with pytest.raises(ShapeError, match=text):
        compiled(tmp_path, function, braze.randn(4, 9), [{0: BATCH, 1: TIME}])
    assert not (tmp_path / "m.brz").exists()


def codes(manifest):
    return manifest["targets"][0]["codes"]


def without(place):
    """Without the code for a choice of sizes."""

    def change(manifest):
        own = codes(manifest)
        own[:] = [
            code
            for code in own
            if not all(
                a <= n <= b for a, n, b in zip(code["lowest"], place, code["highest"], strict=True)
            )
        ]

    return change


HOSTILE = [
    lambda m: m["dynamic"].reverse(),
    lambda m: m["dynamic"].clear(),
    lambda m: m["dynamic"].pop(),
    lambda m: m["dynamic"].append(m["dynamic"][1]),
    lambda m: m["dynamic"].append({"name": "c", "lowest": 1, "highest": 2, "axes": {"input": [2]}}),
    lambda m: m["dynamic"][1].update(name="batch"),
    lambda m: m["dynamic"][1].update(axes={"input": [0]}),
    lambda m: m["dynamic"][1].update(axes={"input": [2]}),
    lambda m: m["dynamic"][1].update(highest=10**9),
    lambda m: m["dynamic"][0].update(lowest=True),
    lambda m: m["dynamic"][0].update(lowest={"value": 1, "form": ["affine", 0, 1, 0]}),
    without((1, 1)),
    without((20, 40)),
    without((20, 1)),
    without((1, 40)),
    lambda m: codes(m)[0].update(lowest=[1]),
    lambda m: codes(m)[0].update(highest=[20, 40, 1]),
    lambda m: codes(m)[0].update(lowest=2, highest=20),
    lambda m: codes(m)[0]["facts"].update(scratch_bytes={"value": 1, "form": ["affine", 99, 1, 0]}),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_manifest_is_refused(mlp, tmp_path, number):
    path = rewritten(mlp[1], tmp_path / "m.brz", HOSTILE[number])
    with pytest.raises(PackageError):
        load(path)


def test_an_unchanged_manifest_is_not(mlp, tmp_path):
    path = rewritten(mlp[1], tmp_path / "m.brz", lambda m: None)
    assert load(path)(np.zeros((3, 4, 8), np.float32)).shape == (3, 4, 5)
