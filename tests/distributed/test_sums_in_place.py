"""Ranks of one host add up gradients where compiled code has put them."""

import json

import numpy as np
import pytest
from ranks import run_ranks

import braze
from braze.distributed.bucket_layout import BucketLayout
from braze.distributed.buckets import GradBucket
from braze.ir.op import op_named
from braze.ir.parser import parse_graph
from braze.passes import compile_graph
from braze.passes.own_operands import collectives_in_place
from braze.runtime.cpu import host_target

pytestmark = pytest.mark.xdist_group("ranks")

TWO_GRADIENTS = """graph @g(%x: f32[32,64], %y: f32[32,64], %w: f32[64,64] param)
    -> (f32[64,64] = %w, f32[64,64]) {
  %0: f32[64,64] = contract(%x, %y; equation="km,kn->mn")
  %1: f32[64,64] = contract(%y, %x; equation="km,kn->mn")
  %2: i64[] = constant(value=0, dtype=i64)
  %3: i64[] = collective_start(%2, %0, %1; kind="all_reduce", reduction="avg", group=0, root=0)
  %4: f32[8192] = collective_wait(%3; shape=(8192), dtype=f32)
  %5: f32[4096] = slice(%4; starts=(4096), stops=(8192), steps=(1))
  %6: f32[64,64] = reshape(%5; shape=(64,64))
  %7: f32[64,64] = sub(%w, %6)
  return %7, %6
}"""


MOMENTUM = """graph @g(%x: f32[36928], %w: f32[64,64,3,3] param, %m: f32[64,64,3,3])
    -> (f32[64,64,3,3] = %w, f32[64,64,3,3], f32[64,64,3,3] = %m) {
  %0: f32[36864] = slice(%x; starts=(64), stops=(36928), steps=(1))
  %1: f32[3,3,64,64] = reshape(%0; shape=(3,3,64,64))
  %2: f32[64,64,3,3] = permute(%1; dims=(3,2,0,1))
  %3: f32[] = constant(value=0.5, dtype=f32)
  %4: f32[64,64,3,3] = mul(%m, %3)
  %5: f32[64,64,3,3] = add(%4, %2)
  %6: f32[64,64,3,3] = mul(%5, %3)
  %7: f32[64,64,3,3] = sub(%w, %6)
  return %7, %2, %5
}"""


def test_kernels_write_gradients_into_the_bucket():
    stages = {}
    program, _ = compile_graph(
        parse_graph(TWO_GRADIENTS),
        host_target(),
        record=lambda name, made: stages.update({name: made}),
    )
    text = str(stages["loops"])
    assert "in_place=true" in text
    (own,) = collectives_in_place(stages["schedule"])
    parts = own.parts
    assert list(parts.values()) == [0, 4 * 4096]
    calls = [k for k in program.kernels() if hasattr(k, "operands") and hasattr(k, "number")]
    start = next(c for c in calls if c.op is op_named("collective_start"))
    wait = next(c for c in calls if c.op is op_named("collective_wait"))
    places = [program.placements[a.buffer.name] for a in (*start.operands[1:], *wait.results)]
    assert [p.kind for p in places] == ["arena"] * 3
    assert [p.offset - places[0].offset for p in places] == [0, 4 * 4096, 0]


def test_what_others_need_too_is_copied_first():
    """A gradient that is a result, too, and one that is two operands at once."""
    text = TWO_GRADIENTS.replace("%0, %1; kind", "%0, %0; kind")
    graph = parse_graph(text)
    stages = {}
    compile_graph(graph, host_target(), record=lambda name, made: stages.update({name: made}))
    (own,) = collectives_in_place(stages["schedule"])
    parts = own.parts
    assert len(parts) == 2
    copies = [n for n in stages["schedule"].nodes if n.attributes.get("kind") == "copy"]
    assert len(copies) == 1  # the second of the two
    graph = parse_graph(TWO_GRADIENTS.replace("return %7, %6", "return %7, %1"))
    compile_graph(graph, host_target(), record=lambda name, made: stages.update({name: made}))
    (own,) = collectives_in_place(stages["schedule"])
    parts = own.parts
    assert len(parts) == 2 and not set(parts) & set(stages["schedule"].outputs)
    odd = parse_graph(
        "graph @g(%x: f32[3], %y: f32[4]) -> (f32[7]) {\n"
        "  %0: f32[3] = exp(%x)\n"
        "  %1: i64[] = constant(value=0, dtype=i64)\n"
        '  %2: i64[] = collective_start(%1, %0, %y; kind="all_reduce", reduction="sum", group=0, '
        "root=0)\n"
        "  %3: f32[7] = collective_wait(%2; shape=(7), dtype=f32)\n"
        "  %4: f32[7] = exp(%3)\n"
        "  return %4\n}"
    )
    stages.clear()
    compile_graph(odd, host_target(), record=lambda name, made: stages.update({name: made}))
    assert not list(collectives_in_place(stages["schedule"]))


def test_a_gradient_is_read_from_the_bucket_in_the_order_of_its_parameter():
    """What a kernel makes of a slice of the bucket, in another order, and the slice itself, which
    is a result, are stored side by side."""
    program, _ = compile_graph(parse_graph(MOMENTUM), host_target())
    (kernel,) = program.kernels()
    stores = [line.split("=")[0] for line in str(kernel).splitlines() if "store" in line]
    assert len({store[store.index("[") :] for store in stores}) == 1, kernel


def test_gradients_lie_in_a_bucket_in_the_order_of_their_parameters():
    """Whatever the order in which kernels make them, the optimizer reads them side by side."""
    weight = braze.arange(4 * 3 * 3 * 3, dtype=braze.float32).reshape(4, 3, 3, 3)
    bias = braze.arange(5, dtype=braze.float32)
    layout = BucketLayout([gradient._current().type for gradient in (weight, bias)])
    given = layout.laid_out([gradient._current() for gradient in (weight, bias)])
    bucket = GradBucket(0, layout, given, [weight, bias], True)
    values = bucket.buffer().numpy()
    assert values.tolist() == [*range(108), 0, 0, 0, 0, *range(5)]
    for gradient, wanted in zip(bucket.gradients(), (weight, bias), strict=True):
        assert np.array_equal(gradient.numpy(), wanted.numpy())


def test_sums_of_every_size_and_dtype(tmp_path):
    """Sums and averages through shared memory and through MPI are the same."""
    outcome = run_ranks(
        """
        from braze.runtime.distributed.exchanged import takes
        local = dist.group.WORLD._communicator.local
        assert local is not None
        for dtype in (np.float32, np.float64, np.float16):
            for count in (10, 1 << 15, (1 << 15) + 1, 300001):
                for name, op in (("sum", dist.ReduceOp.SUM), ("avg", dist.ReduceOp.AVG)):
                    base = np.arange(count) % 50
                    x = braze.from_numpy((base + rank).astype(dtype))
                    assert takes(x.numpy(), name) == (x.numpy().nbytes >= 1 << 16)
                    dist.all_reduce(x, op)
                    wanted = 4 * base + 6
                    wanted = wanted / 4 if name == "avg" else wanted
                    assert np.array_equal(x.numpy(), wanted.astype(dtype))
        works = [dist.all_reduce(braze.full((40000,), float(i)), async_op=True) for i in range(6)]
        assert [w.wait() and w.result()[0][-1].item() for w in works] == [4.0 * i for i in range(6)]
        pair = dist.new_group([1, 3])
        if rank % 2:
            x = braze.full((40000,), float(rank))
            dist.all_reduce(x, group=pair)
            assert x.unique().tolist() == [4.0]
        free = sum(len(blocks) for blocks in local._free.values())
        assert 1 <= free <= 20  # blocks come back
        say("fine")
        """,
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4))


def test_training(tmp_path):
    """Gradients of 6 MiB are averaged in the arena, which all ranks map, or which an interrupt
    leaves sound; the profile shows them beside the kernels."""
    outcome = run_ranks(
        """
import json
from braze import nn
import braze.nn.functional as F
braze.config.tier = "compile"
from braze.ir.collectives import current

def model():
    braze.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Flatten(),
                         nn.Linear(1024, 1200), nn.Tanh(), nn.Linear(1200, 3))

generator = braze.Generator().manual_seed(5)
x, y = braze.randn(8, 3, 8, 8, generator=generator), braze.arange(8) % 3
mine = slice(4 * rank, 4 * rank + 4)
def train(net, x, y, steps):
    opt = braze.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        opt.zero_grad()
        F.cross_entropy(net(x), y).backward()
        opt.step()
    return [p.detach().numpy().copy() for p in net.parameters()], [
        p.grad.numpy().copy() for p in net.parameters()]

def near(a, b):
    return all(np.allclose(p, q, rtol=1e-4, atol=1e-6) for p, q in zip(a[0] + a[1], b[0] + b[1]))

wanted = train(model(), x, y, 6)
wrapped = nn.parallel.DistributedDataParallel(model(), bucket_cap_mb=2)
assert len(wrapped._reducer.buckets) > 1
found = train(wrapped, x[mine], y[mine], 6)
assert near(found, wanted)

# Where arenas are in memory that both ranks map, nothing is copied to be added up.
from braze.runtime.distributed.local import LocalRanks, new_arena
from braze.runtime.shared_blocks import SharedBlock
from braze.runtime.workspace import cpu_workspace
arena, taken = cpu_workspace.arena, []
assert isinstance(arena, type(new_arena(arena.nbytes)))
is_shared = isinstance(arena, SharedBlock)
def take(self, nbytes, own=LocalRanks.take):
    taken.append(nbytes)
    return own(self, nbytes)
LocalRanks.take = take
train(wrapped, x[mine], y[mine], 2)
assert bool(taken) != is_shared, taken

# Sums of an iteration that is interrupted go on elsewhere; the arena is for others.
from braze.runtime.distributed.captured import Captured
from braze.runtime.distributed.local import LocalSum
real, moved = Captured.wait, []
def interrupted(self, ticket):
    assert self._in_place, "nothing is reduced in place"
    raise KeyboardInterrupt
def move(self, own=LocalSum.move):
    moved.append(own(self))
    return moved[-1]
LocalSum.move = move
net = nn.parallel.DistributedDataParallel(model(), bucket_cap_mb=2)
train(net, x[mine], y[mine], 3)
if rank:
    time.sleep(0.2)  # so that the other's sums have not come to their end
Captured.wait = interrupted
try:
    train(net, x[mine], y[mine], 1)
except KeyboardInterrupt:
    pass
else:
    raise AssertionError
finally:
    Captured.wait = real
assert not current()._in_place and (rank or moved)
assert all(went != is_shared for went in moved)
if moved and is_shared:  # the other rank may write to it still
    assert cpu_workspace.arena is not arena
dist.barrier()
again = nn.parallel.DistributedDataParallel(model(), bucket_cap_mb=2)
assert near(train(again, x[mine], y[mine], 6), wanted)

with braze.autograd.profiler.profile(per_kernel=True) as prof:
    train(wrapped, x[mine], y[mine], 2)
prof.export_chrome_trace("trace%d.json" % rank)
entries = json.load(open("trace%d.json" % rank))["traceEvents"]
lanes = {e["tid"]: e["args"]["name"] for e in entries if e["ph"] == "M"}
assert lanes[-1] == "communication", lanes
sums = [e for e in entries if e.get("cat") == "communication" and "all_reduce" in e["name"]]
kernels = [e for e in entries if e.get("cat") == "kernel"]
assert all(e["tid"] in lanes and e["dur"] > 0 for e in sums) and len(sums) >= 4
for lane in lanes:
    own = [e for e in sums if e["tid"] == lane]
    assert all(a["ts"] + a["dur"] <= b["ts"] for a, b in zip(own, own[1:]))
# Kernels run while a bucket is reduced.
beside = [k for k in kernels if not k["name"].startswith("collective")
          and any(s["ts"] < k["ts"] < s["ts"] + s["dur"] for s in sums)]
say(json.dumps(len(beside)))
""",
        tmp_path,
        ranks=2,
    )
    for rank in range(2):
        assert json.loads(outcome.lines(rank)[0]) > 3
