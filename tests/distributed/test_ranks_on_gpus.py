"""Collectives and messages between GPUs by NCCL, and how ranks without a peer end."""

import re

import numpy as np
import pytest
from ranks import PROLOGUE
from ranks_on_gpus import run_ranks_on_gpus

pytest.importorskip("nccl.bindings", reason="GPUs talk by NCCL: pip install nccl4py")
pytestmark = pytest.mark.xdist_group("ranks")

# `made(name)`: what rank r has of a dtype, the same for NumPy on every rank.
MADE = """
def made(name, r, shape=(3, 4)):
    random = np.random.default_rng(100 * r + len(name))
    values = random.integers(1, 5, shape)
    return braze.tensor(values, dtype=getattr(braze, name))

def everybody(name, shape=(3, 4)):
    return [made(name, r, shape).to(braze.float64).numpy() for r in range(size)]

def same(tensor, expected, what):
    assert tensor.device.type == "cuda"
    found = tensor.cpu().to(braze.float64).numpy()
    np.testing.assert_array_equal(found, expected, err_msg=what)
"""


def test_reductions_are_numpys(tmp_path):
    outcome = run_ranks_on_gpus(
        MADE
        + """
DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int32", "int64")
PAIRS = (("SUM", np.add), ("PRODUCT", np.multiply), ("MIN", np.minimum), ("MAX", np.maximum))
for name in DTYPES:
    all_of_them = everybody(name)
    for kind, combine in PAIRS:
        x = made(name, rank).to(GPU)
        address = x.data_ptr()
        dist.all_reduce(x, getattr(dist.ReduceOp, kind))
        same(x, combine(*all_of_them), f"{kind} of {name}")
        assert x.data_ptr() == address
    if name.startswith(("f", "b")):
        x = made(name, rank).to(GPU)
        dist.all_reduce(x, dist.ReduceOp.AVG)
        same(x, sum(all_of_them) / 2, f"AVG of {name}")
    x = made(name, rank).to(GPU)
    dist.reduce(x, 1)
    same(x, sum(all_of_them) if rank == 1 else all_of_them[0], f"reduce of {name}")
truth = braze.tensor([rank == 0, False, True], device=GPU)
dist.all_reduce(truth)
assert truth.tolist() == [True, False, True]
whole = braze.arange(20, dtype=braze.float32, device=GPU).reshape(4, 5) * (rank + 1)
dist.all_reduce(whole[:, 1:3])  # a part whose elements do not lie in order
expected = np.arange(20.0).reshape(4, 5) * (rank + 1)
expected[:, 1:3] = np.arange(20.0).reshape(4, 5)[:, 1:3] * 3
same(whole, expected, "a part")
large = braze.full((70000,), 1.0 + rank, device=GPU)
work = dist.all_reduce(large * 2, async_op=True)
assert work.wait() and work.is_success()
same(work.result()[0], np.full(70000, 6.0), "a large one")
say("fine")
""",
        tmp_path,
    )
    assert [outcome.lines(r) for r in (0, 1)] == [["fine"]] * 2


def test_data_are_moved_as_numpy_would(tmp_path):
    outcome = run_ranks_on_gpus(
        MADE
        + """
def empty(name, *shape):
    return braze.zeros(shape, dtype=getattr(braze, name), device=GPU)

for name in ("float32", "bfloat16", "int16", "float64"):
    own, all_of_them = made(name, rank).to(GPU), everybody(name)
    x = own.clone()
    dist.broadcast(x, 1)
    same(x, all_of_them[1], "broadcast")
    parts = [empty(name, 3, 4) for _ in range(size)]
    dist.all_gather(parts, own)
    for r, part in enumerate(parts):
        same(part, all_of_them[r], "all_gather")
    stacked = empty(name, 6, 4)
    dist.all_gather_into_tensor(stacked, own)
    same(stacked, np.concatenate(all_of_them), "all_gather_into_tensor")
    parts = [empty(name, 3, 4) for _ in range(size)] if rank == 1 else None
    dist.gather(own, parts, dst=1)
    for r, part in enumerate(parts or ()):
        same(part, all_of_them[r], "gather")
    got = empty(name, 3, 4)
    dist.scatter(got, [own, own + 1] if rank == 0 else None, src=0)
    same(got, all_of_them[0] + rank, "scatter")
    given = [own + r for r in range(size)]
    swapped = [empty(name, 3, 4) for _ in range(size)]
    dist.all_to_all(swapped, given)
    for r, part in enumerate(swapped):
        same(part, all_of_them[r] + rank, "all_to_all")
    rows = empty(name, 2 if rank == 0 else 4, 4)
    dist.all_to_all_single(
        rows, own, [1, 1] if rank == 0 else [2, 2], [1, 2],
    )
    cut = (slice(0, 1), slice(1, 3))[rank]
    same(rows, np.concatenate([each[cut] for each in all_of_them]), "all_to_all_single")
both = everybody("float32", (2, 4))
out = braze.zeros(4, device=GPU)
dist.reduce_scatter_tensor(out, made("float32", rank, (2, 4)).to(GPU))
same(out, sum(both)[rank], "reduce_scatter_tensor")
dist.reduce_scatter(out, list(made("float32", rank, (2, 4)).to(GPU)), dist.ReduceOp.MAX)
same(out, np.maximum(*both)[rank], "reduce_scatter")

x = braze.arange(40000, device=GPU) + rank
if rank == 0:
    dist.send(x, 1)
    dist.recv(x, 1)
else:
    y = braze.zeros_like(x)
    assert dist.recv(y, 0) == 0
    same(y, np.arange(40000), "recv")
    dist.send(y * 2, 0)
if rank == 0:
    same(x, np.arange(40000) * 2, "recv")
own, other = braze.full((3,), float(rank), device=GPU), braze.zeros(3, device=GPU)
works = dist.batch_isend_irecv(
    [dist.P2POp(dist.isend, own, 1 - rank), dist.P2POp(dist.irecv, other, 1 - rank)]
)
assert len(works) == 1 and works[0].wait()
same(other, np.full(3, 1.0 - rank), "batch_isend_irecv")

alone = dist.new_group([1])
if rank == 1:
    dist.all_reduce(own, group=alone)
    same(own, np.ones(3), "a group of one")
objects = [None, None]
dist.all_gather_object(objects, {"rank": rank})
assert objects == [{"rank": 0}, {"rank": 1}]
assert dist.get_backend() == "nccl" and dist.is_nccl_available()
dist.barrier()
onto_cpus = dist.new_group(backend="mpi")
on_cpu = braze.ones(2)
dist.all_reduce(on_cpu, group=onto_cpus)
assert on_cpu.tolist() == [2, 2]
dist.destroy_process_group()
say("fine")
""",
        tmp_path,
    )
    assert [outcome.lines(r) for r in (0, 1)] == [["fine"]] * 2


def test_what_nccl_cannot_take_is_said(tmp_path):
    outcome = run_ranks_on_gpus(
        """
def said(error, action):
    try:
        action()
    except error as raised:
        say(raised)
    else:
        say("no error")
said(RuntimeError, lambda: dist.all_reduce(braze.ones(2)))
x = braze.ones(2, device=GPU)
said(TypeError, lambda: dist.all_reduce(x.to(braze.int16)))
said(ValueError, lambda: dist.all_reduce(x.int(), dist.ReduceOp.BXOR))
said(ValueError, lambda: dist.recv(x))
said(ValueError, lambda: dist.send(x, 1 - rank, tag=3))
dist.all_reduce(x)
said(ValueError, lambda: dist.all_reduce(braze.ones(2, device="cuda:2")))
same = dist.new_group([0, 1])
y = braze.ones(2, device="cuda:0")
said(ValueError, lambda: dist.all_reduce(y, group=same))
said(dist.DistBackendError, lambda: dist.all_reduce(braze.ones(2 + rank, device=GPU)))
""",
        tmp_path,
        check=False,
    )
    for rank in (0, 1):
        cpu, short, bits, nobody, tag, device, twice, differ = outcome.lines(rank)
        assert cpu.startswith("No backend type associated with device type cpu")
        assert "not supported for NCCL process group: int16" in short
        assert bits == "Cannot use ReduceOp.BXOR with NCCL"
        assert "give src" in nobody
        assert "no tags" in tag
        assert f"must all be on one GPU, cuda:{rank}, given one on cuda:2" in device
        assert re.search("Duplicate GPU detected: rank 0 and rank 1 both use the GPU", twice)
        assert "ranks differ: 0 calls all_reduce of 2 float32" in differ


def test_a_killed_rank_is_named(tmp_path):
    outcome = run_ranks_on_gpus(
        """
x = braze.zeros(1000, device=GPU)
dist.all_reduce(x)
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
start = time.monotonic()
try:
    for _ in range(1000):
        dist.all_reduce(x)
    braze.cuda.synchronize()
except dist.DistBackendError as error:
    say(f"{time.monotonic() - start:.1f}", error)
""",
        tmp_path,
        check=False,
    )
    ((seconds, text),) = [line.split(" ", 1) for line in outcome.lines(0)]
    assert float(seconds) < 10
    assert re.search(r"cannot be completed: rank 1 \(process \d+ on .*\) has ended", text)


TRAINING = """
def net():
    braze.manual_seed(3)
    return braze.nn.Sequential(
        braze.nn.Linear(6, 16), braze.nn.BatchNorm1d(16, momentum=0.0), braze.nn.Tanh(),
        braze.nn.Linear(16, 1),
    )

def train(model, x, y, device):
    model.eval()
    optimizer = braze.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = ((model(x.to(device)) - y.to(device)) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses

random = np.random.default_rng(0)
x = braze.tensor(random.standard_normal((8, 6)).astype(np.float32))
y = braze.tensor(random.standard_normal((8, 1)).astype(np.float32))
"""


@pytest.mark.parametrize("cap", [25, 1e-5])
def test_training_is_that_of_one_process(tmp_path, cap):
    """Also with many buckets."""
    outcome = run_ranks_on_gpus(
        TRAINING
        + f"""
model = braze.nn.parallel.DistributedDataParallel(
    net().to(GPU), device_ids=[rank], bucket_cap_mb={cap}
)
losses = train(model, x[4 * rank : 4 * rank + 4], y[4 * rank : 4 * rank + 4], GPU)
for loss in losses:
    dist.all_reduce(loss, dist.ReduceOp.AVG)
alone = [loss.item() for loss in train(net(), x, y, "cpu")]
np.testing.assert_allclose([loss.item() for loss in losses], alone, rtol=1e-5)
assert alone[-1] < alone[0] / 2
say("fine")
""",
        tmp_path,
    )
    assert [outcome.lines(r) for r in (0, 1)] == [["fine"]] * 2


def test_without_nccl_one_reads_what_to_install(tmp_path):
    hide = """
import sys
sys.modules["nccl.bindings.nccl"] = None
from braze import distributed as dist
assert not dist.is_nccl_available()
"""
    outcome = run_ranks_on_gpus(
        "", tmp_path, 1, prologue=hide + PROLOGUE.replace('("mpi"', '("nccl"'), check=False
    )
    assert outcome.code != 0
    assert re.search(r"ImportError: the nccl backend needs nccl4py .*braze\[nccl\]", outcome.err)


def test_a_machine_without_the_library_says_so(monkeypatch):
    from braze.runtime.distributed import nccl

    class Bindings:
        @staticmethod
        def get_version():
            raise RuntimeError('Failure finding "libnccl.so.2"\nmore')

    monkeypatch.setattr(nccl.importlib, "import_module", lambda name: Bindings)
    nccl.nccl.cache_clear()
    try:
        with pytest.raises(ImportError, match=r"finds no NCCL .*libnccl.so.2.*nvidia-nccl-cu13"):
            nccl.nccl()
    finally:
        nccl.nccl.cache_clear()


def test_complex_numbers_add_up_by_their_parts(monkeypatch):
    pytest.importorskip("nccl.bindings.nccl")
    from braze.runtime.distributed import nccl

    monkeypatch.setattr(nccl, "nccl", lambda: __import__("nccl.bindings.nccl", fromlist=["x"]))
    assert nccl.reduced("sum", np.dtype(np.complex64)) == (7, 2, 0)
    with pytest.raises(TypeError, match="complex64"):
        nccl.reduced("product", np.dtype(np.complex64))
