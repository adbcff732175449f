"""Reproducers of what runs on a GPU: programs of one file that run a kernel or a graph there."""

import re
import subprocess
import sys

import cuda_device  # comes before CUDA devices are asked for
import pytest

import braze
from braze import nn
from braze.cli import main
from braze.codegen.cuda import generate
from braze.inspector.packages import package_report
from braze.nn import functional as F
from braze.runtime.cuda.devices import device_named
from braze.runtime.cuda.kernel_program import CudaKernelProgram
from braze.runtime.repro import array_from
from braze.runtime.reproducing import case_of

SCRIPT = """
import braze
x = braze.arange(24.0, device="cuda").reshape(4, 6)
for step in range(3):
    y = (x @ x.t() + step).relu().sum(0)
    print(y.tolist())
"""


def run(path, *arguments):
    """The status and the output of a program that stands alone."""
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        env=cuda_device.variables(),
        cwd=path.parent,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def inspection():
    braze.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 5))
    model.to("cuda")

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        return [loss, *braze.autograd.grad(loss, list(model.parameters()))]

    y = braze.tensor([0, 1, 2, 3, 4, 0]).cuda()
    return braze.inspect(step, braze.randn(6, 16, device="cuda"), y)


def test_each_kernel_runs_alone(inspection, tmp_path):
    """In this process, since there are many; one of them by itself is below."""
    kinds = set()
    for kernel in inspection.report.graphs[0].insides.kernels:
        path = tmp_path / "kernel.py"
        inspection.repro(path, kernel.name)
        read = {"__name__": "read"}
        exec(compile(path.read_text(), str(path), "exec"), read)
        assert read["DEVICE"] == "cuda:0"
        case = case_of(*(read[n] for n in "BODY LOOPS OPERANDS RESULTS OVERWRITTEN".split()))
        values = {buffer: array_from(entry) for buffer, entry in read["ARRAYS"].items()}
        program = CudaKernelProgram(case, device_named("cuda:0"))
        found = program.run(values)
        assert found and case.differing(found, case.expected(values)) is None
        kinds.add(type(case.kernel).__name__)
    assert kinds >= {"Nest", "Contraction"}
    seconds, count = program.seconds(values, 0.0)
    assert seconds > 0 and count == 5


def test_a_kernel_is_a_program_of_its_own(inspection, tmp_path):
    names = [kernel.name for kernel in inspection.report.graphs[0].insides.kernels]
    name = next(n for n in names if n.startswith("contract_add_maximum"))
    path = tmp_path / "kernel.py"
    inspection.repro(path, name)
    head = path.read_text().partition("import sys")[0]
    assert "CUDA C and launches" in head and "Written for target sm_" in head
    status, text = run(path, "--time", "--show")
    assert status == 0, text
    assert f"kernel @{name} for cuda:0, sm_" in text and "-- cuda\n" in text
    assert 'extern "C" __global__' in text
    assert re.search(r"time: [\d.]+ us, the quickest of \d+ runs", text)
    assert re.search(r"compiled: %\w+: float32\[6, 24\] as expected, at most \S+ apart", text)
    # The same program with other loops than the body asks for; and the same on the processor.
    given, loops = path.read_text().split("LOOPS = ", 1)
    path.write_text(given + "LOOPS = " + loops.replace("maximum(", "minimum("))
    status, text = run(path)
    assert status == 1, text
    assert re.search(r"compiled: %\w+: float32\[6, 24\] DIFFERS in \d+ of 144 elements", text)
    status, text = run(path, "--device", "cpu")
    assert status == 1 and "threads" in text, text


def test_a_graph_is_a_program_of_its_own(inspection, tmp_path):
    path = tmp_path / "graph.py"
    inspection.repro(path)
    status, text = run(path, "--time")
    assert status == 0, text
    assert "for cuda:0, sm_" in text and "nothing changed a result" in text
    assert re.search(r"time: [\d.]+ us, of \d+ kernels", text)


def test_a_program_on_a_gpu(tmp_path, capsys):
    script, graph, kernel = (tmp_path / f"{name}.py" for name in ("train", "graph", "kernel"))
    script.write_text(SCRIPT)
    assert main(["inspect", str(script), "--repro", str(graph), "--show", "summary"]) == 0
    shown = capsys.readouterr()
    assert f"wrote {graph}" in shown.err
    name = re.search(r"  (contract_\w+)  ", shown.out)[1]
    assert main(["inspect", str(script), "--repro", str(kernel), "--kernel", name]) == 0
    for path in (graph, kernel):
        assert "DEVICE = 'cuda:0'" in path.read_text()
        status, text = run(path)
        assert status == 0, text


def test_a_package_for_gpus(tmp_path):
    path, program = tmp_path / "m.brz", tmp_path / "program.py"
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    braze.aot.compile(model, braze.ones(2, 8), path, "cuda", weights="int8")
    (graph,) = package_report(path).graphs
    for kernel in (None, graph.insides.kernels[0].name):
        graph.repro(program, kernel)
        assert "DEVICE = 'cuda:0'" in program.read_text() and "i8[16,8]" in program.read_text()
        status, text = run(program)
        assert status == 0 and "for cuda:0, sm_" in text, text


def test_a_compile_that_fails_writes_one(monkeypatch, tmp_path):
    def broken(kernel, unit):
        raise NotImplementedError(f"no code for @{kernel.name}")

    for kind in generate.EMITTERS:
        monkeypatch.setitem(generate.EMITTERS, kind, broken)
    x = braze.ones(5, 3, device="cuda")
    with braze.config.using(dump_dir=str(tmp_path)), pytest.raises(NotImplementedError) as caught:
        (x * 2.0).sum(0).tolist()
    monkeypatch.undo()
    (path,) = tmp_path.glob("repro-*.py")
    assert f"; reproducer: python {path}; " in caught.value.__notes__[0]
    status, text = run(path)
    assert status == 0 and "for cuda:0, sm_" in text, text
