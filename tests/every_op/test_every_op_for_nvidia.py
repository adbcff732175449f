"""Every operation of the table as CUDA C: NVIDIA's compiler takes it for all architectures, and has
registers for it.

Operations are compiled in batches, as most of a compile is the same for one kernel and for a
hundred. Of the types that an operation takes, each architecture has its turn with some.
"""

import pytest
from cuda_emulator import nvrtc
from test_every_op_values import OPS, calls, graph_of

import braze.ir as ir
from braze.codegen.cuda.generate import generate
from braze.ir.graph import Graph
from braze.ir.op import op_named
from braze.ir.target import named_target
from braze.passes import compile_graph
from braze.runtime.cuda.resources import resources_of

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_120")
DTYPES = (ir.f32, ir.bf16, ir.i64, ir.f16, ir.bool_, ir.f64, ir.u8, ir.c64)
BATCH = 48
BATCHES = [OPS[start : start + BATCH] for start in range(0, len(OPS), BATCH)]
# What calls a function for a division of f64, as sm_120 has none of its own, saves some registers.
SPILLS = {("sm_120", "poisson"): 16}


def samples_of(op, turn):
    """Plain samples of some of its dtypes."""
    found = {dtype: sample for dtype, sample in calls(op) if not sample.edges}
    dtypes = [dtype for dtype in DTYPES if dtype in found] or list(found)
    # A composite becomes primitives, whose code is looked at anyway.
    count = 1 if op.category == "composite" else 2
    return [found[dtypes[(count * turn + n) % len(dtypes)]] for n in range(min(count, len(dtypes)))]


def batch_of(ops, turn):
    """One graph of samples of each. What has no operands is known when it is compiled."""
    graphs = [graph_of(op, samples_of(op, turn))[0] for op in ops if op.operands]
    names = ("inputs", "roles", "nodes", "outputs")
    return Graph("batch", *([x for g in graphs for x in getattr(g, name)] for name in names))


@pytest.mark.parametrize("batch", range(len(BATCHES)))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_real_compiler_takes_it_and_spills_nothing(architecture, batch):
    target = named_target(architecture)
    ops = [op for op in BATCHES[batch] if (architecture, op.name) not in SPILLS]
    graph = batch_of(ops, ARCHITECTURES.index(architecture))
    program, _ = compile_graph(graph, target)
    made = generate(program, target)
    found = nvrtc.compile(made.source, architecture)
    assert found.keys() == {launch.kernel for launch in made.launches()}
    print(nvrtc.report(found))  # which pytest shows with -s, and where a kernel spills
    assert not [name for name, taken in found.items() if taken.spills]


@pytest.mark.parametrize("architecture, name", SPILLS)
def test_what_spills_a_little(architecture, name):
    target = named_target(architecture)
    program, _ = compile_graph(batch_of([op_named(name)], 0), target)
    found = nvrtc.compile(generate(program, target).source, architecture)
    assert max(taken.spills for taken in found.values()) == SPILLS[architecture, name]


def test_all_dtypes_of_primitives_have_their_turn():
    for op in (op_named("add"), op_named("contract"), op_named("sum")):
        taken = {dtype for dtype, sample in calls(op) if not sample.edges} & set(DTYPES)
        samples = [s for turn in range(len(ARCHITECTURES)) for s in samples_of(op, turn)]
        assert taken <= {type.dtype for sample in samples for type in sample.types}


def test_the_runtime_reads_the_same_from_nvcc():
    """As the inspector shows it, on a machine that has the compiler."""
    target = named_target("sm_90")
    made = generate(compile_graph(batch_of([op_named("softmax")], 0), target)[0], target)
    found = resources_of(made.source, target)
    if not found:
        pytest.skip("there is no nvcc that says what kernels take")
    wanted = nvrtc.compile(made.source, "sm_90")
    assert found.keys() == wanted.keys()
    assert all(not taken.spill_stores and not taken.spill_loads for taken in found.values())
