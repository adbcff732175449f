"""Ahead-of-time compilation end to end: a module, a package, a fresh process."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import safetensors.numpy

import braze
from braze import nn
from braze.ir.errors import ShapeError
from braze.runtime import load
from braze.runtime.package_format import PackageError


class Net(nn.Module):
    """Convolution, normalisation, dropout and two results."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(6 * 4 * 4, 5)

    def forward(self, x):
        h = nn.functional.max_pool2d(nn.functional.relu(self.norm(self.conv(x))), 2)
        logits = self.fc(self.drop(h).flatten(1)) * 0.5
        return {"logits": logits, "mean": [h.mean()]}


@pytest.fixture
def net():
    braze.manual_seed(0)
    model = Net()
    x = braze.randn(3, 1, 8, 8)
    model(x)  # moves the running statistics away from their start
    return model.eval(), x


def expected(model, x):
    with braze.no_grad():
        result = model(x)
    return result["logits"].numpy(), result["mean"][0].numpy()


def test_a_package_gives_the_modules_results(net, tmp_path):
    model, x = net
    path = tmp_path / "net.brz"
    braze.aot.compile(model, x, path)
    logits, mean = expected(model, x)
    result = load(path)(x.numpy())
    np.testing.assert_allclose(result["logits"], logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result["mean"][0], mean, rtol=1e-5)


def test_a_fresh_process_needs_no_compiler(net, tmp_path):
    model, x = net
    path = tmp_path / "net.brz"
    braze.aot.compile(model, x, path)
    np.save(tmp_path / "x.npy", x.numpy())
    code = f"""
import json, sys
import numpy as np
import braze.runtime
model = braze.runtime.load({str(path)!r})
logits = model(np.load({str(tmp_path / "x.npy")!r}))["logits"]
print(json.dumps([logits.tolist(), sorted(sys.modules)]))
"""
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    logits, modules = json.loads(output)
    np.testing.assert_allclose(logits, expected(model, x)[0], rtol=1e-5, atol=1e-6)
    loaded = [m for m in modules if m.startswith(("braze.passes", "braze.codegen", "llvmlite"))]
    assert loaded == []
    assert "braze.tensors" not in modules and "braze.capture" not in modules


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x, scale: x * scale, ["x", "scale"]),
        (lambda *arrays: arrays[0] * arrays[1], ["input0", "input1"]),
        (braze.mul, ["input", "other"]),
    ],
)
def test_inputs_have_the_parameters_names(tmp_path, function, names):
    examples = [braze.ones(8, 3), braze.ones(8, 3)]
    for dynamic in (None, {names[1]: {0: "n"}, "input0": {0: "n"}}):
        braze.aot.compile(function, examples, tmp_path / "m.brz", dynamic=dynamic)
        model = load(tmp_path / "m.brz")
        assert [slot.name for slot in model.inputs] == names
        x = np.full((8, 3), 3, np.float32)
        assert np.array_equal(model(x, x), x * x)


def test_later_training_does_not_change_a_package(net, tmp_path):
    model, x = net
    path = tmp_path / "net.brz"
    braze.aot.compile(model, x, path)
    before = load(path)(x.numpy())["logits"]
    with braze.no_grad():
        model.fc.weight.zero_()
    np.testing.assert_array_equal(load(path)(x.numpy())["logits"], before)


def test_wrong_arguments_are_named(net, tmp_path):
    model, x = net
    path = tmp_path / "net.brz"
    braze.aot.compile(model, x, path)
    package = load(path)
    with pytest.raises((ValueError, TypeError, RuntimeError), match=r"f32\[3,1,8,8\]"):
        package(np.zeros((2, 1, 8, 8), np.float32))


def test_training_mode_is_refused(net, tmp_path):
    model, x = net
    with pytest.raises(RuntimeError, match=r"model|module.*eval\(\)"):
        braze.aot.compile(model.train(), x, tmp_path / "net.brz")
    assert not (tmp_path / "net.brz").exists()


def test_value_dependent_functions_are_refused(tmp_path):
    def branch(x):
        return x * 2.0 if x.sum() > 0 else x

    with pytest.raises(RuntimeError, match="read a tensor's value"):
        braze.aot.compile(branch, braze.ones(3), tmp_path / "f.brz")
    with pytest.raises(TypeError, match="must be a tensor"):
        braze.aot.compile(lambda x: x, [3.0], tmp_path / "f.brz")


def test_a_package_for_another_cpu(net, tmp_path):
    model, x = net
    path = tmp_path / "net.brz"
    braze.aot.compile(model, x, path, target="aarch64")
    with pytest.raises(PackageError, match="aarch64"):
        load(path)


def test_several_targets_in_one_package(net, tmp_path):
    model, x = net
    path = tmp_path / "net.brz"
    braze.aot.compile(model, x, path, target=["x86-64-v2", "x86-64-v3", "x86-64-v4"])
    np.testing.assert_allclose(
        load(path)(x.numpy())["logits"], expected(model, x)[0], rtol=1e-5, atol=1e-6
    )


def test_weights_lie_in_the_order_of_the_code_that_reads_them(tmp_path):
    """For each target in its own; what is the same for two is stored once."""
    braze.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 96)).eval()
    x, path = braze.randn(200, 256), tmp_path / "net.brz"
    with braze.no_grad():
        wanted = model(x).numpy()
    for targets in ["x86-64-v4"], ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"]:
        braze.aot.compile(model, x, path, target=targets)
        np.testing.assert_allclose(load(path)(x.numpy()), wanted, rtol=1e-5, atol=1e-5)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        stored = safetensors.numpy.load(archive.read("weights.safetensors"))
    for entry in manifest["targets"]:
        assert entry["weights"].keys() >= {"0.weight", "0.bias"} <= stored.keys()
        assert stored.keys() >= set(entry["weights"].values())
        assert entry["weights"]["0.bias"] == "0.bias"
    assert len({entry["weights"]["0.weight"] for entry in manifest["targets"]}) > 1
    assert not np.array_equal(stored["0.weight"], model[0].weight.detach().numpy())


def test_a_damaged_package(net, tmp_path):
    model, x = net
    path = tmp_path / "net.brz"
    braze.aot.compile(model, x, path)
    data = bytearray(path.read_bytes())
    at = data.find(b"\x7fELF") + 100
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(PackageError, match="damaged"):
        load(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(PackageError):
        load(path)


def test_inputs_are_called_like_the_parameters(tmp_path):
    def scaled(signal, by, *others):
        return signal * by + others[0]

    path = tmp_path / "f.brz"
    braze.aot.compile(scaled, [braze.ones(3), braze.ones(1), braze.ones(3)], path)
    package = load(path)
    names = [slot.name for slot in package.inputs]
    assert names[:2] == ["signal", "by"] and len(set(names)) == 3
    with pytest.raises(ShapeError, match=r"input by must be f32\[1\]"):
        package(np.ones(3, "f4"), np.ones(2, "f4"), np.ones(3, "f4"))
    np.testing.assert_array_equal(
        package(np.full(3, 2, "f4"), np.full(1, 5, "f4"), np.ones(3, "f4")), [11, 11, 11]
    )
    by_name = {names[2]: np.ones(3, "f4"), "by": np.full(1, 5, "f4")}
    np.testing.assert_array_equal(package(np.full(3, 2, "f4"), **by_name), [11, 11, 11])
    with pytest.raises(TypeError, match="takes no input signal behind 1 others, but by, "):
        package(np.ones(3, "f4"), signal=np.ones(3, "f4"))
    with pytest.raises(TypeError, match="takes 3 inputs .* given 2"):
        package(np.ones(3, "f4"), by=np.ones(1, "f4"))


def test_a_refused_operation_leaves_nothing_to_the_next_trace(tmp_path):
    """Its operands were taken for inputs already, and would be counted as arguments."""
    net = braze.nn.Linear(8, 3).eval()
    good, bad = braze.zeros(2, 8), braze.zeros(2, 9)
    braze.sync()
    with pytest.raises(ShapeError):
        net(bad)
    braze.aot.compile(net, good, tmp_path / "net.brz")
    with pytest.raises(ShapeError, match="input features differ"):
        braze.aot.compile(net, good, tmp_path / "net.brz", dynamic={"input": {1: "b"}})


def test_reading_a_value_is_refused_at_its_line(tmp_path):
    def decides(x):
        y = x * 2
        if y.sum() > 0:
            return y
        return x

    with pytest.raises(RuntimeError, match=r"read a tensor's value") as refused:
        braze.aot.compile(decides, braze.ones(3), tmp_path / "f.brz")
    line = decides.__code__.co_firstlineno + 2
    assert f"test_aot.py:{line}: if y.sum() > 0:" in str(refused.value)
