"""The benchmark suite: what it measures, and that its command works on small workloads."""

import ctypes
import doctest
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import braze
from benchmarks import starting
from benchmarks.kernels_convolution import CONVOLUTIONS
from benchmarks.limits import UNITS, aligned, fma_text, measure, memory_text, native
from benchmarks.measuring import difference
from benchmarks.overheads import beyond
from benchmarks.parallel_region import measure as parallel_region
from benchmarks.peers import PEERS
from benchmarks.processes import Setting, environment
from benchmarks.programs import Library
from benchmarks.suite import GROUPS, chosen, workloads
from benchmarks.worker import warm_up

ROOT = Path(__file__).resolve().parents[2]
HAS_TORCH = importlib.util.find_spec("torch") is not None

WANTED = {
    "kernels": """gemm.1024 gemm.few_rows gemm.few_columns gemm.f64_1024 gemm.bias_gelu
        gemv.matrix_vector gemm.batched_64x128 conv3x3_64 conv3x3_128 conv3x3_256 conv1x1
        conv7x7_stride2 conv_depthwise conv_grouped conv_dilated conv_transposed max_pool avg_pool
        softmax layer_norm batch_norm sum.first sum.middle sum.last sum.all elementwise.chain
        embedding.forward embedding.backward attention sort cumsum optimizer.adam""",
    "training": """train.mnist_cnn train.mlp train.mlp_one train.lstm train.resnet18 train.dcgan
        train.vae train.super_resolution train.actor_critic train.gpt""",
    "inference": """infer.resnet50 infer.resnet50_8 infer.mobile infer.lstm_step infer.encoder
        infer.mlp_one infer.magika infer.silero infer.basic_pitch""",
    "overheads": """overhead.captured_op overhead.cached_call overhead.import
        overhead.first_result overhead.parallel_region compile.mnist_cnn compile.mlp compile.lstm
        compile.resnet18 compile.dcgan compile.vae compile.super_resolution compile.actor_critic
        compile.gpt graphs.fifty_lengths graphs.one_off start.resnet50 start.mobile start.lstm_step
        start.encoder start.mlp_one start.magika start.silero start.basic_pitch""",
}


@pytest.mark.parametrize("group", WANTED)
def test_every_workload_is_there(group):
    for name in WANTED[group].split():
        found = chosen([name])
        assert found and {workload.group for workload in found} == {group}
    for family in ("conv3x3_64", "conv_transposed"):
        directions = {workload.name.split(".")[1] for workload in chosen([family])}
        assert directions == {"forward", "data", "weights"}


def test_no_timed_process_compiles_the_sources(tmp_path, monkeypatch):
    modules = [
        tmp_path / "braze" / part / "__init__.py"
        for part in (".", "ir", "passes", "codegen", "runtime", "runtime/cuda")
    ]
    for module in modules:
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    Setting(threads=1, seconds=0.1, rounds=1, cache=tmp_path).make_bytecode()
    cached = importlib.util.cache_from_source
    assert all(Path(cached(str(module))).exists() for module in modules)


def test_groups_and_names_are_chosen():
    assert {w.group for w in workloads().values()} == set(GROUPS) - {"limits"}
    assert [w.name for w in chosen(["train.mlp", "gemm.256", "train.mlp"])] == [
        "train.mlp", "gemm.256",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no workload, group or family 'gem'"):
        chosen(["gem"])


def test_costs_of_convolutions():
    """Counted once more: each number of the result is a sum of products."""
    flops = {c.name: c.flops for c in CONVOLUTIONS}
    assert flops["conv3x3_64"] == 2 * (8 * 64 * 56 * 56) * (64 * 3 * 3)
    assert flops["conv_depthwise"] == 2 * (8 * 128 * 56 * 56) * (3 * 3)
    assert flops["conv7x7_stride2"] == 2 * (8 * 64 * 112 * 112) * (3 * 7 * 7)
    # Every number of the data meets every number of its kernel.
    assert flops["conv_transposed"] == 2 * (8 * 128 * 16 * 16) * (64 * 4 * 4)


@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=lambda c: c.name)
def test_shapes_of_convolutions(convolution):
    functional = braze.nn.functional
    run = functional.conv_transpose2d if convolution.transposed else functional.conv2d
    x, w = braze.zeros(convolution.x), braze.zeros(convolution.w)
    assert tuple(run(x, w, **convolution.options).shape) == convolution.y


def test_gradients_of_convolutions_alone():
    """Where there are no functions for them, they come from the tape."""
    x, w = braze.randn(2, 3, 6, 6), braze.randn(4, 3, 3, 3)
    options = {"stride": 2, "padding": 1, "dilation": 1, "groups": 1}
    g = braze.randn(2, 4, 3, 3)
    xg, wg = x.clone().requires_grad_(True), w.clone().requires_grad_(True)
    braze.nn.functional.conv2d(xg, wg, **options).backward(g)
    library = Library(braze)
    with braze.no_grad():
        for which, wanted in (("data", xg.grad), ("weights", wg.grad)):
            found = library.conv_gradient(which, x, w, g, options)
            np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("program", "most"), [("fifty_lengths", 4), ("one_off", 0)])
def test_how_many_graphs_are_compiled(program, most, tmp_path):
    """All fifty lengths, since every one of them may be the one that breaks the symbolic code."""
    command = [sys.executable, "-m", "benchmarks.counting", program, "2", "full"]
    variables = {**os.environ, "BRAZE_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 <= int(done.stdout) <= most


def test_examples_of_the_benchmarks():
    for name in ("programs", "peers", "report", "overheads", "measuring"):
        module = importlib.import_module(f"benchmarks.{name}")
        result = doctest.testmod(module)
        assert result.attempted and not result.failed


def test_the_loops_behind_the_limits():
    pointers = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    for what in ("copy", "copy_streaming"):
        to, source = aligned(4096, 0.0), aligned(4096, 0.0)
        source.view(np.int32)[:] = np.arange(1024)
        native(memory_text(what, 4), what, *pointers)(to.ctypes.data, source.ctypes.data, 2048)
        np.testing.assert_array_equal(to[:2048], source[:2048])
        assert not to[2048:].any()
    total, numbers = aligned(4096, 0.0), aligned(4096, 1.0)
    native(memory_text("read", 4), "read", *pointers)(total.ctypes.data, numbers.ctypes.data, 4096)
    assert total.view(np.float32)[:4].tolist() == [256.0] * 4
    point = aligned(4096, 1.0)
    native(fma_text("float", 4, 3), "fma", *pointers[1:])(point.ctypes.data, 5)
    assert point.view(np.float32)[:4].tolist() == [3.0 * 6.0] * 4  # 1, then 1 more each turn


def test_limits_are_measured():
    figures = measure(threads=1, seconds=0.0, mebibytes=1)
    assert set(figures) == set(UNITS)
    assert all(figure > 0 for figure in figures.values())


@pytest.mark.parametrize("work", ["empty", "meeting"])
def test_parallel_regions_are_timed(work):
    before = braze.get_num_threads()
    try:
        assert 0 < parallel_region(work, 2, rounds=1, times=20) < 1e6
    finally:
        braze.set_num_threads(before)


def test_peers_keep_bytecode(monkeypatch, tmp_path):
    """Installed packages have it; sources would be compiled anew in each process."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in environment(2, tmp_path)
    assert environment(2, tmp_path)["PATH"] == os.environ["PATH"]


def test_distances_between_results():
    a = [np.array([1.0, 2.0]), np.array([4])]
    assert difference(a, a) == 0
    assert difference([a[0] + [0, 0.5], a[1]], a) == 0.25
    assert difference(a[:1], a) == difference([a[0][:1], a[1]], a) == float("inf")
    assert difference([a[0] * np.nan, a[1]], a) == float("inf")


@pytest.mark.parametrize(("slow", "patience"), [(2, 0.0), (9, 0.4), (30, 0.4)])
def test_warming_up_waits_for_the_compiler(slow, patience, monkeypatch):
    """Some steps of 20 ms, as a background compiler needs, then steps of 1 ms."""
    now, left = [0.0], [slow]

    def step():
        left[0] -= 1
        now[0] += 0.02 if left[0] >= 0 else 0.001

    monkeypatch.setattr("benchmarks.worker.time.perf_counter", lambda: now[0])
    seconds = warm_up(step, patience)
    if 0.02 * slow > patience + 0.04:  # later than it is waited for
        assert [round(t, 3) for t in seconds] == [0.02] * 4
        return
    assert [round(t, 3) for t in seconds] == [0.02] * slow + [0.001] * (len(seconds) - slow)
    assert 2 <= len(seconds) - slow <= 4
    assert beyond(seconds) == pytest.approx(0.019 * slow)


def run(*arguments):
    paths = [str(ROOT / "build" / "links"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "run.py"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    return done


def test_the_command_measures_and_writes(tmp_path):
    file, page = tmp_path / "figures.json", tmp_path / "tables.md"
    names = ["gemm.256", "train.mlp_one", "infer.mlp_one", "overhead.cached_call"]
    names += ["overhead.parallel_region", "compile.mlp_one", "batch_norm.inference"]
    peers = ["braze", "braze.aot"]
    done = run(
        *names, "--quick", "--seconds", "0.02", "--rounds", "1", "--threads", "1",
        "--peers", *peers, "--json", str(file), "--markdown", str(page),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())
    assert results["version"] == 1 and results["quick"] and results["threads"] == 1
    assert set(results["limits"]) == set(UNITS)
    assert set(results["machine"]) >= {"processor", "cpus", "python", "packages"}
    assert set(results["workloads"]) == set(names)
    for name, row in results["workloads"].items():
        beside = {"limits"} if "memory" in row["bars"] else set()
        assert set(row) == {"group", "about", "unit", "bars", "limit", "peers"} | beside
        taking_part = {p for p in peers if PEERS[p].takes(workloads()[name])}
        assert set(row["peers"]) == taking_part
        for peer, facts in row["peers"].items():
            assert facts["value"] >= 0, (name, peer, facts)
        if "rounds" in row["peers"]["braze"]:
            assert row["peers"]["braze"]["value"] == min(row["peers"]["braze"]["rounds"]) > 0
    assert results["workloads"]["gemm.256"]["limit"] > 0
    bound = results["workloads"]["batch_norm.inference"]
    least = workloads()["batch_norm.inference"].cost.seconds(bound["limits"])
    assert set(bound["limits"]) == {"copy", "copy_streaming", "read"}
    assert bound["limit"] == pytest.approx(1e3 * least)
    trained = results["workloads"]["train.mlp_one"]["peers"]["braze"]
    assert trained["peak_bytes"] >= trained["loaded_bytes"] > 2**20
    compiled = results["workloads"]["compile.mlp_one"]["peers"]["braze"]
    assert compiled["value"] > 0 and len(compiled["value_steps"]) >= 4
    for bar in results["bars"]:
        assert set(bar) == {"workload", "what", "value", "bound", "least", "state"}
    assert "eager / torch eager" in done.stdout and "unknown" in done.stdout
    assert "| gemm.256 |" in page.read_text()

    again = run(*names, "--resume", "--json", str(file), "--quick", "--peers", "braze")
    assert again.returncode == 0 and "[1/" not in again.stderr
    assert json.loads(file.read_text())["workloads"].keys() == results["workloads"].keys()
    assert "train.mlp_one" in again.stdout


@pytest.mark.skipif(not HAS_TORCH, reason="the results are compared with torch's")
def test_a_package_is_started_in_a_process_of_its_own(tmp_path):
    """Without the front end, the passes and the compiler."""
    starting.write("braze.aot", "infer.mlp_one", tmp_path, 1)
    code = (
        "import sys\nfrom benchmarks import starting\nfrom pathlib import Path\n"
        f"facts = starting.load('braze.aot', Path({str(tmp_path)!r}), 1)\n"
        "assert min(facts.values()) > 0 and facts['peak_bytes'] < 2**28, facts\n"
        "wrong = ('braze.tensors', 'braze.passes', 'braze.codegen', 'llvmlite', 'torch')\n"
        "assert not [name for name in wrong if name in sys.modules]\n"
    )
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", code], check=True, env=own)


def test_published_models_are_read_from_their_packages(tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    workload = workloads()["infer.magika"]
    source = workload.published.path()
    if source is None:
        pytest.skip("magika is not installed")
    arrays = PEERS["braze.aot"].open(1).write(workload, tmp_path / "model.brz")
    (result,) = braze.runtime.load(tmp_path / "model.brz")(*arrays)
    session = runtime.InferenceSession(source, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, workload.published.inputs())
    np.testing.assert_allclose(np.asarray(result), wanted[0], rtol=1e-4, atol=1e-5)


def test_results_are_compared():
    names = ["gemm.256", "train.mlp_one", "infer.lstm_step"]
    done = run("--check", *names, "--threads", "1", "--peers", "torch", "braze", "braze.aot")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == names
    assert "WRONG" not in done.stdout and "FAILED" not in done.stdout


def test_the_command_names_what_is_absent():
    absent = [name for name, peer in PEERS.items() if peer.missing()]
    done = run("limits", "--list", "--peers", *(absent or ["braze"]))
    assert done.returncode == 0
    wrong = run("no_such_workload")
    assert wrong.returncode == 2 and "no workload, group or family" in wrong.stderr
