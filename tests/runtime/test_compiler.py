"""The way from graph to artifact with a pipeline of two toy passes: order, dumps, debug, sites."""

import gc
import re
import sys
import threading
import types

import pytest
from toy_compiler import toy_source

import braze.ir as ir
import braze.passes
from braze.codegen.llvm.compile import CompileError
from braze.ir.builder import Builder, Rewriter
from braze.ir.fingerprint import fingerprint
from braze.ir.graph import Location
from braze.ir.loops import CheckSite, Program
from braze.runtime.compiler import (
    ModuleCompiler,
    compile_artifact,
    compile_modules,
    compile_recorded,
)
from braze.runtime.config import config
from braze.runtime.cpu import host_target
from braze.runtime.executable import Executable
from braze.runtime.recorder import Recorder
from braze.runtime.storage import Storage

HELPER = "define void @helper() {\n  ret void\n}\n"


def toy_passes(graph, target, record=None, of_kernels=None):
    """Copies the graph twice; the checks become sites as the real passes make them."""
    for name in ("copy", "copy_again"):
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            rewriter.keep(node)
        graph = rewriter.done()
        if record is not None:
            record(name, graph)
    if record is not None:
        record("plan", "arena of 128 bytes")
    toy_passes.graph = graph
    program = Program(graph.name, len(graph.inputs), len(graph.outputs), [], {}, 128)
    for node in reversed(graph.nodes):  # in another order than the graph's
        if node.op.name == "check_range":
            a = node.attributes
            site = CheckSite(a["message"], a["low"], a["high"], node.location)
            program.checks.append(site)
    report = types.SimpleNamespace(
        kernels_before=7, kernels_after=2, bytes_before=512, arena_bytes=128, lower_bound=100,
        refusals=["mul is not fused into sum, since the toy does not fuse"],
    )  # fmt: skip
    return program, report


def toy_generate(program, target, made=None, *, timed=False, watched=False):
    graph = toy_passes.graph
    return types.SimpleNamespace(
        modules=[("helper", HELPER), ("main", toy_source(graph))],
        main="toy_main",
        scratch_bytes=4096,
        pointers=len(graph.inputs) + len(graph.outputs) + 3,
    )


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    program = types.ModuleType("braze.codegen.llvm.program")
    program.generate = toy_generate
    monkeypatch.setitem(sys.modules, "braze.codegen.llvm.program", program)
    monkeypatch.setattr(braze.passes, "compile_graph", toy_passes, raising=False)
    with config.using(dump_dir="", debug=0):
        yield program


def square(name="square"):
    b = Builder(name)
    x = b.input(ir.tensor_type(ir.f32, (4,)), name="x")
    with b.at(Location("train.py", 3)):
        return b.finish([b.mul(x, x)])


def checking():
    """Two checks on one line, which are equal by value."""
    b = Builder("checking")
    x = b.input(ir.tensor_type(ir.f32, (4,)), name="x")
    i, k = (b.input(ir.tensor_type(ir.i64, ()), name=n) for n in "ik")
    with b.at(Location("train.py", 3)):
        y = b.mul(x, x)
        b.check_range(i, low=0, high=10, message="take")
        b.check_range(k, low=0, high=10, message="take")
    return b.finish([y])


def test_the_artifact():
    artifact = compile_artifact(square(), host_target())
    assert (artifact.name, artifact.main, len(artifact.objects)) == ("square", "toy_main", 2)
    assert (artifact.arena_bytes, artifact.scratch_bytes) == (128, 4096)
    assert [slot.name for slot in artifact.inputs] == ["x"]
    figures = artifact.figures
    assert (figures.kernels_before, figures.kernels_after) == (7, 2)
    assert (figures.bytes_before, figures.lower_bound) == (512, 100)
    assert figures.refusals == ("mul is not fused into sum, since the toy does not fuse",)
    assert 0 < figures.seconds < 60
    x, out = Storage(16), Storage(16)
    x.array("f4", 4)[...] = [1, 2, 3, 4]
    Executable(artifact).run([x], [out])
    assert out.array("f4", 4).tolist() == [1, 4, 9, 16]


def test_checks_know_their_node():
    graph = checking()
    before = [node.location for node in graph.nodes]
    artifact = compile_artifact(graph, host_target())
    assert [site.node for site in artifact.failures] == [2, 1]
    assert artifact.failures[0].location == Location("train.py", 3)
    # The caller's graph is untouched.
    assert all(a is b.location for a, b in zip(before, graph.nodes, strict=True))


def test_a_check_without_a_location_is_reported_all_the_same():
    b = Builder("nowhere")
    i = b.input(ir.tensor_type(ir.i64, ()), name="i")
    b.check_range(i, low=0, high=3, message="take")
    artifact = compile_artifact(b.finish([]), host_target())
    assert (artifact.failures[0].node, artifact.failures[0].location) == (-1, None)


def test_every_stage_is_shown():
    graph = square()
    record = Recorder(graph, "")
    compile_recorded(graph, host_target(), record)
    found = record.stages
    names = ["captured", "copy", "copy_again", "plan", "loops", "generate"] + ["helper", "main"] * 2
    assert [stage.name for stage in found] == names
    kinds = ["graph"] * 3 + ["text", "loops", "text"] + ["llvm"] * 2 + ["assembly"] * 2
    assert [stage.kind for stage in found] == kinds
    assert found[0].text == str(square())
    assert "define i64 @toy_main" in found[7].text
    assert "toy_main:" in found[9].text
    assert found[5].text.startswith("3 lines of helper\n")
    assert all(stage.seconds >= 0 for stage in found)


def test_dumps(tmp_path):
    graph = square("my net/x")
    with config.using(dump_dir=str(tmp_path)):
        compile_artifact(graph, host_target())
        compile_artifact(square(), host_target())
    names = {p.name: sorted(f.name for f in p.iterdir()) for p in tmp_path.iterdir()}
    digest = fingerprint(graph)[:8]
    assert set(names) == {f"my_net_x-{digest}", f"square-{digest}"}
    files = [
        "00-captured.ir", "01-copy.ir", "02-copy_again.ir", "03-plan.txt", "04-loops.loops",
        "05-generate.txt", "06-helper.ll", "07-main.ll", "08-objects.txt", "09-helper.s",
        "10-main.s",
    ]  # fmt: skip
    assert names[f"square-{digest}"] == files
    folder = tmp_path / f"square-{digest}"
    assert (folder / "01-copy.ir").read_text() == str(square()) + "\n"
    # A dump replaces the one before.
    (folder / "11-old.ir").write_text("old")
    with config.using(dump_dir=str(tmp_path)):
        compile_artifact(square(), host_target())
    assert sorted(f.name for f in folder.iterdir()) == files


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (0, ()),
        (1, ("copy_again", "total")),
        (2, ("graph @square", "arena of 128")),
        (3, ("program @square",)),
        (4, ("define i64 @toy_main",)),
        (5, ("toy_main:",)),
    ],
)
def test_debug_levels(capsys, level, shown):
    everything = ("copy_again", "graph @square", "program @square", "define i64 @toy", "toy_main:")
    with config.using(debug=level):
        compile_artifact(square(), host_target())
    out, err = capsys.readouterr()
    assert out == ""
    assert [text for text in everything if text in err] == list(everything[:level])
    assert all(text in err for text in shown)
    for stage, least in (("copy", 1), ("generate", 1), ("objects", 1), ("helper", 4)):
        timed = re.search(rf"\[square-\w{{8}}\] {stage} +\d+\.\d\d ms", err)
        assert bool(timed) == (level >= least)
    assert bool(re.search(r"\d+ bytes of main", err)) == (level >= 2)


def test_modules_are_compiled_in_parallel(monkeypatch):
    """Two are under way at the same time, and the results are in the modules' order."""
    gate = threading.Barrier(2, timeout=20)

    def compile_object(text, target):
        gate.wait()
        return text.encode()

    monkeypatch.setattr("braze.codegen.llvm.compile.compile_object", compile_object)
    with config.using(num_threads=2):
        assert compile_modules([("a", "short"), ("b", "longer")], host_target()) == [
            b"short",
            b"longer",
        ]


def test_modules_are_compiled_while_others_are_generated(monkeypatch):
    """The first is done before there is a second; the interpreter is set back in the end."""
    usual, seen = (sys.getswitchinterval(), gc.get_threshold()), []
    first = threading.Event()

    def compile_object(text, target):
        seen.append((sys.getswitchinterval(), gc.get_threshold()))
        first.set()
        return text.encode()

    monkeypatch.setattr("braze.codegen.llvm.compile.compile_object", compile_object)
    with config.using(num_threads=2), ModuleCompiler(host_target()) as compiler:
        compiler.start("a", "one")
        assert first.wait(20)
        assert compiler.objects([("a", "one"), ("b", "two")]) == [b"one", b"two"]
    assert all(pace < usual[0] and rare > usual[1] for pace, rare in seen)
    assert usual == (sys.getswitchinterval(), gc.get_threshold())


@pytest.mark.parametrize("own", [(0, 10, 10), (10_000_000, 3, 3)])
def test_a_program_that_wants_less_garbage_collection_has_it(own):
    before = gc.get_threshold()
    try:
        gc.set_threshold(*own)
        with config.using(num_threads=1), ModuleCompiler(host_target()):
            assert gc.get_threshold() == own
        assert gc.get_threshold() == own
    finally:
        gc.set_threshold(*before)


def test_no_module_is_begun_after_a_failure():
    begun = threading.Event()
    with config.using(num_threads=2), pytest.raises(ZeroDivisionError):
        with ModuleCompiler(host_target()) as compiler:
            compiler._compile = lambda name, text: begun.wait(0.2)
            for number in range(100):
                compiler.start(str(number), "")
            raise ZeroDivisionError
    assert sum(not future.cancelled() for future in compiler._futures.values()) <= 4


def test_a_failure_says_which_graph(toy):
    def broken(program, target, made, *, timed=False, watched=False):
        generated = toy_generate(program, target)
        generated.modules = [("m", "nonsense")]
        return generated

    toy.generate = broken
    with pytest.raises(CompileError) as caught:
        compile_artifact(square(), host_target())
    (note,) = caught.value.__notes__
    assert "while compiling graph @square" in note and "BRAZE_DUMP" in note


def test_a_wrong_number_of_pointers_is_caught(toy):
    def short(program, target, made, *, timed=False, watched=False):
        generated = toy_generate(program, target)
        generated.pointers -= 1
        return generated

    toy.generate = short
    with pytest.raises(RuntimeError, match="4 pointers where 5 are passed"):
        compile_artifact(square(), host_target())
