"""Packages for GPUs: what they compute, where they run, and what is refused."""

import json
import subprocess
import sys
import textwrap
import threading

import cuda_device
import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn
from braze.aot import Dim, export_c, load
from braze.ir.errors import ShapeError
from braze.ir.loops import Placement
from braze.ir.symint import SymInt
from braze.runtime import PackageError
from braze.runtime.artifact import layout_from
from braze.runtime.cuda.code import CudaCode
from braze.runtime.package_format import Archive

GPU = "cuda:0"
THIS = braze.cuda.get_device_capability(0)
several = pytest.mark.skipif(braze.cuda.device_count() < 2, reason="needs several GPUs")


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, image):
        x = F.relu(self.norm(self.first(image)))
        x = F.max_pool2d(F.relu(self.second(x) + x), 2)
        return F.log_softmax(self.head(F.dropout(x.mean((2, 3)), training=self.training)), 1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 7, 2)
        self.out = nn.Linear(7, 11)

    def forward(self, words):
        x, (h, c) = self.lstm(self.words(words))
        return {"words": self.out(x), "state": [h, c]}


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 4, 32)

    def forward(self, x):
        return self.layer(x)


def numbers(x):
    """Host calls, complex numbers, integers, and results that depend on no input."""
    found, order = braze.sort(x, descending=True)
    spectrum = braze.fft.rfft(x)
    return found, order, spectrum, braze.linalg.inv(x @ x.T + braze.eye(4)), braze.arange(3)


def flat(result):
    if isinstance(result, dict):
        return [x for part in result.values() for x in flat(part)]
    if isinstance(result, (list, tuple)):
        return [x for part in result for x in flat(part)]
    return [result]


def built(make, seed=0):
    braze.manual_seed(seed)
    return make().eval()


MODELS = {
    "residual": (lambda: built(Residual), lambda: braze.randn(2, 3, 8, 8)),
    "recurrent": (lambda: built(Recurrent), lambda: braze.arange(12).reshape(6, 2) % 11),
    "encoder": (lambda: built(Encoder), lambda: braze.randn(5, 2, 16)),
    "numbers": (lambda: numbers, lambda: braze.randn(4, 8)),
}


def check(expected, result):
    expected, result = [x.detach() for x in flat(expected)], flat(result)
    assert len(expected) == len(result)
    for a, b in zip(expected, result, strict=True):
        assert type(b) is np.ndarray and b.dtype == a.numpy().dtype
        np.testing.assert_allclose(b, a.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_results_are_the_eager_ones(name, tmp_path):
    make, draw = MODELS[name]
    model, x = make(), draw()
    path = tmp_path / "m.brz"
    braze.aot.compile(model, x, path, target="cuda")
    loaded = load(path)
    assert loaded.device == GPU and loaded.target.cpu in loaded.targets
    check(model(x), loaded(x.numpy()))
    again = loaded(x.numpy())
    check(model(x), again)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_narrow_weights(dtype, tmp_path):
    model, x = built(Residual), braze.randn(2, 3, 8, 8)
    braze.aot.compile(model, x, tmp_path / "m.brz", target=["host", "cuda"], weights=dtype)
    x = x.numpy()
    here, there = (load(tmp_path / "m.brz", device)(x) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-5)
    assert load(tmp_path / "m.brz").accuracy is not None


def test_a_model_on_a_gpu_makes_a_package_for_both(tmp_path):
    model, x = built(Residual), braze.randn(2, 3, 8, 8)
    expected = model(x)
    model.to(GPU)
    braze.aot.compile(model, x.to(GPU), tmp_path / "m.brz", target=["host", "cuda:0"])
    loaded = load(tmp_path / "m.brz")
    assert loaded.device == "cpu"
    check(expected, loaded(x.numpy()))
    check(expected, load(tmp_path / "m.brz", GPU)(x.numpy()))
    assert "@cuda:0" not in loaded.graph_text


def test_what_a_model_moves_itself_stays(tmp_path):
    def model(x):
        return (x.to(GPU) * 2).cpu() + 1, x.to(GPU)

    braze.aot.compile(model, braze.ones(3), tmp_path / "m.brz", target=["host", "cuda"])
    for device in ("cpu", GPU):
        first, second = load(tmp_path / "m.brz", device)(np.float32([1, 2, 3]))
        assert first.tolist() == [3, 5, 7] and second.tolist() == [1, 2, 3]


@several
def test_another_device(tmp_path):
    braze.aot.compile(nn.Linear(3, 2).eval(), braze.ones(1, 3), tmp_path / "m.brz", target="cuda")
    first, second = load(tmp_path / "m.brz"), load(tmp_path / "m.brz", braze.device("cuda", 1))
    assert second.device == "cuda:1"
    x = np.float32([[1, 2, 3]])
    np.testing.assert_array_equal(first(x), second(x))


def test_weights_are_on_the_gpu_once_and_freed(tmp_path):
    braze.aot.compile(nn.Linear(256, 64).eval(), braze.ones(1, 256), tmp_path / "m.brz",
                      target="cuda")  # fmt: skip
    before = braze.cuda.memory_allocated()
    loaded = load(tmp_path / "m.brz")
    held = braze.cuda.memory_allocated() - before
    assert held == 4 * (256 * 64 + 64)
    for _ in range(3):
        loaded(np.zeros((1, 256), np.float32))
    assert braze.cuda.memory_allocated() - before == held
    del loaded
    assert braze.cuda.memory_allocated() == before


def test_errors_of_a_call(tmp_path):
    braze.aot.compile(built(Recurrent), braze.zeros(2, 1, dtype=braze.int64),
                      tmp_path / "m.brz", target="cuda")  # fmt: skip
    loaded = load(tmp_path / "m.brz")
    with pytest.raises(TypeError, match="takes 1 inputs"):
        loaded()
    with pytest.raises(braze.ir.errors.ShapeError, match=r"input words must be i64\[2,1\]"):
        loaded(np.zeros((3, 1), np.int64))
    with pytest.raises(IndexError, match=r"(?s)11.*test_cuda_packages\.py"):
        loaded(np.array([[3], [11]]))
    check(built(Recurrent)(braze.tensor([[3], [4]])), loaded(np.array([[3], [4]])))


def test_threads_share_a_model(tmp_path):
    model = built(Encoder)
    braze.aot.compile(model, braze.zeros(3, 1, 16), tmp_path / "m.brz", target="cuda")
    loaded = load(tmp_path / "m.brz")
    inputs = [braze.randn(3, 1, 16) for _ in range(4)]
    expected = [model(x) for x in inputs]
    found = [[] for _ in inputs]

    def work(number):
        for _ in range(3):
            found[number].append(loaded(inputs[number].numpy()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for want, results in zip(expected, found, strict=True):
        assert len(results) == 3
        for result in results:
            check(want, result)


# Which code runs ----------------------------------------------------------------------------------


def test_code_for_another_gpu_is_refused(tmp_path):
    number = 10 * THIS[0] + THIS[1]
    other = "sm_120" if number < 120 else "sm_75"
    braze.aot.compile(nn.Linear(2, 2).eval(), braze.ones(1, 2), tmp_path / "m.brz", target=other)
    with pytest.raises(PackageError, match=rf"not built for this GPU cuda:0: {other} made for"):
        load(tmp_path / "m.brz")
    with pytest.raises(PackageError, match=rf"no code for device 'cpu', but for {other}"):
        load(tmp_path / "m.brz", "cpu")
    with pytest.raises(PackageError, match=f"no code for .*GPUs only|{other}"):
        export_c(tmp_path / "m.brz", tmp_path)
    with pytest.raises(ValueError, match="given 'gpu'"):
        load(tmp_path / "m.brz", "gpu")
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        load(tmp_path / "m.brz", "cuda:77")


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 4, 32)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        return F.log_softmax(self.out(self.layer(x)), -1), x.sum((0, 1))


def test_sizes_that_calls_choose(tmp_path):
    """One code for many sizes of two dimensions, and one where one of them vanishes."""
    model = built(Tagger)
    path = tmp_path / "m.brz"
    dims = {"x": {0: Dim("length", 1, 40), 1: Dim("batch", 2, 6)}}
    braze.aot.compile(model, braze.randn(9, 3, 16), path, target="cuda", dynamic=dims)
    loaded = load(path)
    for length, batch in ((1, 3), (7, 2), (40, 6)):
        x = braze.randn(length, batch, 16)
        check(model(x), loaded(x.numpy()))
    with pytest.raises(ShapeError, match="must be 1 to 40, given 41"):
        loaded(np.zeros((41, 2, 16), np.float32))
    assert "for many sizes of both" in loaded.describe_sizes()
    looked_at = load(path, "meta")
    assert looked_at.device == "meta" and looked_at.dynamic is not None


def test_weights_are_on_the_gpu_once_for_all_sizes(tmp_path):
    model = nn.Linear(256, 64).eval()
    braze.aot.compile(model, braze.ones(3, 256), tmp_path / "m.brz", target=["host", "cuda"],
                      dynamic={"input": {0: Dim("n", 2, 20)}})  # fmt: skip
    on_cpu, loaded = load(tmp_path / "m.brz"), load(tmp_path / "m.brz", "cuda")
    held = braze.cuda.memory_allocated()
    for size in (2, 3, 11, 20):
        x = braze.randn(size, 256)
        check(model(x), on_cpu(x.numpy()))
        check(model(x), loaded(x.numpy()))
    assert braze.cuda.memory_allocated() - held < 4 * 256 * 64 / 2


def test_recurrences_of_any_length(tmp_path):
    model = built(Recurrent)
    path = tmp_path / "m.brz"
    braze.aot.compile(model, braze.arange(12).reshape(6, 2) % 11, path, target="cuda",
                      dynamic={"words": {0: Dim("length", 1, 30)}})  # fmt: skip
    loaded = load(path)
    for length in (1, 2, 12, 30):
        words = braze.arange(2 * length).reshape(length, 2) % 11
        check(model(words), loaded(words.numpy()))


PROGRAM = """
    import sys
    import numpy as np
    import braze.runtime
    model = braze.runtime.load(sys.argv[1], sys.argv[2])
    if sys.argv[2] != "meta":
        print(model(np.ones((1, 3), np.float32)).shape)
    wrong = ("llvmlite", "braze.passes", "braze.codegen", "braze.tensor", "braze.engine")
    print([m for m in sys.modules if m.startswith(wrong)])
    print("pycuda" in sys.modules, model.targets, model.device)
"""


@pytest.mark.parametrize("device", ["cuda", "meta", "cpu"])
def test_a_fresh_process_needs_no_compiler(device, tmp_path):
    path = tmp_path / "m.brz"
    braze.aot.compile(nn.Linear(3, 2).eval(), braze.ones(1, 3), path, target=["x86-64-v2", "cuda"])
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    variables = cuda_device.variables()
    ran = subprocess.run([sys.executable, tmp_path / "program.py", path, device],
                         capture_output=True, text=True, env=variables)  # fmt: skip
    shape = [] if device == "meta" else ["(1, 2)"]
    name = "cuda:0" if device == "cuda" else device
    last = f"{device == 'cuda'} {load(path).targets} {name}"
    assert ran.stdout.splitlines() == [*shape, "[]", last], ran.stderr


def test_a_package_that_nobody_can_run_here_can_be_looked_at(tmp_path, capsys):
    from braze.cli import main

    path = tmp_path / "m.brz"
    targets = ["sm_75", "sm_120"]
    braze.aot.compile(built(Residual), braze.ones(1, 3, 8, 8), path, target=targets)
    looked = load(path, "meta")
    assert looked.targets == ("sm_75", "sm_120") and looked.device == "meta"
    assert [slot.name for slot in looked.inputs] == ["image"]
    assert looked.outputs[0].shape == (1, 5)
    with pytest.raises(PackageError, match="loaded with device='meta'"):
        looked(np.ones((1, 3, 8, 8), np.float32))
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "code for sm_75, sm_120" in said and "graph @" in said


# Packages that were written wrong -----------------------------------------------------------------


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """Those of code with launches, a host call, a repeated part and a check."""

    def model(x, i):
        return braze.linalg.inv(x), nn.functional.embedding(i, x), x.flip(0).cumsum(0)

    path = tmp_path_factory.mktemp("facts") / "m.brz"
    x = braze.eye(3)
    braze.aot.compile(model, [x, braze.tensor([0, 2])], path, target="cuda")
    return Archive(path).manifest["targets"][0]["facts"]


@pytest.fixture(scope="module")
def sized_facts(tmp_path_factory):
    """What the manifest says of code for many sizes."""
    path = tmp_path_factory.mktemp("sized") / "m.brz"
    model = nn.Sequential(nn.Linear(4, 8), nn.Softmax(0)).eval()
    braze.aot.compile(model, braze.ones(3, 4), path, target="cuda",
                      dynamic={"input": {0: Dim("n", 2, 40)}})  # fmt: skip
    return Archive(path).manifest["targets"][0]["codes"][0]


def test_facts_come_back(facts, sized_facts):
    for own in (facts, sized_facts["facts"]):
        code = CudaCode.from_facts(json.loads(json.dumps(own)), b"")
        assert code.facts() == own
        assert all(isinstance(p, Placement) for p in code.program.placements.values())


def test_code_for_many_sizes_has_those_of_a_call(sized_facts):
    code = CudaCode.from_facts(sized_facts["facts"], b"")
    made = code.at(layout_from(sized_facts["layout"]), [13])
    assert made.inputs[0].shape == (13, 4) or made.inputs[-1].shape == (13, 4)
    assert made.outputs[0].shape == (13, 8)
    numbers = [n for launch in made.program.launches() for n in (*launch.grid, *launch.arguments)]
    assert not any(isinstance(n, SymInt) for n in numbers)
    assert any(type(n) is int and n % 13 == 0 for n in numbers)


def of(facts, kind):
    return next(step for step in facts["steps"] if kind in step)


BROKEN = {
    "a missing buffer": lambda f: f["placements"].pop(next(iter(f["placements"]))),
    "a slot that there is not": lambda f: next(iter(f["placements"].values())).__setitem__(1, 9),
    "a kind that there is not": lambda f: next(iter(f["placements"].values())).__setitem__(0, "x"),
    "outside the arena": lambda f: f["placements"].update(more=["arena", 0, 1 << 40]),
    "a block that is too large": lambda f: of(f, "launch").update(block=[1024, 2, 1]),
    "no block": lambda f: of(f, "launch").update(grid=[0, 1, 1]),
    "a size of two numbers": lambda f: of(f, "launch").update(grid=[1, 1]),
    "shared memory": lambda f: of(f, "launch").update(shared_bytes=-1),
    "another host call": lambda f: f.update(calls=[]),
    "text for a call": lambda f: of(f, "call").update(call="nothing"),
    "text for a number": lambda f: f.update(arena_bytes="8"),
    "a target": lambda f: f.update(target="target"),
    "no steps": lambda f: f.pop("steps"),
    "a step of no kind": lambda f: f["steps"].append({}),
    "a failure": lambda f: f["failures"].append({}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_is_refused(name, facts):
    changed = json.loads(json.dumps(facts))
    BROKEN[name](changed)
    with pytest.raises(ValueError):
        CudaCode.from_facts(changed, b"")


def test_mutations_of_facts_are_refused_or_harmless(facts, sized_facts):
    """As far as reading them goes: any number, text or list may be anything else."""
    rng = np.random.default_rng(0)

    def mutated(item):
        kinds = [None, True, -1, 7, 1 << 70, "", "x", [], {}, [3], 1.5]
        if isinstance(item, dict) and item and rng.random() < 0.9:
            key = list(item)[rng.integers(len(item))]
            return {**item, key: mutated(item[key])}
        if isinstance(item, list) and item and rng.random() < 0.9:
            at = int(rng.integers(len(item)))
            return [*item[:at], mutated(item[at]), *item[at + 1 :]]
        return kinds[rng.integers(len(kinds))]

    refused = 0
    for _ in range(1000):
        try:
            CudaCode.from_facts(mutated(facts), b"")
        except (ValueError, braze.ir.errors.BrazeError):
            refused += 1
    assert refused > 500

    refused = 0
    layout = layout_from(sized_facts["layout"])
    for _ in range(500):
        try:
            CudaCode.from_facts(mutated(sized_facts["facts"]), b"").at(layout, [7])
        except (ValueError, ArithmeticError, IndexError, braze.ir.errors.BrazeError):
            refused += 1
    assert refused > 250
