"""The runtime over the real passes and the real code generator: every tier gives the same."""

import os
import subprocess
import sys

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.builder import Builder
from braze.ir.graph import Location
from braze.ir.interpreter import interpret
from braze.runtime.cache import clear_memory, prepare
from braze.runtime.compiler import compile_artifact
from braze.runtime.config import config
from braze.runtime.cpu import host_target
from braze.runtime.executable import Executable, Resident
from braze.runtime.insides import look_inside
from braze.runtime.package import load
from braze.runtime.package_writer import write_package
from braze.runtime.recompiles import log
from braze.runtime.stats import stats
from braze.runtime.storage import Storage


@pytest.fixture(autouse=True)
def fresh(tmp_path):
    clear_memory()
    log.clear()
    stats.reset()
    with config.using(tier="compile", cache_dir=str(tmp_path / "cache"), dump_dir="", debug=0):
        yield
    clear_memory()


def f32(*shape):
    return ir.tensor_type(ir.f32, shape)


def training_step(batch=6, update=True):
    """Embedding, product, bias, a clamp, a row-wise sum, and an in-place update of the bias."""
    b = Builder("step")
    index = b.input(ir.tensor_type(ir.i64, (batch,)), name="index")
    table = b.input(f32(10, 16), role="param", name="table")
    weight = b.input(f32(24, 16), role="param", name="weight")
    bias = b.input(f32(24), role="param", name="bias")
    rate = b.input(f32(), role="scalar", name="rate")
    with b.at(Location("model.py", 3, "net.embed")):
        b.check_range(index, low=0, high=10, message="embedding")
        x = b.take(table, index, dim=0)
    with b.at(Location("model.py", 4)):
        y = b.add(b.contract(x, weight, equation="mk,nk->mn"), bias)
        y = b.maximum(y, 0.0)
    with b.at(Location("model.py", 5)):
        loss = b.sum(b.mul(y, y), dims=(0, 1), keepdim=False)
        step = b.sum(y, dims=(0,), keepdim=False)
        new = b.sub(bias, b.mul(step, rate))
    return b.finish([loss, new, y], {1: 3} if update else {})


@pytest.mark.parametrize("tier", ["interpret", "compile"])
def test_inputs_may_stay_where_they_are(tier):
    b = Builder("mix")
    x, s, w, v = (b.input(f32(*n), r) for n, r in (((3,), "data"), ((), "scalar"), ((3,), "param"),
                                                   ((3,), "param")))  # fmt: skip
    entry = prepare(b.finish([b.add(b.mul(b.mul(x, s), w), v)]), tier=tier)
    weights = [Storage.from_numpy(np.array(n, np.float32)) for n in ([1, 2, 3], [10, 20, 30])]
    resident = Resident(weights)
    for factor in (1.0, -2.0):
        out, given = Storage(12), Storage.from_numpy(np.array([1, 1, 2], np.float32))
        entry.run([given, factor], [out], resident=resident)
        wanted = np.array([1, 2, 6]) * factor + [10, 20, 30]
        assert out.array(np.float32, 3).tolist() == wanted.tolist()
    if tier == "compile":
        with pytest.raises(ValueError, match="takes 4 inputs and 1 outputs, given 3 and 1"):
            entry.run([given], [out], resident=resident)


def arrays(batch=6, seed=0):
    rng = np.random.default_rng(seed)
    table, weight, bias = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((10, 16), (24, 16), (24,))
    )
    return [rng.integers(0, 10, batch), table, weight, bias, 0.25]


def run(graph, given, tier):
    entry = prepare(graph, tier=tier)
    inputs = [Storage.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in given]
    outputs = [Storage(v.type.nbytes) for v in graph.outputs]
    for output, position in graph.aliases.items():
        outputs[output] = inputs[position]
    entry.run(inputs, outputs)
    return [
        storage.array(value.dtype.numpy, value.shape).copy()
        for storage, value in zip(outputs, graph.outputs, strict=True)
    ]


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 6, 33])
def test_tiers_agree(batch):
    graph, given = training_step(batch), arrays(batch)
    expected = interpret(graph, given)
    close(run(graph, given, "interpret"), expected)
    close(run(graph, given, "compile"), expected)
    clear_memory()
    close(run(graph, given, "auto"), expected)  # from the disk
    assert (stats.compiles, stats.disk_hits, stats.interpreted) == (1, 1, 1)
    page = str(log.explain())
    assert "model.py:3 to model.py:5" in page and "kernels:" in page


def test_results_do_not_depend_on_the_number_of_threads():
    graph, given = training_step(257), arrays(257)
    found = []
    for threads in (1, 2, 5):
        with config.using(num_threads=threads):
            found.append(run(graph, given, "compile"))
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_out_of_range_names_the_operation_and_the_line():
    graph, given = training_step(), arrays()
    given[0][4] = 10
    texts = []
    for tier in ("interpret", "compile"):
        with pytest.raises(IndexError) as caught:
            run(graph, given, tier)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert texts[0].startswith("[embedding] index 10 is out of range [0, 10)\n  at model.py:3")


def test_a_failure_knows_its_node():
    graph, given = training_step(), arrays()
    executable = Executable(compile_artifact(graph, host_target()))
    assert [site.node for site in executable.artifact.failures] == [0]
    given[0][0] = -1
    inputs = [Storage.from_numpy(a) if isinstance(a, np.ndarray) else a for a in given]
    with pytest.raises(IndexError, match=r"index -1 .*\n  at eval.py:100$"):
        executable.run(
            inputs,
            [Storage(4), inputs[3], Storage(6 * 24 * 4)],
            lambda node: Location("eval.py", 100 + node),
        )


def test_every_stage_has_text():
    found = look_inside(training_step()).stages
    kinds = [stage.kind for stage in found]
    assert kinds[0] == "graph" and {"graph", "loops", "llvm", "assembly"} <= set(kinds)
    assert all(stage.text.strip() for stage in found)
    names = [stage.name for stage in found if stage.kind in ("graph", "loops")]
    assert names[:3] == ["captured", "split_complex", "match_attention"] and names[-1] == "loops"
    assert kinds.count("loops") == 1


def test_dumps_are_complete(tmp_path):
    with config.using(dump_dir=str(tmp_path / "dump"), cache_dir=""):
        run(training_step(), arrays(), "compile")
    (folder,) = (tmp_path / "dump").iterdir()
    suffixes = {file.suffix for file in folder.iterdir()}
    assert folder.name.startswith("step-") and {".ir", ".loops", ".ll", ".s"} <= suffixes


PROGRAM = """
import sys
import numpy as np
import braze.runtime
model = braze.runtime.load(sys.argv[1])
arrays = np.load(sys.argv[2])
loss, new, y = model(arrays["index"])
for found, name in ((loss, "loss"), (new, "new"), (y, "y")):
    np.testing.assert_allclose(found, arrays[name], rtol=1e-5, atol=1e-5)
wrong = ("llvmlite", "braze.passes", "braze.codegen", "braze.tensors", "braze.engine")
print(*(m for m in sys.modules if m.startswith(wrong)))
"""


def test_a_package_runs_in_a_fresh_process(tmp_path):
    graph, given = training_step(update=False), arrays()
    names = ("table", "weight", "bias", "rate")
    weights = dict(zip(names, given[1:], strict=True))
    targets = ["host", "x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"]
    path = write_package(tmp_path / "step.brz", graph, weights, targets=targets)
    loss, new, y = interpret(graph, given)
    np.savez(tmp_path / "arrays.npz", index=given[0], loss=loss, new=new, y=y)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(tmp_path / "arrays.npz")],
        env={**os.environ, "BRAZE_CACHE_DIR": ""},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\n"
    close(load(path)(given[0]), [loss, new, y])
