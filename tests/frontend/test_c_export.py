"""Packages as C libraries: a C program computes what Python does, to the bit."""

import ctypes
import re
import sys
from pathlib import Path

import c_programs
import numpy as np
import pytest
from models import resnet18

import braze
from braze import cli, nn
from braze.codegen.llvm.c_driver import LIBRARY
from braze.runtime import c_export, host_target, load
from braze.runtime.elf import ObjectFile
from braze.runtime.object_loader import LoadedObject
from braze.runtime.package_format import PackageError

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.models import mobile_network

pytestmark = pytest.mark.skipif(c_programs.COMPILER is None, reason="there is no C compiler")
# valgrind knows no AVX-512.
CHECKED = "x86-64-v3"
needs_valgrind = pytest.mark.skipif(
    c_programs.VALGRIND is None or not {"avx2", "fma"} <= set(host_target().features),
    reason="there is no valgrind, or no AVX2",
)


class Convolutions(nn.Module):
    """Two results, in a dict and a list."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        h = nn.functional.relu(self.norm(self.first(images)))
        h = nn.functional.max_pool2d(h + self.second(h), 2)
        return {"logits": self.head(h.mean([2, 3])), "maps": [h, h.argmax(1)]}


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 10, num_layers=2, bidirectional=True)

    def forward(self, x):
        y, (h, c) = self.lstm(x)
        return y, h, c


class Attentive(nn.Module):
    """Token numbers in, so that one may be out of range."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, tokens):
        return self.encoder(self.table(tokens))


def of_many_kinds(a, b, truth, z):
    """Integers, truth values, double precision, complex numbers."""
    wide = b.double().exp() + a.double()
    return (a + b.to(braze.int64)) // 3, (a > 0) & truth, z * z.conj(), wide


def without_elements(x, y):
    return x + 1.0, y.sum(), braze.cat([y, x])


def example(seed, *shape):
    braze.manual_seed(seed)
    return braze.randn(*shape)


CASES = {
    "convolutions": lambda: (Convolutions().eval(), [example(1, 2, 3, 9, 11)]),
    "recurrent": lambda: (Recurrent().eval(), [example(2, 7, 3, 6)]),
    "attentive": lambda: (Attentive().eval(), [braze.arange(18).reshape(2, 9) % 11]),
    "kinds": lambda: (
        of_many_kinds,
        [
            braze.arange(21) - 7,
            braze.arange(21).to(braze.int8) - 5,
            braze.arange(21) % 2 == 0,
            braze.complex(example(3, 5), example(4, 5)),
        ],
    ),
    "empty": lambda: (without_elements, [braze.zeros(0), example(5, 4)]),
    "resnet": lambda: (resnet18(nn, classes=5, width=8).eval(), [example(8, 1, 3, 33, 33)]),
    "mobilenet": lambda: (mobile_network(braze, 5).eval(), [example(9, 1, 3, 33, 33)]),
    "large": lambda: (lambda x, y: (x @ y).softmax(1), [example(6, 200, 96), example(7, 96, 300)]),
}


def flat(result):
    """The arrays of a package's result, in the order of the C names."""
    if isinstance(result, np.ndarray):
        return [result]
    parts = result.values() if isinstance(result, dict) else result
    return [array for part in parts for array in flat(part)]


def fields(header, kind):
    """The C names of the inputs or outputs."""
    text = header.read_text()
    body = re.search(rf"typedef struct \w+_{kind} {{\n(.*?)}}", text, re.S)[1]
    return [name for name in re.findall(r"\*(\w+);", body) if name != "unused"]


def exported(tmp_path, module, arguments, name="net", **options):
    """The package's model and the exported files."""
    braze.manual_seed(0)
    path = tmp_path / f"{name}.brz"
    braze.aot.compile(module, arguments, path, **options)
    return load(path), braze.aot.export_c(path, tmp_path / "c")


def compared(tmp_path, files, model, arrays, size=None, threads=(1, 3), checked=False):
    """Run the C program; its results are the package's, bit for bit."""
    wanted = flat(model(*arrays))
    inputs = dict(zip(fields(files.header, "inputs"), arrays, strict=True))
    outputs = dict(zip(fields(files.header, "outputs"), wanted, strict=True))
    program = c_programs.program_for(files.header, inputs, outputs, size)
    for count in threads:
        done = c_programs.run(program, count, checked=checked)
        assert done.returncode == 0, done.stderr
        for name, array in c_programs.results(program.parent, outputs).items():
            assert array.tobytes() == outputs[name].tobytes(), name


@pytest.mark.parametrize("case", CASES)
def test_a_c_program_computes_the_same_bits(case, tmp_path):
    braze.manual_seed(0)
    module, arguments = CASES[case]()
    model, files = exported(tmp_path, module, arguments)
    compared(tmp_path, files, model, [x.numpy() for x in arguments])


@needs_valgrind
@pytest.mark.parametrize("case", CASES)
def test_valgrind_finds_no_fault(case, tmp_path):
    braze.manual_seed(0)
    module, arguments = CASES[case]()
    model, files = exported(tmp_path, module, arguments, target=CHECKED)
    compared(tmp_path, files, model, [x.numpy() for x in arguments], threads=(2,), checked=True)


def test_a_failed_check_is_a_code_and_a_message(tmp_path):
    module, (tokens,) = CASES["attentive"]()
    model, files = exported(tmp_path, module, [tokens])
    wrong = tokens.numpy().copy()
    wrong[1, 2] = 11
    with pytest.raises(IndexError) as python:
        model(wrong)
    (name,), (result,) = fields(files.header, "inputs"), fields(files.header, "outputs")
    outputs = {result: model(tokens.numpy())}
    program = c_programs.program_for(files.header, {name: wrong}, outputs)
    done = c_programs.run(program, 2)
    assert done.returncode == 5  # FAILED_CHECK
    assert "index 11 is out of range [" in done.stderr
    # The same text as in Python, each time that the model is called.
    assert done.stderr == f"{python.value}\n" * 2


def test_a_divisor_of_zero_is_a_code_too(tmp_path):
    model, files = exported(tmp_path, lambda a, b: a // b, [braze.arange(6), braze.arange(6) + 1])
    names = fields(files.header, "inputs")
    arrays = dict(zip(names, (np.arange(6), np.arange(6)), strict=True))
    program = c_programs.program_for(files.header, arrays, {"output": np.arange(6)})
    done = c_programs.run(program, 1)
    assert done.returncode == 5 and "ZeroDivisionError: an integer divisor is 0" in done.stderr


class Sequences(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.table = nn.Embedding(20, 16)

    def forward(self, tokens):
        h = self.encoder(self.table(tokens))
        return {"each": h, "mean": h.mean(1), "count": tokens.sum(1)}


def perceptron():
    return nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 3))


def test_calls_choose_a_size(tmp_path):
    braze.manual_seed(0)
    model, files = exported(tmp_path, perceptron(), example(1, 8, 12), dynamic=[{0: "batch"}])
    for size in (1, 2, 3, 8, 64, 333, 1024):
        compared(tmp_path, files, model, [example(size, size, 12).numpy()], size, threads=(2,))
    header = files.header.read_text()
    assert "#define NET_BATCH_HIGHEST 1024" in header
    assert "#define NET_OUTPUT_COUNT(size) ((int64_t)(size) * 3)" in header


def test_the_size_may_be_in_the_middle(tmp_path):
    braze.manual_seed(0)
    dim = braze.aot.Dim("time", max=40)
    tokens = braze.arange(24).reshape(2, 12) % 20
    model, files = exported(tmp_path, Sequences().eval(), tokens, dynamic=[{1: dim}])
    for size in (1, 5, 12, 31, 40):
        given = np.arange(2 * size).reshape(2, size) * 7 % 20
        compared(tmp_path, files, model, [given], size)


@needs_valgrind
def test_valgrind_finds_no_fault_at_any_size(tmp_path):
    braze.manual_seed(0)
    model, files = exported(
        tmp_path, perceptron(), example(1, 8, 12), dynamic=[{0: "batch"}], target=CHECKED
    )
    for size in (1, 7, 50):
        given = example(size, size, 12).numpy()
        compared(tmp_path, files, model, [given], size, threads=(2,), checked=True)


def test_a_size_out_of_range_is_a_code(tmp_path):
    dim = braze.aot.Dim("batch", max=9)
    _, files = exported(tmp_path, perceptron(), example(1, 8, 12), dynamic=[{0: dim}])
    given, made = {"input": np.zeros((9, 12), "f4")}, {"output": np.zeros((9, 3), "f4")}
    for size in (0, 10, -1):
        done = c_programs.run(c_programs.program_for(files.header, given, made, size))
        assert done.returncode == 1
        assert done.stderr == f"batch must be 1 to 9, given {size}\n" * 2


def test_calls_choose_two_sizes(tmp_path):
    braze.manual_seed(0)
    dims = [{0: braze.aot.Dim("batch", max=20), 1: braze.aot.Dim("time", max=40)}]
    tokens = braze.arange(48).reshape(4, 12) % 20
    model, files = exported(tmp_path, Sequences().eval(), tokens, dynamic=dims)
    for batch, time in ((1, 1), (1, 40), (20, 1), (20, 40), (2, 2), (3, 17)):
        given = np.arange(batch * time).reshape(batch, time) * 7 % 20
        compared(tmp_path, files, model, [given], (batch, time), threads=(2,))
    header = files.header.read_text()
    assert (
        "net_run(net_model *model, int64_t batch, int64_t time, const net_inputs *in" in header
    )
    assert "#define NET_BATCH_HIGHEST 20\n#define NET_TIME_LOWEST 1" in header
    assert "#define NET_MEAN_COUNT(batch, time) ((int64_t)(batch) * " in header


def test_either_of_two_sizes_out_of_range_is_a_code(tmp_path):
    dims = [{0: braze.aot.Dim("batch", max=9), 1: braze.aot.Dim("time", 2, 12)}]
    _, files = exported(tmp_path, nn.Linear(4, 3), example(1, 5, 8, 4), dynamic=dims)
    given, made = {"input": np.zeros((9, 12, 4), "f4")}, {"output": np.zeros((9, 12, 3), "f4")}
    for sizes, text in {
        (0, 5): "batch must be 1 to 9, given 0",
        (10, 1): "batch must be 1 to 9, given 10",
        (9, 13): "time must be 2 to 12, given 13",
        (9, 1): "time must be 2 to 12, given 1",
    }.items():
        done = c_programs.run(c_programs.program_for(files.header, given, made, sizes))
        assert done.returncode == 1 and done.stderr == f"{text}\n" * 2


# What cannot be exported --------------------------------------------------------------------------


def test_what_numpy_computes_is_refused_with_its_line(tmp_path):
    path = tmp_path / "f.brz"
    braze.aot.compile(lambda a: braze.linalg.svdvals(a).sum(), example(1, 4, 4), path)
    with pytest.raises(PackageError, match=r"computes \w*sv\w* with NumPy") as raised:
        braze.aot.export_c(path, tmp_path)
    assert "test_c_export.py:" in str(raised.value)
    assert not (tmp_path / "f.h").exists() and not (tmp_path / "f.o").exists()


def test_what_is_asked_for_must_be_there(tmp_path):
    path = tmp_path / "f.brz"
    braze.aot.compile(lambda a: a + 1, example(1, 4), path, target=["x86-64-v2", "aarch64"])
    with pytest.raises(PackageError, match="no code for x86-64-v4, but for x86-64-v2, aarch64"):
        braze.aot.export_c(path, tmp_path, target="x86-64-v4")
    with pytest.raises(ValueError, match="name 'a-b' is no C identifier"):
        braze.aot.export_c(path, tmp_path, name="a-b")
    with pytest.raises(ValueError, match="name 'double' is no C identifier"):
        braze.aot.export_c(path, tmp_path, name="double")
    with pytest.raises(FileNotFoundError):
        braze.aot.export_c(tmp_path / "g.brz", tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(PackageError, match="damaged"):
        braze.aot.export_c(path, tmp_path)


def test_weights_beyond_one_object_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "f.brz"
    braze.aot.compile(perceptron(), example(1, 8, 12), path)
    monkeypatch.setattr(c_export, "_MOST_WEIGHTS", 2000)
    with pytest.raises(PackageError, match="the weights take more than 2000 bytes"):
        braze.aot.export_c(path, tmp_path)


def test_a_shared_library_needs_a_compiler(tmp_path, monkeypatch):
    path = tmp_path / "f.brz"
    braze.aot.compile(lambda a: a + 1, example(1, 4), path)
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    with pytest.raises(FileNotFoundError, match="found none: no-such-compiler"):
        braze.aot.export_c(path, tmp_path, shared=True)
    monkeypatch.setenv("CC", f"{c_programs.COMPILER} --no-such-option")
    with pytest.raises(RuntimeError, match=r"cannot link f\.so:\n.*no-such-option"):
        braze.aot.export_c(path, tmp_path, shared=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.brz"]


def test_a_shared_library_runs_in_this_process(tmp_path):
    path = tmp_path / "my model.brz"
    braze.aot.compile(lambda a, b: a @ b, [example(1, 5, 7), example(2, 7, 3)], path)
    files = braze.aot.export_c(path, tmp_path, shared=True)
    assert files.library == tmp_path / "my_model.so"
    library = ctypes.CDLL(str(files.library))
    library.my_model_create.restype = ctypes.c_void_p
    model = ctypes.c_void_p(library.my_model_create(2, None))
    a, b, made = example(1, 5, 7).numpy(), example(2, 7, 3).numpy(), np.empty((5, 3), "f4")
    given = (ctypes.c_void_p * 2)(a.ctypes.data, b.ctypes.data)
    results = (ctypes.c_void_p * 1)(made.ctypes.data)
    assert library.my_model_run(model, given, results, None) == 0
    library.my_model_destroy(model)
    np.testing.assert_array_equal(made, load(path)(a, b))


def test_the_command_writes_the_files(tmp_path, capsys):
    path = tmp_path / "f.brz"
    braze.aot.compile(lambda a: a + 1, example(1, 4), path)
    given = ["export", str(path), "-o", str(tmp_path / "out"), "--name", "adder", "--shared"]
    assert cli.main(given) == 0
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["adder.h", "adder.o", "adder.so"]
    assert cli.main(["export", str(path), "--target", "x86-64-v9"]) == 1
    assert "has no code for x86-64-v9" in capsys.readouterr().err


def test_names_fit_c_whatever_they_are_in_python(tmp_path):
    def f(int, x, X, model):
        return {"long": int + x, "x": X - model, "a b": x * 2}

    arrays = [example(n, 3) for n in range(4)]
    model, files = exported(tmp_path, f, arrays)
    assert fields(files.header, "inputs") == ["int_", "x", "X_2", "model"]
    assert fields(files.header, "outputs") == ["long_", "x_3", "a_b"]
    compared(tmp_path, files, model, [x.numpy() for x in arrays])


def test_a_dimension_may_have_any_name(tmp_path):
    dims = [{0: braze.aot.Dim("model", max=20)}]
    model, files = exported(tmp_path, perceptron(), example(1, 8, 12), dynamic=dims)
    compared(tmp_path, files, model, [example(4, 4, 12).numpy()], 4)


def test_scalars_and_what_has_no_inputs(tmp_path):
    number = braze.tensor(1.5)
    model, files = exported(tmp_path, lambda a: (a * 2, a.half(), a.bfloat16()), [number])
    compared(tmp_path, files, model, [np.float32(1.5).reshape(())])
    table = braze.arange(6).float()
    model, files = exported(tmp_path, lambda: table * 3, [], name="fixed")
    compared(tmp_path, files, model, [])


def test_code_for_another_machine(tmp_path):
    """No program is run, but every reference of the object has its place."""
    path = tmp_path / "net.brz"
    braze.aot.compile(Convolutions().eval(), CASES["convolutions"]()[1], path, target="aarch64")
    data = braze.aot.export_c(path, tmp_path).object.read_bytes()
    loaded = LoadedObject(data, dict.fromkeys(LIBRARY, 4096), allow_foreign=True)
    assert loaded.machine == "aarch64"
    assert {"net_create", "net_run", "net_destroy"} <= set(loaded.symbols)
    (used,) = [s for s in ObjectFile(data).symbols if s.name == "getauxval"]
    assert used.is_external


@pytest.mark.skipif(
    c_programs.ARM_COMPILER is None or c_programs.ARM_EMULATOR is None,
    reason="there is no compiler or no emulator for aarch64",
)
@pytest.mark.parametrize("case", ["convolutions", "recurrent", "attentive", "kinds"])
def test_code_for_another_machine_runs_there(case, tmp_path):
    """On an emulator; another machine's code rounds otherwise."""
    braze.manual_seed(0)
    module, arguments = CASES[case]()
    targets = [host_target().name, "aarch64"]
    braze.aot.compile(module, arguments, tmp_path / "net.brz", target=targets)
    arrays = [x.numpy() for x in arguments]
    wanted = flat(load(tmp_path / "net.brz")(*arrays))
    files = braze.aot.export_c(tmp_path / "net.brz", tmp_path / "c", target="aarch64")
    inputs = dict(zip(fields(files.header, "inputs"), arrays, strict=True))
    outputs = dict(zip(fields(files.header, "outputs"), wanted, strict=True))
    compiler = [c_programs.ARM_COMPILER, "-static"]
    program = c_programs.program_for(files.header, inputs, outputs, compiler=compiler)
    for threads in (1, 3):
        done = c_programs.run(program, threads, on=[c_programs.ARM_EMULATOR])
        assert done.returncode == 0, done.stderr
        for name, array in c_programs.results(program.parent, outputs).items():
            np.testing.assert_allclose(array, outputs[name], rtol=2e-5, atol=2e-6)


def test_an_export_is_reproducible(tmp_path):
    path = tmp_path / "net.brz"
    braze.aot.compile(perceptron(), example(1, 8, 12), path)
    one, two = (braze.aot.export_c(path, tmp_path / name, "net") for name in ("a", "b"))
    assert one.object.read_bytes() == two.object.read_bytes()
    assert one.header.read_bytes() == two.header.read_bytes()
