"""Reproducers: programs of one file that run a kernel or a graph alone; and `braze bisect`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults import other_text, wrong_code

import braze
from braze import nn
from braze.cli import main
from braze.nn import functional as F
from braze.runtime import repro
from braze.runtime.cache import clear_memory
from braze.runtime.checking import KernelDifference
from braze.runtime.repro import array_from

SCRIPT = """
import sys
import braze
from braze.nn import functional as F

braze.manual_seed(0)
model = braze.nn.Linear(8, 4)
optimizer = braze.optim.SGD(model.parameters(), lr=0.1)
x = braze.randn(16, 8)
for step in range(int(sys.argv[1])):
    optimizer.zero_grad()
    loss = F.mse_loss(model(x).relu(), braze.zeros(16, 4))
    loss.backward()
    optimizer.step()
print("loss", loss.item() >= 0.0)
"""


def run(path, *arguments):
    """The status and the output of a program that stands alone."""
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        cwd=Path(path).parent,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def inspection():
    braze.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 5))

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        return [loss, *braze.autograd.grad(loss, list(model.parameters()))]

    return braze.inspect(step, braze.randn(6, 16), braze.tensor([0, 1, 2, 3, 4, 0]))


def kernels(inspection):
    return [kernel.name for kernel in inspection.report.graphs[0].insides.kernels]


def test_each_kernel_runs_alone(inspection, tmp_path):
    """In this process, since there are many; one of them by itself is below."""
    from braze.runtime.kernel_program import KernelProgram
    from braze.runtime.reproducing import case_of

    kinds = set()
    for name in kernels(inspection):
        path = tmp_path / "kernel.py"
        inspection.repro(path, name)
        read = {"__name__": "read"}
        exec(compile(path.read_text(), str(path), "exec"), read)
        case = case_of(*(read[n] for n in "BODY LOOPS OPERANDS RESULTS OVERWRITTEN".split()))
        values = {buffer: array_from(entry) for buffer, entry in read["ARRAYS"].items()}
        found = KernelProgram(case).run(values)
        assert found and case.differing(found, case.expected(values)) is None
        kinds.add(type(case.kernel).__name__)
    assert kinds >= {"Nest", "Contraction"}


def test_a_kernel_is_a_program_of_its_own(inspection, tmp_path):
    name = next(n for n in kernels(inspection) if n.startswith("contract_add_maximum"))
    path = tmp_path / "kernel.py"
    inspection.repro(path, name)
    status, text = run(path, "--time", "--threads", "1")
    assert status == 0, text
    assert f"kernel @{name} for " in text and "1 threads" in text
    assert re.search(r"time: [\d.]+ us, the quickest of \d+ runs", text)
    assert re.search(r"compiled: %\w+: float32\[6, 24\] as expected, at most \S+ apart", text)
    assert re.search(r"loops: %\w+: float32\[6, 24\] as expected", text)
    # The same program with other loops than the body asks for.
    path.write_text(_spoilt(path.read_text()))
    status, text = run(path)
    assert status == 1, text
    assert re.search(r"compiled: %\w+: float32\[6, 24\] DIFFERS in \d+ of 144 elements", text)
    assert re.search(r"loops: %\w+: float32\[6, 24\] DIFFERS in \d+ of 144 elements", text)


def _spoilt(text):
    """Other loops: what comes after ``LOOPS =``."""
    head, loops = text.split("LOOPS = ", 1)
    assert "maximum(" in loops
    return head + "LOOPS = " + loops.replace("maximum(", "minimum(", 1)


def test_a_graph_is_a_program_of_its_own(inspection, tmp_path):
    path = tmp_path / "graph.py"
    inspection.repro(path)
    status, text = run(path, "--time")
    assert status == 0, text
    assert "nothing changed a result" in text
    assert re.search(r"time: [\d.]+ us, of \d+ kernels", text)


def test_large_arrays_are_drawn_and_the_program_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(repro, "MOST_BYTES", 100)
    found = braze.inspect(lambda x, n: (x * 2.0 + n).relu(), braze.randn(40, 7), braze.ones(7))
    path = tmp_path / "kernel.py"
    found.repro(path, kernels(found)[0])
    text = path.read_text()
    assert "'seed'" in text and "'data'" in text and "drawn at random" in text
    status, text = run(path)
    assert status == 0, text


def test_descriptions_of_arrays():
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal((3, 4)).astype(np.float32),
        rng.random((200, 300)) < 0.25,
        rng.integers(3, 9, (400, 300)),
        np.abs(rng.standard_normal((300, 400))) + 2.0,
        np.array([np.nan, np.inf, -0.0]),
        np.zeros((0, 3), np.int32),
        np.asarray(braze.ir.dtypes.bf16.numpy.type(1.5)),
        (rng.standard_normal((500, 200)) + 1j).astype(np.complex64),
    ]
    saved = repro.MOST_BYTES
    repro.MOST_BYTES = 10_000
    try:
        entries = repro._described(arrays)
    finally:
        repro.MOST_BYTES = saved
    for array, entry in zip(arrays, entries, strict=True):
        literal = repro._literal(entry)
        found = array_from(eval(literal, {}))
        assert found.dtype == array.dtype and found.shape == array.shape
        if "data" in entry:
            assert found.tobytes() == array.tobytes()
    drawn = [array_from(entry) for entry in entries]
    assert abs(drawn[1].mean() - 0.25) < 0.01
    assert (drawn[2].min(), drawn[2].max()) == (3, 8)
    assert drawn[3].min() >= 2.0 and abs(drawn[3].mean() - arrays[3].mean()) < 1.0
    assert sum("data" in entry for entry in entries) == 4


def test_an_unknown_kernel_is_refused(inspection, tmp_path):
    with pytest.raises(KeyError, match=r"no kernel 'nothing'; the kernels are .*contract"):
        inspection.repro(tmp_path / "kernel.py", "nothing")
    assert not list(tmp_path.iterdir())


def test_the_error_of_a_check_writes_one(monkeypatch, tmp_path):
    braze.sync()
    clear_memory()
    x = braze.arange(8.0) - 3.0
    braze.sync()
    with monkeypatch.context() as patch, braze.config.using(check=True, cache_dir=""):
        wrong_code(patch, other_text("maximum(", "minimum("))
        with pytest.raises(KernelDifference, match=r"error\.repro\(path\)") as caught:
            x.relu().tolist()
    clear_memory()
    path = tmp_path / "kernel.py"
    caught.value.repro(path)
    status, text = run(path)
    assert status == 0, text  # that fault is not in this process's code generator
    assert "as expected" in text


def test_a_compile_that_fails_writes_one(monkeypatch, tmp_path):
    def broken(kernel):
        raise NotImplementedError(f"no code for @{kernel.name}")

    braze.sync()
    clear_memory()
    x = braze.arange(12.0).reshape(3, 4)
    with monkeypatch.context() as patch:
        wrong_code(patch, broken)
        settings = {"tier": "compile", "cache_dir": "", "dump_dir": str(tmp_path)}
        with braze.config.using(**settings), pytest.raises(NotImplementedError) as caught:
            (x.relu() + 1.0).tolist()
        (path,) = tmp_path.glob("repro-*.py")
        assert f"; reproducer: python {path}; " in caught.value.__notes__[0]
        text = path.read_text()
        assert "on arrays drawn at random" in text and "relu(" in text
        read = {"__name__": "read"}
        exec(compile(text, str(path), "exec"), read)
        patch.setattr(sys, "argv", [str(path)])
        assert read["run_graph"](read["GRAPH"], read["ARRAYS"], target=read["TARGET"]) == 2
    clear_memory()
    status, text = run(path)
    assert status == 0 and "nothing changed a result" in text, text  # nor is that fault there


# Commands -----------------------------------------------------------------------------------------


def test_inspect_writes_reproducers(tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    braze.sync()
    clear_memory()
    kernel, graph = tmp_path / "kernel.py", tmp_path / "graph.py"
    assert main(["inspect", str(script), "--repro", str(graph), "--", "3"]) == 0
    assert f"wrote {graph}" in capsys.readouterr().err
    name = re.search(r"'(\w*contract\w*)'|@(contract\w+)", graph.read_text())
    assert "def " not in graph.read_text() and name is None
    with braze.config.using(cache_dir=""):
        clear_memory()
        assert main(["inspect", str(script), "--", "3"]) == 0
        listed = re.findall(r"  (contract_\w+)  ", capsys.readouterr().out)
        clear_memory()
        arguments = ["--repro", str(kernel), "--kernel", listed[0], "--", "3"]
        assert main(["inspect", str(script), *arguments]) == 0
        clear_memory()
        arguments = ["--repro", str(kernel), "--kernel", "nothing", "--", "3"]
        assert main(["inspect", str(script), *arguments]) == 1
    assert "no kernel 'nothing'" in capsys.readouterr().err
    for path in (kernel, graph):
        status, text = run(path)
        assert status == 0, text


def test_a_program_is_bisected(monkeypatch, tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    assert main(["bisect", str(script), "--", "2"]) == 0
    shown = capsys.readouterr()
    assert re.search(r"nothing changed a result of [2-9] graphs", shown.err)
    assert "loss True" in shown.out
    wrong_code(monkeypatch, other_text("maximum(", "minimum("))
    from faults import swapped, wrong_pass

    path = tmp_path / "wrong.py"
    wrong_pass(monkeypatch, "simplify", swapped("maximum", "minimum"))
    assert main(["bisect", str(script), "--repro", str(path), "--", "2"]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("pass 'simplify' changed a result")
    assert "train.py:" in shown.out and "loss True" not in shown.out
    status, text = run(path)
    assert status == 0 and "nothing changed a result" in text  # nor is this one there
    assert main(["bisect", str(tmp_path / "none.py")]) == 2


def test_programs_that_cannot_be_bisected(tmp_path, capsys):
    script = tmp_path / "raises.py"
    script.write_text(
        "import braze\nprint(braze.ones(3).sum().item())\nraise ValueError('no more')"
    )
    assert main(["bisect", str(script)]) == 2  # not 1, which says that something is wrong
    assert "ValueError: no more" in capsys.readouterr().err
    package = tmp_path / "net.brz"
    braze.aot.compile(braze.nn.ReLU(), braze.ones(3), package)
    assert main(["bisect", str(package)]) == 2
    assert "net.brz is a package" in capsys.readouterr().err


def test_nobody_reads_on(tmp_path):
    """As behind `| head`: no error, and no traceback."""
    package = tmp_path / "net.brz"
    braze.aot.compile(braze.nn.Linear(300, 300), braze.ones(2, 300), package)
    command = [sys.executable, "-m", "braze", "inspect", str(package), "--show", "all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_bisect_of_a_function(monkeypatch):
    from faults import swapped, wrong_pass

    x = braze.randn(4, 6)
    assert braze.bisect(lambda a: a.relu().softmax(1), x).culprit is None
    wrong_pass(monkeypatch, "cse", swapped("maximum", "minimum"))
    found = braze.bisect(lambda a: a.relu().softmax(1), x)
    assert found.culprit.stage == "cse"
    assert "test_repro.py:" in str(found) and "braze.bisect(lambda a" in str(found)
    with pytest.raises(RuntimeError, match="not a single graph"):
        braze.bisect(lambda a: a.sum().item(), x)
