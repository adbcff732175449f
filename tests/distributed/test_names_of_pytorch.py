"""What PyTorch's programs call beside the usual collectives, on real ranks."""

import re
from pathlib import Path

import pytest
from ranks import run_ranks
from ranks_on_gpus import run_ranks_on_gpus

import braze
from braze import distributed as dist

pytestmark = pytest.mark.xdist_group("ranks")

# Sums of what is multiplied before, and several tensors in one message; on the CPU or on GPUs.
SUMS = """
    R, where = dist.ReduceOp, {"device": globals().get("GPU", "cpu")}
    ranks = range(size)
    for op in (R.PREMUL_SUM(rank + 0.5), dist._make_nccl_premul_sum(braze.tensor([rank + 0.5]))):
        assert op == R.PREMUL_SUM and op.op is R.PREMUL_SUM
        for factor_on in ("cpu", where["device"]):
            if isinstance(op.factor, braze.Tensor):
                op = R.PREMUL_SUM(op.factor.to(factor_on))
            wanted = [sum((r + 0.5) * (r + i) for r in ranks) for i in range(3)]
            x = braze.arange(3.0, **where) + rank
            x.sum().item()  # it is in memory
            part = x[1:]
            assert dist.all_reduce(x, op) is None
            assert x.tolist() == wanted and part.tolist() == wanted[1:]
            x = braze.arange(3.0, **where) + rank
            work = dist.all_reduce(x, op, async_op=True)
            assert work.wait() and work.synchronize() is None and work.result()[0] is x
            assert x.tolist() == wanted
            x = braze.arange(3.0, **where) + rank
            before = x.tolist()
            dist.reduce(x, dst=1, op=op)
            assert x.tolist() == (wanted if rank == 1 else before)
            out = braze.zeros(2, **where)
            dist.reduce_scatter_tensor(out, braze.arange(2.0 * size, **where), op)
            whole = sum(r + 0.5 for r in ranks)
            assert out.tolist() == [2 * rank * whole, (2 * rank + 1) * whole]
            dist.reduce_scatter(out, [braze.full((2,), float(r), **where) for r in ranks], op)
            assert out.tolist() == [rank * whole] * 2
    x = braze.full((2,), 3.0, dtype=braze.bfloat16, **where)
    dist.all_reduce(x, R.PREMUL_SUM(0.5))
    assert x.tolist() == [1.5 * size] * 2 and x.dtype is braze.bfloat16
    z = braze.full((2,), 1 + 2j, **where)
    dist.all_reduce(z, R.PREMUL_SUM(2.0))
    assert z.tolist() == [size * (2 + 4j)] * 2
    raises(TypeError, "must be a floating-point", lambda: dist.all_reduce(
        braze.ones(2, dtype=braze.int32, **where), R.PREMUL_SUM(2.0)))
    raises(ValueError, "needs a factor", lambda: dist.all_reduce(
        braze.ones(2, **where), R.PREMUL_SUM))
    raises(TypeError, "takes no factor", lambda: R.SUM(2.0))
    raises(ValueError, "one element", lambda: R.PREMUL_SUM(braze.ones(2)))

    x, y = braze.full((2, 2), float(rank), **where), braze.arange(3.0, **where)
    assert dist.all_reduce_coalesced([x, y]) is None
    assert x.tolist() == [[sum(ranks)] * 2] * 2 and y.tolist() == [0, size, 2 * size]
    future = dist.all_reduce_coalesced(x, R.AVG, async_op=True)
    assert future.wait()[0] is x and x.tolist() == [[sum(ranks)] * 2] * 2
    dist.all_reduce_coalesced([x, y], R.PREMUL_SUM(0.5))
    assert y.tolist() == [0, size * size / 2, size * size]
    outs = [[braze.zeros(1, **where), braze.zeros(2, 2, **where)] for _ in ranks]
    inputs = [braze.full((1,), float(rank), **where), braze.full((2, 2), 10.0 * rank, **where)]
    assert dist.all_gather_coalesced(outs, inputs) is None
    assert [o.tolist() for o, _ in outs] == [[r] for r in ranks]
    assert [o.tolist() for _, o in outs] == [[[10 * r] * 2] * 2 for r in ranks]
    assert dist.all_gather_coalesced(outs, inputs, async_op=True).wait()[1] is outs[0][1]
    out = braze.zeros(size, **where)
    dist.all_gather_single(out, braze.full((1,), float(rank), **where))
    assert out.tolist() == list(ranks)
    dist.reduce_scatter_single(inputs[0], out)
    assert inputs[0].tolist() == [rank * size]
    raises(TypeError, "one dtype", lambda: dist.all_reduce_coalesced([x, x.double()]))
    raises(ValueError, "at least one", lambda: dist.all_reduce_coalesced([]))
    raises(ValueError, "like the inputs", lambda: dist.all_gather_coalesced(outs, inputs[:1]))
"""


def test_groups_objects_and_sums(tmp_path):
    """One program checks them all: to start four ranks takes longer than anything they do here."""
    outcome = run_ranks(
        "if True:\n"
        + SUMS
        + """
world = dist.group.WORLD
assert (world.name(), world.group_name, world.group_desc) == ("mpi", "0", "default_pg")
assert world.rank() == rank and world.size() == 4
assert dist.get_backend_config() == "cpu:mpi" and dist.get_node_local_rank() == rank

# PyTorch sorts the ranks unless it is told not to.
up, down = dist.new_group([3, 0, 2]), dist.new_group([3, 0, 2], sort_ranks=False, group_desc="down")
if rank == 1:
    assert up is down is dist.GroupMember.NON_GROUP_MEMBER
else:
    assert dist.get_process_group_ranks(up) == [0, 2, 3] and up.group_desc == "undefined"
    assert dist.get_process_group_ranks(down) == [3, 0, 2] and down.group_desc == "down"
    assert up.rank() == [0, None, 1, 2][rank] and down.rank() == [1, None, 2, 0][rank]
    for group in (up, down):
        assert dist.get_group_rank(group, rank) == group.rank()
        assert dist.get_global_rank(group, group.rank()) == rank
    out = braze.zeros(3)
    dist.all_gather_into_tensor(out, braze.tensor([float(rank)]), group=down)
    assert out.tolist() == [3, 0, 2]
    x = braze.full((1 << 16,), float(rank))  # large enough for the memory that they share
    dist.all_reduce(x, group=down)
    assert x.unique().tolist() == [5]
raises(ValueError, "is not registered", lambda: dist.get_group_rank(
    dist.GroupMember.NON_GROUP_MEMBER, 0))
raises(ValueError, "use_local_synchronization", lambda: dist.new_group(
    [0], use_local_synchronization=True))
raises(ValueError, "duplicate entries, got [1, 1]", lambda: dist.new_group([1, 1]))
raises(ValueError, "Rank 4 is out of range", lambda: dist.new_group([0, 4]))

own, every = dist.new_subgroups(2, group_desc="pair")
assert own is every[rank // 2] and len(every) == 2 and own.group_desc == "pair"
assert own.ranks == ((0, 1) if rank < 2 else (2, 3))
own, every = dist.new_subgroups_by_enumeration([[0, 2], [3]])
assert len(every) == 2 and getattr(own, "ranks", None) == [(0, 2), None, (0, 2), (3,)][rank]
for size_, text in ((3, "divisible"), (8, "must not exceed"), (0, "must be positive"),
                    (None, "only takes effect when CUDA is available")):
    raises(ValueError, text, lambda: dist.new_subgroups(size_))
raises(ValueError, "cannot be empty", lambda: dist.new_subgroups_by_enumeration([]))
raises(ValueError, "appeared in both subgroup [0, 1] and [1, 2]",
       lambda: dist.new_subgroups_by_enumeration([[0, 1], [1, 2]]))

# Only a group's own ranks split it, however many groups others have made meanwhile.
pair, _ = dist.new_subgroups_by_enumeration([[0, 1], [2, 3]])
one = dist.split_group(pair, [[0], [1]])
assert one.ranks == (rank,) and one.group_desc == "undefined:split"
if rank < 2:
    for _ in range(3):
        again = dist.split_group(pair, [[1, 0]], group_desc="again", backend="mpi")
    assert again.ranks == (0, 1) and again.group_desc == "again"
    assert (dist.split_group(pair, [[1]]) is None) == (rank == 0)
    x = braze.ones(1)
    dist.all_reduce(x, group=again)
    assert x.item() == 2
later = dist.new_group([1, 2])
if rank in (1, 2):
    x = braze.tensor([float(rank)])
    dist.all_reduce(x, group=later)
    assert x.item() == 3
crossed = dist.split_group(None, [[0, 3], [2, 1]])
assert crossed.ranks == ((0, 3) if rank in (0, 3) else (1, 2))
for ranks, text in ((None, "None or empty"), ([[]], "cannot be empty"), ([[0, 0]], "duplicate"),
                    ([[4]], "there is no rank 4"), ([[0], [0, 1]], "appeared in both")):
    raises(ValueError, text, lambda: dist.split_group(None, ranks))
raises(ValueError, "Backend mismatch", lambda: dist.split_group(None, [[0]], backend="nccl"))
raises(ValueError, "is not part of the parent",
       lambda: dist.split_group(dist.GroupMember.NON_GROUP_MEMBER, [[0]]))

# Objects.
sent = ["text", {"rank": rank}, braze.arange(3).tolist()]
if rank == 0:
    senders = []
    for _ in range(3):
        got = [None] * 3
        senders.append(dist.recv_object_list(got))
        assert got == ["text", {"rank": senders[-1]}, [0, 1, 2]]
    assert sorted(senders) == [1, 2, 3]
    dist.barrier()
    raises(ValueError, "rank 1 has sent 3 objects, this rank's list has 1",
           lambda: dist.recv_object_list([None], src=1))
else:
    dist.send_object_list(sent, 0)
    dist.barrier()
    if rank == 1:
        dist.send_object_list(sent, dst=0, device="cpu", use_batch=True)
if rank != 1:
    if down.rank() == 2:
        dist.send_object_list(["to 3"], group=down, group_dst=0)
    if down.rank() == 0:
        got = [None]
        assert dist.recv_object_list(got, group=down, group_src=2) == 2 and got == ["to 3"]
else:
    assert dist.recv_object_list([None], src=0, group=down) == -1
raises(ValueError, "with itself", lambda: dist.send_object_list([1], rank))
raises(ValueError, "there is no rank", lambda: dist.recv_object_list([1], group_src=9))
dist.barrier(timeout=timedelta(seconds=20))
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4)), outcome


def test_sums_on_gpus(tmp_path):
    outcome = run_ranks_on_gpus(
        "if True:\n"
        + SUMS
        + """
    assert dist.get_backend_config() == "cuda:nccl" and dist.group.WORLD.name() == "nccl"
    own, every = dist.new_subgroups(1)
    x = braze.ones(1, device=GPU)
    dist.all_reduce(x, group=own)
    turned = dist.new_group([1, 0], sort_ranks=False)
    out = braze.zeros(2, device=GPU)
    dist.all_gather_into_tensor(out, x * rank, group=turned)
    assert out.tolist() == [1, 0]
    both = dist.split_group(None, [[1, 0]])
    dist.all_reduce(x, group=both)
    assert x.item() == 2
    got = [None]
    if rank:
        dist.send_object_list(["a"], 0)
    else:
        assert dist.recv_object_list(got, 1) == 1 and got == ["a"]
    say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(2)), outcome


def test_what_is_there(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
                 "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    assert dist.get_node_local_rank(5) == 5
    with pytest.raises(RuntimeError, match="LOCAL_RANK is not in the environment"):
        dist.get_node_local_rank()
    monkeypatch.setenv("SLURM_LOCALID", "0")
    monkeypatch.setenv("MPI_LOCALRANKID", "2")
    assert dist.get_node_local_rank() == 2
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert dist.get_node_local_rank(5) == 3
    assert not dist.is_torchelastic_launched()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert dist.is_torchelastic_launched()
    assert not (dist.is_gloo_available() or dist.is_ucc_available() or dist.is_xccl_available())
    assert dist.is_backend_available("MPI") == dist.is_mpi_available()
    assert dist.is_backend_available("nccl") == dist.is_nccl_available()
    assert dist.is_backend_available("cpu:mpi") == dist.is_mpi_available()
    assert not dist.is_backend_available("gloo") and not dist.is_backend_available("cpu:gloo")
    assert dist.get_default_backend_for_device("cpu") == "mpi"
    assert dist.get_default_backend_for_device(braze.device("cuda:1")) == "nccl"
    with pytest.raises(ValueError, match="not registered for device : tpu"):
        dist.get_default_backend_for_device("tpu")
    ops = dist.ReduceOp
    assert [dist.supports_complex(op) for op in (ops.SUM, ops.PREMUL_SUM(2.0), ops.MAX)] == [
        True, True, False,
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_names_that_are_not_there_are_documented():
    """Whatever PyTorch has is here, or the document says that it is not."""
    torch = pytest.importorskip("torch.distributed")
    text = (Path(__file__).resolve().parents[2] / "docs" / "distributed.md").read_text()
    (section,) = re.findall(r"^## What there is not\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    left_out = {
        name
        for names in re.findall(r"^- (.*?):", section, re.MULTILINE | re.DOTALL)
        for name in re.findall(r"`(\w+)`", names)
    }
    there = {name for name in dir(dist) if not name.startswith("_")}
    own = {
        name
        for name in dir(torch)
        if not name.startswith("_")
        and str(getattr(getattr(torch, name), "__module__", "")).startswith(
            ("torch.distributed", "torch._C._distributed_c10d")
        )
    }
    assert len(own) > 90 and own - there - left_out == set()
    assert left_out & there == set()
    assert left_out <= set(dir(torch)), left_out - set(dir(torch))
