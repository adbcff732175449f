"""`braze.inspect` of a function on a GPU: from the user's lines to CUDA C, with measured times."""

import json

import cuda_device  # noqa: F401  (comes before CUDA devices are asked for)
import pytest
from rewritten import rewritten

import braze
from braze import nn
from braze.autograd.profiler import profile
from braze.cli import main
from braze.inspector.collect import inspect_script
from braze.nn import functional as F
from braze.runtime.cuda.devices import device_named
from braze.runtime.package_insides import package_codes
from braze.runtime.placed_insides import limits_on


@pytest.fixture(scope="module")
def inspection():
    braze.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4)).to("cuda")

    def step(x, y):
        loss = F.cross_entropy(model(x), y)  # the loss
        return [loss, *braze.autograd.grad(loss, list(model.parameters()))]

    return braze.inspect(step, braze.randn(8, 24, device="cuda"), braze.ones(8).long().cuda())


@pytest.fixture(scope="module")
def graph(inspection):
    (found,) = json.loads(inspection.to_json())["graphs"]
    return found


def test_every_line_leads_to_cuda(graph):
    assert graph["target"].startswith("sm_") and graph["languages"] == ["cuda", "launches"]
    lines = {tuple(line) for file in graph["files"] for line in file["lines"]}
    loss = next(number for number, text in lines if text.endswith("# the loss"))
    operations = [n for n, o in enumerate(graph["operations"]) if o["line"] == loss]
    kernels = [k for k in graph["kernels"] if set(k["operations"]) & set(operations)]
    assert operations and kernels
    for kernel in graph["kernels"]:
        code = graph["code"][kernel["function"]]
        for name in kernel["function"].split("+"):
            assert 'extern "C" __global__' in code["cuda"] and f"{name}(" in code["cuda"]
            assert name in code["launches"]
        assert code["cuda"].count("{") == code["cuda"].count("}")
        assert kernel["loops"].startswith(("nest", "contraction"))


def test_kernels_are_timed_by_the_device(graph):
    limits = limits_on("cuda:0")
    for kernel in graph["kernels"]:
        assert kernel["seconds"] > 0 and kernel["chunks"] == 1
        moved = (kernel["read"] + kernel["written"]) / limits.bytes
        assert kernel["least"] == pytest.approx(max(moved, kernel["flops"] / limits.flops))
    assert graph["runs"]["count"] >= 5
    starts = [chunk[1] for chunk in graph["chunks"]]
    assert starts == sorted(starts) and len(starts) == len(graph["kernels"])
    assert graph["summary"]["seconds"] == pytest.approx(sum(k["seconds"] for k in graph["kernels"]))


def test_other_forms(inspection, tmp_path):
    inspection.html(tmp_path / "page.html")
    assert "CUDA C" in (tmp_path / "page.html").read_text()
    inspection.chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert len([e for e in events if e.get("cat") == "kernel"]) >= 4
    assert "of limit" in inspection.summary() and "digraph" in inspection.dot()
    assert "(cuda, launches" in inspection.links() and "# the loss" in inspection.links()
    assert "in an arena of" in inspection.memory()
    assert "== lower of loops: +" in inspection.changes()


def test_what_was_looked_at_is_as_before():
    """A step that overwrites its weights is measured on copies."""
    weight = braze.ones(4, device="cuda")

    def step():
        weight.mul_(2.0)
        return weight + 1.0

    inspection = braze.inspect(step)
    before = weight.tolist()
    inspection.summary()
    assert weight.tolist() == before


def test_programs_on_both_sides():
    """A part on the CPU is a graph of its own."""
    x = braze.randn(6, 6)

    def both():
        return (x.exp().cuda() @ braze.ones(6, 6, device="cuda")).cpu().sum()

    data = json.loads(braze.inspect(both).to_json())
    targets = sorted(graph["target"].split(",")[-1] for graph in data["graphs"])
    assert " CUDA" in targets and any("vectors" in target for target in targets)


def test_a_program_that_uses_a_gpu(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import braze\n"
        "x = braze.ones(61, device='cuda')\n"  # a size that no other test of this process has
        "for step in range(5):\n"
        "    y = (x * 2 + step).sum()\n"
        "    print(y.item())\n"
    )
    report, error = inspect_script(str(script))
    assert error is None
    graphs = [graph.data for graph in report.graphs if graph.device == "cuda:0"]
    # The first turn's, which makes x as well, and that of the others; the slower one comes first.
    assert all(kernel["seconds"] for graph in graphs for kernel in graph["kernels"])
    lines = [{operation["line"] for operation in graph["operations"]} for graph in graphs]
    assert sorted(lines, key=len) == [{4}, {2, 4}]


def test_a_package_for_gpus_alone(tmp_path, capsys):
    path = tmp_path / "m.brz"
    braze.aot.compile(nn.Linear(3, 2).eval(), braze.ones(1, 3), path, target="sm_80")
    assert main(["inspect", str(path), "--json", str(tmp_path / "m.json")]) == 0
    (graph,) = json.loads((tmp_path / "m.json").read_text())["graphs"]
    assert graph["target"] == "sm_80, CUDA"
    assert all(kernel["seconds"] is None for kernel in graph["kernels"])
    assert graph["package"]["is_own"] and "of its cubin" in graph["package"]["verdict"]
    assert [stage["name"] for stage in graph["passes"][:2]] == ["captured", "fold_weights"]


def test_every_code_for_gpus_is_compiled_again_to_the_byte(tmp_path):
    path = tmp_path / "m.brz"
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    dynamic = {"input": {0: braze.aot.Dim("batch", max=40)}}
    targets = ["sm_80", "host"]
    braze.aot.compile(model, braze.ones(12, 8), path, targets, dynamic=dynamic, weights="int8")
    codes = package_codes(path)
    on_gpus = [code for code in codes if code.target.is_gpu]
    assert len(on_gpus) < len(codes)
    assert any(code.recipe.sized is not None for code in on_gpus)
    for code in on_gpus:
        # By the disk cache, since the emulated driver's machine code is another each time.
        assert code.difference == "", code.label
        assert all(kernel.code["cuda"] for kernel in code.insides.kernels)
    other = rewritten(path, tmp_path / "other.brz", _with_more_threads)
    first = package_codes(other)[0]
    assert first.difference == "the package launches other kernels"


def _with_more_threads(manifest):
    manifest["targets"][0]["codes"][0]["facts"]["steps"][0]["block"][0] += 32


def test_the_profiler_sees_kernels_on_the_device():
    x = braze.ones(64, device="cuda")
    (x * 3).sum().item()
    for asked in ({"per_kernel": True}, {"use_cuda": True}):
        with profile(**asked) as found:
            (x * 3).sum().item()
        names = [event.name for event in found.function_events]
        assert any(name.startswith("mul_sum") for name in names), names


def test_limits_are_the_drivers():
    limits = limits_on("cuda:0")
    facts = device_named("cuda:0").properties()
    assert limits.threads == facts["multiprocessor_count"]
    assert 1e9 < limits.bytes < 1e14 and 1e10 < limits.flops < 1e15
