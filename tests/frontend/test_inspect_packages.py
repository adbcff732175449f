"""`braze inspect model.brz` shows the code that the package has, and says so."""

import json
import platform
import re
import subprocess
import sys

import numpy as np
import pytest
from rewritten import rewritten

import braze
from braze import nn
from braze.aot import Dim
from braze.cli import main
from braze.codegen.llvm import panels
from braze.runtime import load, reproducing
from braze.runtime.package_format import Archive, PackageError, write_archive
from braze.runtime.package_insides import package_codes


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16 * 36, 10)

    def forward(self, x):
        x = self.norm(self.conv(x)).relu()  # the first line
        return self.head(x.flatten(1))  # the second line


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(8, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.cells(x)[0])


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    braze.manual_seed(0)
    path = tmp_path_factory.mktemp("net") / "net.brz"
    braze.aot.compile(Net().eval(), braze.randn(2, 3, 8, 8), path, weights="int8")
    return path


def test_what_is_shown_is_the_packages_machine_code(net):
    (code,) = package_codes(net)
    assert code.difference == "" and code.label == "host"
    size = sum(len(made) for made in code.machine_code.values())
    assert f"gives all {size} bytes of its {len(code.machine_code)} objects" in code.verdict
    text = str(code.graph)
    assert "i8[16,3,3,3]" in text and "batch_norm" not in text  # folded and narrowed
    assert code.packed and all("weight" not in name or name in code.weights for name in code.packed)
    (packing,) = [stage for stage in code.insides.loops if stage.name == "pack_weights"]
    assert set(packing.kernels) == {kernel.name for kernel in code.insides.kernels}


def test_the_captured_operations_lead_to_the_packages_kernels(net):
    (graph,) = braze.aot.inspect(net).graphs
    data = graph.data
    ops = [operation["op"] for operation in data["operations"]]
    assert ops == ["conv", "batch_norm_eval", "relu", "reshape", "linear"]
    first, second = data["kernels"]
    assert [ops[number] for number in first["operations"]] == ops[:3]
    assert [ops[number] for number in second["operations"]] == ops[3:]
    assert "i8[432] in" in first["loops"]
    lines = {number: text for file in data["files"] for number, text in file["lines"]}
    assert lines[data["operations"][0]["line"]].endswith("# the first line")
    names = [stage["name"] for stage in graph.passes]
    assert names[:2] == ["captured", "fold_weights"] and "pack_weights" in names
    for kernel in data["kernels"]:
        assert kernel["seconds"] > 0
        code = graph.code[kernel["function"]]
        assert kernel["function"] in code["llvm"] and kernel["function"] in code["assembly"]


def test_the_weights_are_those_of_the_file(net):
    (graph,) = braze.aot.inspect(net).graphs
    weights = {weight["name"]: weight for weight in graph.data["package"]["weights"]}
    assert weights["head.weight"]["dtype"] == "i8" and weights["head.weight"]["bytes"] == 5760
    assert weights["head.bias"]["dtype"] == "f32" and not weights["head.bias"]["packed"]
    assert any(weight["packed"] for weight in weights.values())
    assert "as they are stored" in braze.aot.inspect(net).memory()


def test_the_timed_code_computes_what_the_package_does(net):
    """It reads the package's weights in their order."""
    (code,) = package_codes(net)
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    storages = [braze.engine.Storage.from_numpy(x)]
    storages += [braze.engine.Storage.from_numpy(np.array(w)) for w in code.weights.values()]
    found = np.empty((2, 10), np.float32)
    assert [value.name for value in code.graph.inputs][1:] == list(code.weights)
    code.timed().run(storages, [braze.engine.Storage.from_numpy(found)])
    np.testing.assert_array_equal(found, load(net)(x))


CASES = {
    "convolution": (Net, (2, 3, 8, 8), {"target": ["x86-64-v2", "x86-64-v4", "aarch64"]}),
    "recurrent": (Recurrent, (5, 2, 8), {"weights": "bfloat16"}),
    "sizes": (Recurrent, (7, 2, 8), {"dynamic": [{0: Dim("time", max=24)}]}),
    "two sizes": (
        lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5)),
        (9, 9, 8),
        {"dynamic": [{0: Dim("batch", max=12), 1: Dim("time", max=12)}], "weights": "int8"},
    ),
    "table": (lambda: nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 5)), None, {}),
    "host": (lambda: lambda x: (braze.linalg.inv(x), x.flip(0).cumsum(0)), (4, 4), {}),
    "complex": (lambda: lambda x: braze.fft.fft(x).abs(), (3, 8), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_code_is_compiled_again_to_the_byte(tmp_path, case):
    make, shape, options = CASES[case]
    braze.manual_seed(0)
    model, path = make(), tmp_path / "m.brz"
    x = braze.ones(2, 3).long() if shape is None else braze.eye(4) + braze.ones(*shape[:-1], 4) \
        if case == "host" else braze.randn(*shape)  # fmt: skip
    braze.aot.compile(model.eval() if isinstance(model, nn.Module) else model, x, path, **options)
    codes = package_codes(path)
    assert len({code.label for code in codes}) == len(codes)
    for code in codes:
        assert code.difference == "", (code.label, code.difference)
        assert all(kernel.origins for kernel in code.insides.kernels), code.label
    if "dynamic" in options:
        many = next(code for code in codes if code.recipe.sized is not None)
        assert many.insides.loops[-1].name == "symbolic"
        assert any("{" in kernel.text.partition("[")[2] for kernel in many.insides.kernels)
        assert not many.can_be_timed


def test_another_compilers_code_is_told(net, tmp_path):
    archive = Archive(net)
    entries = {name: bytes(archive[name]) for name in archive._entries}
    entries["code/host/0.o"] += b"\0"
    path = tmp_path / "other.brz"
    write_archive(path, archive.manifest, entries)
    (graph,) = braze.aot.inspect(path).graphs
    assert graph.data["package"]["is_own"] is False
    verdict = graph.data["package"]["verdict"]
    assert verdict.startswith("the package's code/host/0.o is another: what is shown is what braze")
    assert verdict in braze.aot.inspect(path).summary()


def test_a_package_that_does_not_say_is_refused(net, tmp_path):
    path = rewritten(net, tmp_path / "m.brz", lambda m: m["targets"][0].pop("recipe"))
    load(path)  # nothing that runs needs it
    with pytest.raises(PackageError, match="does not say what its code was compiled from"):
        package_codes(path)


def test_the_command(net, tmp_path, capsys):
    assert main(["inspect", str(net)]) == 0
    said = capsys.readouterr().out
    assert "code host: code/host/0.o" in said and "head.weight: i8[10,576]" in said
    captured, _, compiled = said.partition("compiled from\ngraph @Net(")
    assert "batch_norm_eval" in captured and "batch_norm_eval" not in compiled
    assert main(["inspect", str(net), "--show", "all", "--json", str(tmp_path / "m.json")]) == 0
    said = capsys.readouterr().out
    for part in (
        "GFLOP/s",
        "links of graph Net, host",
        "memory plan of",
        "== pack_weights of loops",
    ):
        assert part in said
    assert said.count("this is the package's machine code") == 4
    (graph,) = json.loads((tmp_path / "m.json").read_text())["graphs"]
    assert graph["package"]["is_own"] is True
    assert main(["inspect", str(net), "--list"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["captured", "fold_weights"]
    assert main(["inspect", str(net), "--stage", "pack_weights"]) == 0
    assert capsys.readouterr().out.startswith("program @Net(")
    assert main(["inspect", str(net), "--stage", "nothing"]) == 1
    assert "the stages are captured, fold_weights" in capsys.readouterr().err


def test_one_code_of_several(tmp_path, capsys):
    path = tmp_path / "m.brz"
    sizes = [{0: Dim("batch", max=30)}]
    braze.aot.compile(nn.Linear(8, 4).eval(), braze.ones(12, 8), path, dynamic=sizes)
    labels = [code.label for code in package_codes(path)]
    assert labels[0].startswith("host/2-") and "host/1-1" in labels
    assert main(["inspect", str(path), "--code", "host/1-1", "--show", "summary"]) == 0
    assert "graph Linear, host/1-1: " in capsys.readouterr().out
    assert len(braze.aot.inspect(path, 3).graphs) == 3
    assert braze.aot.inspect(path, 3).notes == [f"{len(labels) - 3} codes left out."]
    assert main(["inspect", str(path), "--code", "host/99"]) == 1
    assert f"has no code 'host/99'; it has {labels[0]}, " in capsys.readouterr().err


# Reproducers --------------------------------------------------------------------------------------


def run(path):
    """The status and the output of a program that stands alone."""
    command = [sys.executable, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_a_packages_graph_is_a_program_of_its_own(net, tmp_path, capsys):
    path = tmp_path / "graph.py"
    assert main(["inspect", str(net), "--repro", str(path)]) == 0
    assert f"wrote {path}" in capsys.readouterr().err
    text = path.read_text()
    assert "i8[16,3,3,3]" in text and "on the package's weights, and arguments drawn at" in text
    status, said = run(path)
    assert status == 0, said
    assert "nothing changed a result" in said
    assert re.search(r"weights in their package's order: output 0: float32\[2, 10\] as exp", said)
    (code,) = package_codes(net)
    assert f"ORDERS = {code.packed!r}" in text


def test_a_packages_kernel_is_a_program_of_its_own(net, tmp_path):
    (graph,) = braze.aot.inspect(net).graphs
    for number, kernel in enumerate(graph.insides.kernels):
        path = tmp_path / f"kernel{number}.py"
        graph.repro(path, kernel.name)
        status, said = run(path)
        assert status == 0, said
        assert "compiled: %" in said and "as expected" in said and "DIFFERS" not in said
    first = (tmp_path / "kernel0.py").read_text()
    assert "ORDERS = {" in first
    without = tmp_path / "without.py"
    without.write_text(re.sub(r"^ORDERS = .*$", "ORDERS = {}", first, flags=re.M))
    status, said = run(without)
    assert status == 1 and "DIFFERS" in said, said
    with pytest.raises(KeyError, match=r"no kernel 'nothing'; the kernels are contract"):
        graph.repro(tmp_path / "never.py", "nothing")


def test_weights_in_a_wrong_order_are_seen(net, monkeypatch, capsys):
    (code,) = package_codes(net)
    given = code.graph, code.inputs(), code.target, code.packed
    assert reproducing._compare_packed(*given) is False
    monkeypatch.setattr(panels, "packed", lambda array, order: array)
    assert reproducing._compare_packed(*given) is True
    assert "output 0: float32[2, 10] DIFFERS in" in capsys.readouterr().out


@pytest.mark.skipif(platform.machine() != "x86_64", reason="runs code for x86-64")
def test_reproducers_of_code_for_many_sizes_and_other_processors(tmp_path):
    path, program = tmp_path / "m.brz", tmp_path / "program.py"
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    dynamic = [{0: Dim("batch", max=30)}]
    targets = ["x86-64-v2", "aarch64"]
    braze.aot.compile(model, braze.ones(12, 8), path, targets, dynamic=dynamic)
    graphs = braze.aot.inspect(path, 99).graphs
    many = next(g for g in graphs if g.code_in_package.label.startswith("x86-64-v2/2-"))
    for kernel in (None, many.insides.kernels[0].name):
        many.repro(program, kernel)
        status, said = run(program)
        assert status == 0 and "for x86-64-v2, " in said, said
    foreign = next(g for g in graphs if g.code_in_package.label == "aarch64/1-1")
    foreign.repro(program)
    status, said = run(program)
    assert status == 2 and "this processor cannot run code for aarch64" in said, said
