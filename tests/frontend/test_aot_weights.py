"""Packages with narrow weights: results, the report on them, and what is refused."""

import json
import random
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

import braze
from braze import nn
from braze.aot import Dim
from braze.aot_arguments import narrow_dtype
from braze.cli import main
from braze.ir.target import can_run, named_target
from braze.nn import functional as F
from braze.runtime import load, package_format
from braze.runtime.cpu import host_target
from braze.runtime.package_accuracy import AccuracyReport, WeightAccuracy, compared
from braze.runtime.package_format import PackageError

DTYPES = ["bfloat16", "int8"]
RUNNABLE = [
    name for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64")
    if can_run(named_target(name), host_target()) is None
]  # fmt: skip


def test_short_names_of_dtypes():
    assert [narrow_dtype(name) for name in ("bf16", "i8", braze.bfloat16, "int8")] == [
        "bfloat16", "int8", "bfloat16", "int8",
    ]  # fmt: skip


def test_a_package_that_needs_ml_dtypes_says_so(tmp_path):
    """Others need NumPy only."""
    for dtype in (None, *DTYPES):
        path = tmp_path / f"{dtype}.brz"
        braze.aot.compile(nn.Linear(300, 300), braze.ones(2, 300), path, weights=dtype)
    program = f"""
import sys
sys.modules["ml_dtypes"] = None
from braze.runtime import load
from braze.runtime.package_format import PackageError
import numpy as np
for name in ("None", "int8"):
    load("{tmp_path}/" + name + ".brz")(np.ones((2, 300), "f4"))
try:
    load("{tmp_path}/bfloat16.brz")
except PackageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.endswith("bfloat16 arrays, which NumPy lacks: pip install ml_dtypes\n"), done


def rounded(array, dtype):
    """A weight whose channels come first, as it is after it was stored."""
    if dtype == "bfloat16":
        return array.astype(ml_dtypes.bfloat16).astype(np.float32)
    scale = np.abs(array.reshape(len(array), -1)).max(1) / np.float32(127)
    scale = scale.reshape(-1, *[1] * (array.ndim - 1))
    return np.rint(array / scale).astype(np.float32) * scale


def with_rounded(model, dtype, names):
    """The module's results with these weights as they are stored."""
    kept = {name: p.detach().clone() for name, p in model.named_parameters() if name in names}
    with braze.no_grad():
        for name, p in model.named_parameters():
            if name in names:
                p.copy_(braze.tensor(rounded(kept[name].numpy(), dtype)))
    return kept


class Tied(nn.Module):
    """A table that is looked up and gives the scores, between layers of each kind."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40, 16)
        self.rnn = nn.LSTM(16, 16, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, words):
        h, _ = self.rnn(self.table(words))
        return F.linear(self.layer(h), self.table.weight), h


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(16, 32, 3, padding=1, groups=2)
        self.turned = nn.ConvTranspose2d(32, 8, 2, stride=2)
        self.fc = nn.Linear(8 * 8 * 8, 10)

    def forward(self, x):
        h = F.relu(self.grouped(F.relu(self.first(x))))
        return self.fc(F.relu(self.turned(h)).flatten(1))


def made(kind):
    braze.manual_seed(0)
    if kind == "tied":
        words = braze.arange(12).reshape(2, 6) * 3
        return Tied().eval(), words, {n for n, p in Tied().named_parameters() if p.dim() > 1}
    model = Convolutions().eval()
    names = {"first.weight", "grouped.weight", "fc.weight"}
    return model, braze.randn(2, 3, 8, 8), names


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["tied", "convolutions"])
def test_results_are_those_of_the_rounded_weights(kind, dtype, target, tmp_path):
    model, x, names = made(kind)
    report = braze.aot.compile(model, x, tmp_path / "m.brz", weights=dtype, target=target)
    assert {weight.name for weight in report.weights} >= names
    found = load(tmp_path / "m.brz")(x.numpy())
    with braze.no_grad():
        if kind == "convolutions":
            turned = model.turned.weight
            # With steps as long as the kernel no sum has two taps, so each has its own scale.
            array = turned.detach().numpy().reshape(32, -1).T
            turned.copy_(braze.tensor(rounded(array, dtype).T.reshape(turned.shape)))
        own = with_rounded(model, dtype, names)
        wanted = model(x)
    assert own.keys() == names
    if kind != "tied":
        found, wanted = [found], [wanted]
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_report_says_what_is_measured(dtype, tmp_path):
    """Against numbers that are computed here, from the loaded package's results."""
    braze.manual_seed(1)
    model = nn.Sequential(nn.Linear(30, 64), nn.Tanh(), nn.Linear(64, 12)).eval()
    inputs = [braze.randn(5, 30) for _ in range(4)]
    path = tmp_path / "m.brz"
    report = braze.aot.compile(model, inputs[0], path, weights=dtype, calibration=inputs[1:])
    package = load(path)
    assert report == package.accuracy and report.dtype == dtype and report.inputs == 4
    with braze.no_grad():
        wanted = np.concatenate([model(x).numpy() for x in inputs]).astype(np.float64)
    found = np.concatenate([package(x.numpy()) for x in inputs]).astype(np.float64)
    (output,) = report.outputs
    error = np.abs(found - wanted)
    assert output.type == "float32[5,12]" and output.equal is None
    close = {"rel": 1e-3, "abs": 1e-6}
    assert output.largest_error == pytest.approx(error.max(), **close) and error.max() > 1e-4
    assert output.mean_error == pytest.approx(error.mean(), **close)
    norm = np.linalg.norm(wanted)
    assert output.relative_error == pytest.approx(np.linalg.norm(error) / norm, **close)
    cosine = (wanted * found).sum() / norm / np.linalg.norm(found)
    assert output.cosine == pytest.approx(cosine, abs=1e-7) and cosine < 1
    assert output.same_argmax == (wanted.argmax(1) == found.argmax(1)).mean()
    assert [weight.name for weight in report.weights] == ["0.weight", "2.weight"]
    for weight, layer in zip(report.weights, (model[0], model[2]), strict=True):
        original = layer.weight.detach().numpy().astype(np.float64)
        noise = rounded(layer.weight.detach().numpy(), dtype) - original
        decibels = 10 * np.log10((original**2).sum() / (noise**2).sum())
        assert weight.decibels == pytest.approx(decibels, abs=1e-3)
        assert weight.largest_error == pytest.approx(np.abs(noise).max(), rel=1e-4)
        scales = 4 * len(original) if dtype == "int8" else 0
        size = original.size * (1 if dtype == "int8" else 2) + scales
        assert (weight.bytes_before, weight.bytes_after) == (4 * original.size, size)
        assert weight.shape == original.shape
    assert report.bytes_after == sum(weight.bytes_after for weight in report.weights)
    assert AccuracyReport.from_facts(json.loads(json.dumps(report.facts()))) == report


def test_a_report_on_all_kinds_of_outputs():
    a = np.array([[1.0, 2.0], [4.0, 3.0]], np.float32)
    runs = [
        ([a, np.array([1, 2, 3]), np.zeros(3), np.float32(2)],
         [a[:, ::-1], np.array([1, 2, 4]), np.zeros(3), np.float32(2)]),
    ]  # fmt: skip
    scores, classes, nothing, number = compared(runs)
    assert scores.same_argmax == 0 and scores.largest_error == 1 and scores.mean_error == 1
    assert scores.relative_error == pytest.approx(np.sqrt(4 / 30))
    assert classes.equal == pytest.approx(2 / 3) and classes.same_argmax is None
    assert "66.67% equal" in str(classes)
    assert (nothing.cosine, nothing.relative_error, nothing.largest_error) == (1, 0, 0)
    assert number.same_argmax is None and number.cosine == pytest.approx(1)
    (from_nothing,) = compared([([np.zeros(2)], [np.ones(2)])])
    assert from_nothing.relative_error == np.inf and from_nothing.cosine == 0
    exact = WeightAccuracy.of("w", a, a.copy(), 8)
    assert exact.decibels == np.inf
    report = AccuracyReport("int8", 1, (from_nothing, classes), (exact,))
    text = json.dumps(report.facts(), allow_nan=False)
    assert AccuracyReport.from_facts(json.loads(text)) == report


def test_files_are_smaller_and_equal_ones_equal(tmp_path):
    braze.manual_seed(0)
    model, x = nn.Linear(512, 512).eval(), braze.randn(1, 512)
    sizes = {}
    for dtype in (None, *DTYPES, "again"):
        path = tmp_path / f"{dtype}.brz"
        own = "int8" if dtype == "again" else dtype
        report = braze.aot.compile(model, x, path, weights=own)
        assert (report is None) == (dtype is None)
        sizes[dtype] = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            stored = len(archive.read("weights.safetensors"))
        assert stored < 512 * 512 * {None: 4, "bfloat16": 2}.get(own, 1) + 5000
    assert sizes["bfloat16"] < 0.55 * sizes[None] and sizes["int8"] < 0.3 * sizes[None]
    assert (tmp_path / "again.brz").read_bytes() == (tmp_path / "int8.brz").read_bytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_targets(dtype, tmp_path):
    model, x, _ = made("tied")
    path = tmp_path / "m.brz"
    targets = ["host", "x86-64-v2", "x86-64-v3", "aarch64"]
    report = braze.aot.compile(model, x, path, weights=dtype, target=targets)
    with braze.no_grad():
        wanted = model(x)[0].numpy()
    error = np.abs(load(path)(x.numpy())[0] - wanted).max()
    assert error == pytest.approx(report.outputs[0].largest_error, rel=0.02, abs=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dynamic_sizes(dtype, tmp_path):
    braze.manual_seed(0)
    layers = [nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
    model, path = nn.Sequential(*layers).eval(), tmp_path / "m.brz"
    report = braze.aot.compile(
        model, braze.randn(8, 24), path, weights=braze.bfloat16 if dtype == "bfloat16" else dtype,
        dynamic=[{0: Dim("batch", max=64)}],
        calibration=[braze.randn(3, 24), braze.randn(50, 24)],
    )  # fmt: skip
    assert report.inputs == 3 and len(report.weights) == 3
    package = load(path)
    names = {"0.weight", "2.weight", "4.weight"}
    own = {}
    with braze.no_grad():
        inputs = {size: braze.randn(size, 24) for size in (1, 2, 7, 8, 33, 64)}
        plain = {size: model(x).numpy() for size, x in inputs.items()}
        own = with_rounded(model, dtype, names)
        for size, x in inputs.items():
            found = package(x.numpy())
            np.testing.assert_allclose(found, model(x).numpy(), rtol=1e-4, atol=1e-5)
            assert 0 < np.abs(found - plain[size]).max() < 0.05
    assert own.keys() == names
    with pytest.raises(ValueError, match=r"calibration\[0\]: batch must be 1 to 64, given 65"):
        braze.aot.compile(
            model, braze.randn(8, 24), path, weights=dtype,
            dynamic=[{0: Dim("batch", max=64)}], calibration=[braze.randn(65, 24)],
        )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weight_that_several_codes_fold_is_reported_once(dtype, tmp_path):
    braze.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)]
    model, x = nn.Sequential(*layers).eval(), braze.randn(4, 3, 8, 8)
    fixed, dynamic = (
        braze.aot.compile(model, x, tmp_path / "m.brz", weights=dtype, **sizes)
        for sizes in ({}, {"dynamic": [{0: "batch"}]})
    )
    assert [w.name for w in dynamic.weights] == [w.name for w in fixed.weights]
    assert len({w.name for w in dynamic.weights}) == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_dynamic_sizes_whose_panels_are_converted_once(dtype, tmp_path):
    braze.manual_seed(0)
    model, path = nn.Linear(300, 256).eval(), tmp_path / "m.brz"
    braze.aot.compile(model, braze.randn(128, 300), path, weights=dtype, dynamic=[{0: "batch"}])
    package = load(path)
    inputs = {size: braze.randn(size, 300) for size in (1, 3, 17, 128, 333, 1024)}
    with_rounded(model, dtype, {"weight"})
    with braze.no_grad():
        for x in inputs.values():
            found, wanted = package(x.numpy()), model(x).numpy()
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)


def test_inspect_prints_the_report(tmp_path, capsys):
    model, x = nn.Sequential(nn.Linear(30, 8)).eval(), braze.randn(2, 30)
    report = braze.aot.compile(model, x, tmp_path / "m.brz", weights="int8")
    assert main(["inspect", str(tmp_path / "m.brz")]) == 0
    text = capsys.readouterr().out
    assert str(report) in text and "1 weights in int8: 960 -> 272 bytes" in text
    assert "same argmax" in text and "0.weight [8,30]: " in text
    braze.aot.compile(model, x, tmp_path / "m.brz")
    assert main(["inspect", str(tmp_path / "m.brz")]) == 0
    assert "int8" not in capsys.readouterr().out and load(tmp_path / "m.brz").accuracy is None


def test_bad_arguments(tmp_path):
    model, x, path = nn.Linear(4, 3).eval(), braze.randn(2, 4), tmp_path / "m.brz"
    for given in ("int4", "float32", braze.float16, 8):
        with pytest.raises(ValueError, match=r"weights must be 'bfloat16' or 'int8', or None .*"):
            braze.aot.compile(model, x, path, weights=given)
    with pytest.raises(ValueError, match=r"calibration compares narrow weights; give weights="):
        braze.aot.compile(model, x, path, calibration=[x])
    with pytest.raises(TypeError, match=r"calibration\[1\]: input 0 must be a tensor, given int"):
        braze.aot.compile(model, x, path, weights="int8", calibration=[x, [3]])
    for other in (braze.randn(3, 4), x.double(), [x, x], []):
        with pytest.raises(ValueError, match=r"calibration\[0\] must be like the example inputs"):
            braze.aot.compile(model, x, path, weights="int8", calibration=[other])
    assert not path.exists()


# Damage -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=DTYPES)
def whole(request, tmp_path_factory):
    braze.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(12, 16), nn.Linear(16, 4)).eval(), braze.randn(1, 12)
    path = tmp_path_factory.mktemp("whole") / "m.brz"
    braze.aot.compile(model, x, path, weights=request.param)
    return path.read_bytes(), x.numpy(), load(path)(x.numpy())


def test_mutations_are_refused_or_harmless(whole, tmp_path):
    data, x, wanted = whole
    rng, refused, path = random.Random(2), 0, tmp_path / "m.brz"
    for _ in range(500):
        at, length = rng.randrange(len(data)), rng.choice((1, 2, 7, 64))
        changed = {
            0: data[:at] + rng.randbytes(length) + data[at + length :],
            1: data[:at] + data[at + length :],
            2: data[:at] + rng.randbytes(length) + data[at:],
            3: data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
        }[rng.randrange(4)]
        path.write_bytes(changed)
        try:
            package = load(path)
        except PackageError:
            refused += 1
        else:
            np.testing.assert_array_equal(package(x), wanted)
    assert refused > 250


def rewritten(data, path, change):
    """A package whose manifest says something else, with hashes that are right."""
    path.write_bytes(data)
    archive = package_format.Archive(path)
    manifest = archive.manifest
    change(manifest)
    entries = {name: bytes(archive[name]) for name in archive._entries if name != "mimetype"}
    package_format.write_archive(path, manifest, entries)
    return path


def test_what_the_manifest_says_has_to_fit(whole, tmp_path):
    data, x, wanted = whole
    path = tmp_path / "m.brz"

    def slot(manifest, key, value):
        slots = manifest["targets"][0]["facts"]["inputs"]
        next(s for s in slots if s["name"] == "0.weight")[key] = value

    assert np.array_equal(load(rewritten(data, path, lambda m: None))(x), wanted)
    changes = [
        lambda m: slot(m, "dtype", "f32"),
        lambda m: slot(m, "shape", [16, 1200]),
        lambda m: m["targets"][0]["weights"].update({"0.weight": "0.bias"}),
        lambda m: m.update(accuracy=[]),
        lambda m: m["accuracy"].pop("outputs"),
        lambda m: m["accuracy"].update(outputs=[{}]),
        lambda m: m["accuracy"]["weights"][0].update(shape="wide"),
        lambda m: m["accuracy"].update(inputs="many"),
    ]
    for change in changes:
        with pytest.raises(PackageError, match="cannot be loaded"):
            load(rewritten(data, path, change))
