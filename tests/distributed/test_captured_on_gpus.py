"""Collectives between GPUs as operations of compiled graphs, beside the kernels of the same graph.

Emulated streams are lazy: with 1, all do their work only once it is waited for; with 2, that of
communication does it as soon as it may. So what does not wait reads what is not there yet.
"""

import json

import pytest
from ranks_on_gpus import run_ranks_on_gpus

pytest.importorskip("nccl.bindings", reason="GPUs talk by NCCL: pip install nccl4py")
pytestmark = pytest.mark.xdist_group("ranks")

TRAINING = """
from braze.runtime.stats import stats

def net():
    braze.manual_seed(3)
    return braze.nn.Sequential(
        braze.nn.Linear(6, 16), braze.nn.Tanh(), braze.nn.Linear(16, 16), braze.nn.Tanh(),
        braze.nn.Linear(16, 1),
    )

def train(model, optimizer, x, y, steps=4):
    losses = []
    for _ in range(steps):
        braze.sync()
        before = stats.native_calls
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        assert stats.native_calls - before == (model.__class__ is not braze.nn.Sequential)
        losses.append(loss.detach())
    return losses

random = np.random.default_rng(0)
x = braze.tensor(random.standard_normal((8, 6)).astype(np.float32))
y = braze.tensor(random.standard_normal((8, 1)).astype(np.float32))
own = slice(4 * rank, 4 * rank + 4)
braze.config.tier = "interpret"
alone = net()
optimizer = braze.optim.SGD(alone.parameters(), lr=0.1, momentum=0.9)
wanted = [loss.item() for loss in train(alone, optimizer, x, y)]
braze.config.tier = "compile"
"""


@pytest.mark.parametrize(("cap", "lazy"), [(25, "1"), (1e-5, "2")])
def test_an_iteration_is_one_graph_and_trains_as_one_process(tmp_path, cap, lazy):
    """Also with many buckets."""
    outcome = run_ranks_on_gpus(
        TRAINING
        + f"""
model = braze.nn.parallel.DistributedDataParallel(
    net().to(GPU), device_ids=[rank], bucket_cap_mb={cap}
)
optimizer = braze.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
losses = train(model, optimizer, x[own].to(GPU), y[own].to(GPU))
for loss in losses:
    dist.all_reduce(loss, dist.ReduceOp.AVG)
np.testing.assert_allclose([loss.item() for loss in losses], wanted, rtol=1e-5)
for ours, theirs in zip(model.parameters(), alone.parameters()):
    np.testing.assert_allclose(ours.detach().cpu().numpy(), theirs.detach().numpy(), rtol=1e-4)
say("fine")
""",
        tmp_path,
        BRAZE_EMULATED_LAZY=lazy,
    )
    assert [outcome.lines(r) for r in (0, 1)] == [["fine"]] * 2


def test_all_that_can_be_captured(tmp_path):
    """Of values that are still to be computed, in one graph, and of others beside it."""
    outcome = run_ranks_on_gpus(
        """
from braze.runtime.stats import stats
from braze.distributed.tensor import parallel
braze.config.tier = "compile"

def wanted(name, r):
    return np.arange(1, 7).astype(np.float64) + r

def check():
    dtypes = "float32", "bfloat16", "float16", "int32"
    base = {n: (braze.arange(1, 7) + rank).to(getattr(braze, n)).to(GPU) for n in dtypes}
    short = (braze.arange(1, 7) + rank).to(braze.int16).to(GPU)
    braze.sync()
    before = stats.native_calls
    found = []
    for x in base.values():
        total = x * 2
        work = dist.all_reduce(total, async_op=True)
        found.append((total, 2 * (both[0] + both[1])))
        least = x + 1
        dist.all_reduce(least, dist.ReduceOp.MIN)
        found.append((least, both[0] + 1))
        whole = braze.zeros(12, dtype=x.dtype, device=GPU)
        dist.all_gather_into_tensor(whole, x - 1)
        found.append((whole, np.concatenate(both) - 1))
        part = braze.zeros(3, dtype=x.dtype, device=GPU)
        dist.reduce_scatter_tensor(part, x * 3)
        found.append((part, 3 * (both[0] + both[1])[3 * rank : 3 * rank + 3]))
    moved = short * 5
    dist.broadcast(moved, 1)
    found.append((moved, both[1] * 5))
    mean = base["float32"] / 2
    dist.all_reduce(mean, dist.ReduceOp.AVG)
    found.append((mean + 1, (both[0] + both[1]) / 4 + 1))
    turned = parallel.reduce_from_ranks(braze.complex(mean, mean + 1))
    halves = (both[0] + both[1]) / 4
    found += [(turned.real, 2 * halves), (turned.imag, 2 * halves + 2)]
    braze.sync()
    assert stats.native_calls - before == 1, stats.native_calls - before
    assert work.wait() and work.is_success()
    direct = base["float32"]  # which is in memory: on the program's own stream
    dist.all_reduce(direct)
    found.append((direct, both[0] + both[1]))
    for tensor, expected in found:
        got = tensor.cpu().to(braze.float64).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-6)

both = [np.arange(1, 7).astype(np.float64) + r for r in range(2)]
check()
check()
try:
    dist.all_reduce(braze.ones(3, device=GPU).to(braze.int16) + 1)
except TypeError as error:
    say(error)
# A graph may end between a collective's start and its end.
braze.config.trace_limit = 3
x = braze.arange(5.0, device=GPU) * (rank + 1)
dist.all_reduce(x)
np.testing.assert_array_equal((x + 1).cpu().numpy(), np.arange(5.0) * 3 + 1)
dist.destroy_process_group()
""",
        tmp_path,
        BRAZE_EMULATED_LAZY="2",
    )
    for rank in (0, 1):
        (text,) = outcome.lines(rank)
        assert "not supported for NCCL process group: int16" in text


def test_a_trace_shows_what_runs_beside(tmp_path):
    """Rank 1 comes late, so rank 0 computes while its buckets wait."""
    outcome = run_ranks_on_gpus(
        TRAINING
        + """
import json
model = braze.nn.parallel.DistributedDataParallel(net().to(GPU), bucket_cap_mb=1e-5)
optimizer = braze.optim.SGD(model.parameters(), lr=0.1)
x, y = x.to(GPU), y.to(GPU)
def step():
    optimizer.zero_grad()
    ((model(x) - y) ** 2).mean().backward()
    optimizer.step()
step()
with braze.autograd.profiler.profile(per_kernel=True):
    step()  # is compiled
dist.barrier()
with braze.autograd.profiler.profile(per_kernel=True) as prof:
    if rank:
        time.sleep(0.5)
    step()
prof.export_chrome_trace(f"trace{rank}.json")
entries = json.load(open(f"trace{rank}.json"))["traceEvents"]
lanes = {e["tid"]: e["args"]["name"] for e in entries if e["ph"] == "M"}
sums = [e for e in entries if e.get("cat") == "communication" and "all_reduce" in e["name"]]
kernels = [e for e in entries if e.get("cat") == "kernel"]
assert len(sums) == len(model._reducer.buckets) > 2, sums
assert all(lanes[e["tid"]].startswith("communication") for e in sums)
first = min(sums, key=lambda e: e["ts"])
beside = [k for k in kernels if not k["name"].startswith("collective")
          and first["ts"] < k["ts"] and k["ts"] + k["dur"] < first["ts"] + first["dur"]]
say(json.dumps([len(beside), first["dur"] / 1e6]))
""",
        tmp_path,
    )
    beside, seconds = json.loads(outcome.lines(0)[0])
    assert beside >= 2
    assert seconds > 0.2
