"""Collectives and messages between GPUs by NCCL, and how ranks without a peer end."""

import re

import numpy as np
import pytest
from ranks import PROLOGUE
from ranks_on_gpus import run_ranks_on_gpus

pytest.importorskip("nccl.bindings", reason="GPUs talk by NCCL: pip install nccl4py")
pytestmark = pytest.mark.xdist_group("ranks")

# `made(name)`: what rank r has of a dtype, the same for NumPy on every rank; `own(name)`: what this
# rank has, in its GPU's memory, so that no compiled graph is asked for it.
MADE = """
def made(name, r, shape=(3, 4)):
    random = np.random.default_rng(100 * r + len(name))
    values = random.integers(1, 5, shape)
    return braze.tensor(values, dtype=getattr(braze, name))

def own(name, shape=(3, 4)):
    return here(made(name, rank, shape).to(GPU))

def here(x):
    x.data_ptr()
    return x

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
        x = own(name)
        address = x.data_ptr()
        dist.all_reduce(x, getattr(dist.ReduceOp, kind))
        same(x, combine(*all_of_them), f"{kind} of {name}")
        assert x.data_ptr() == address
    if name.startswith(("f", "b")):
        x = own(name)
        dist.all_reduce(x, dist.ReduceOp.AVG)
        same(x, sum(all_of_them) / 2, f"AVG of {name}")
    x = own(name)
    dist.reduce(x, 1)
    same(x, sum(all_of_them) if rank == 1 else all_of_them[0], f"reduce of {name}")
truth = here(braze.tensor([rank == 0, False, True], device=GPU))
dist.all_reduce(truth)
assert truth.tolist() == [True, False, True]
whole = here(braze.arange(20, dtype=braze.float32, device=GPU).reshape(4, 5) * (rank + 1))
dist.all_reduce(whole[:, 1:3])  # a part whose elements do not lie in order
expected = np.arange(20.0).reshape(4, 5) * (rank + 1)
expected[:, 1:3] = np.arange(20.0).reshape(4, 5)[:, 1:3] * 3
same(whole, expected, "a part")
large = here(braze.full((70000,), 2.0 + 2 * rank, device=GPU))
work = dist.all_reduce(large, async_op=True)
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
    mine, all_of_them = own(name), everybody(name)
    x = here(mine.clone())
    dist.broadcast(x, 1)
    same(x, all_of_them[1], "broadcast")
    parts = [empty(name, 3, 4) for _ in range(size)]
    dist.all_gather(parts, mine)
    for r, part in enumerate(parts):
        same(part, all_of_them[r], "all_gather")
    stacked = empty(name, 6, 4)
    dist.all_gather_into_tensor(stacked, mine)
    same(stacked, np.concatenate(all_of_them), "all_gather_into_tensor")
    parts = [empty(name, 3, 4) for _ in range(size)] if rank == 1 else None
    dist.gather(mine, parts, dst=1)
    for r, part in enumerate(parts or ()):
        same(part, all_of_them[r], "gather")
    got = empty(name, 3, 4)
    dist.scatter(got, [mine, mine + 1] if rank == 0 else None, src=0)
    same(got, all_of_them[0] + rank, "scatter")
    given = [mine + r for r in range(size)]
    swapped = [empty(name, 3, 4) for _ in range(size)]
    dist.all_to_all(swapped, given)
    for r, part in enumerate(swapped):
        same(part, all_of_them[r] + rank, "all_to_all")
    rows = empty(name, 2 if rank == 0 else 4, 4)
    dist.all_to_all_single(
        rows, mine, [1, 1] if rank == 0 else [2, 2], [1, 2],
    )
    cut = (slice(0, 1), slice(1, 3))[rank]
    same(rows, np.concatenate([each[cut] for each in all_of_them]), "all_to_all_single")
both = everybody("float32", (2, 4))
out = braze.zeros(4, device=GPU)
dist.reduce_scatter_tensor(out, own("float32", (2, 4)))
same(out, sum(both)[rank], "reduce_scatter_tensor")
dist.reduce_scatter(out, list(own("float32", (2, 4))), dist.ReduceOp.MAX)
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
mine, other = braze.full((3,), float(rank), device=GPU), braze.zeros(3, device=GPU)
works = dist.batch_isend_irecv(
    [dist.P2POp(dist.isend, mine, 1 - rank), dist.P2POp(dist.irecv, other, 1 - rank)]
)
assert len(works) == 1 and works[0].wait()
same(other, np.full(3, 1.0 - rank), "batch_isend_irecv")

alone = dist.new_group([1])
if rank == 1:
    dist.all_reduce(here(mine), group=alone)
    same(mine, np.ones(3), "a group of one")
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
def ones(count, device=GPU):
    made = braze.ones(count, device=device)
    made.data_ptr()
    return made
said(RuntimeError, lambda: dist.all_reduce(braze.ones(2)))
x = ones(2)
said(TypeError, lambda: dist.all_reduce(x.to(braze.int16)))
said(ValueError, lambda: dist.all_reduce(x.int(), dist.ReduceOp.BXOR))
said(ValueError, lambda: dist.recv(x))
said(ValueError, lambda: dist.send(x, 1 - rank, tag=3))
dist.all_reduce(x)
said(ValueError, lambda: dist.all_reduce(ones(2, "cuda:2")))
said(ValueError, lambda: dist.all_reduce(braze.ones(2, device="cuda:2")))
same = dist.new_group([0, 1])
y = ones(2, "cuda:0")
said(ValueError, lambda: dist.all_reduce(y, group=same))
def differ():
    dist.all_reduce(ones(2 + rank))
    braze.cuda.synchronize()
said(dist.DistBackendError, differ)
""",
        tmp_path,
        check=False,
    )
    for rank in (0, 1):
        cpu, short, bits, nobody, tag, device, pending, twice, differ = outcome.lines(rank)
        assert cpu.startswith("No backend type associated with device type cpu")
        assert "not supported for NCCL process group: int16" in short
        assert bits == "Cannot use ReduceOp.BXOR with NCCL"
        assert "give src" in nobody
        assert "no tags" in tag
        assert f"must all be on one GPU, cuda:{rank}, given one on cuda:2" in device
        assert pending.partition("a rank's")[2] == device.partition("a rank's")[2]
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
