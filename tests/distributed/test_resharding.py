"""Checkpoints read by more ranks than wrote them, or fewer, and written while training goes on."""

import json

import numpy as np
import pytest
from ranks import expecting, run_ranks, said

import braze
from braze import nn
from braze.distributed import checkpoint
from braze.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader, FileSystemWriter

pytestmark = pytest.mark.xdist_group("ranks")

# A model of several layers, whole or shared out among a group of ranks, and its training.
PARTS = """
from braze import nn
from braze.distributed import checkpoint
from braze.distributed.checkpoint import Shard
from braze.distributed.optim import ZeroRedundancyOptimizer as Zero
from braze.distributed.tensor.parallel import *

def shared_out(group):
    return nn.ModuleDict({
        "words": VocabParallelEmbedding(8, 4, process_group=group),
        "wide": ColumnParallelLinear(4, 8, gather_output=False, process_group=group),
        "narrow": RowParallelLinear(8, 3, input_is_parallel=True, process_group=group),
    })

def output(net):
    words = braze.tensor([[0, 3, 7], [6, 3, 5]])
    return net["narrow"](net["wide"](net["words"](words)).tanh())

def learn(net, adam):
    adam.zero_grad()
    output(net).square().sum().backward()
    adam.step()

def near(a, b):
    assert np.allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6), (a, b)

def optimizer(group):
    braze.manual_seed(2)
    net = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    opt = Zero(net.parameters(), braze.optim.Adam, process_group=group, lr=0.01)
    return net, opt

def step(net, opt):
    opt.zero_grad()
    net(braze.arange(6.0).reshape(2, 3)).square().sum().backward()
    opt.step()
"""


def whole():
    return nn.ModuleDict(
        {"words": nn.Embedding(8, 4), "wide": nn.Linear(4, 8), "narrow": nn.Linear(8, 3)}
    )


def output(net):
    words = braze.tensor([[0, 3, 7], [6, 3, 5]])
    return net["narrow"](net["wide"](net["words"](words)).tanh()).detach().tolist()


def learn(net, adam):
    words = braze.tensor([[0, 3, 7], [6, 3, 5]])
    adam.zero_grad()
    net["narrow"](net["wide"](net["words"](words)).tanh()).square().sum().backward()
    adam.step()


def trained():
    braze.manual_seed(2)
    net = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    opt = braze.optim.Adam(net.parameters(), lr=0.01)
    return net, opt


def step(net, opt):
    opt.zero_grad()
    net(braze.arange(6.0).reshape(2, 3)).square().sum().backward()
    opt.step()


def test_any_number_of_ranks_reads_what_any_other_has_written(tmp_path):
    """One writes; two and four read it, and four write; two and one read that."""
    one, four = tmp_path / "one", tmp_path / "four"
    braze.manual_seed(4)
    net = whole()
    adam = braze.optim.Adam(net.parameters(), lr=0.1)
    learn(net, adam)
    model, opt = trained()
    step(model, opt)
    table = braze.arange(48.0).reshape(12, 4)
    # Modules and optimizers may be given as they are.
    found = checkpoint.save(
        {
            "net": net,
            "net_adam": adam,
            "trained": {"model": model.state_dict()},
            "adam": opt,
            "table": table,
        },
        checkpoint_id=one,
    )
    assert found == FileSystemReader(one).read_metadata()
    entry = found.state_dict_metadata["net.wide.weight"]
    assert (entry.size, entry.properties.dtype) == ((8, 4), braze.float32)
    assert [(c.offsets, c.sizes) for c in entry.chunks] == [((0, 0), (8, 4))]
    step(model, opt)
    wanted, before = [p.detach().numpy().tolist() for p in model.parameters()], output(net)
    learn(net, adam)
    outcome = run_ranks(
        PARTS
        + f"""
wanted, learned, goal = {before!r}, {output(net)!r}, {wanted!r}
table = braze.arange(48.0).reshape(12, 4)
pair = dist.split_group(None, [[0, 1], [2, 3]])
for group in (pair, dist.group.WORLD):
    own, count = group.rank(), group.size()
    net = shared_out(group)
    adam = braze.optim.Adam(net.parameters(), lr=0.5)
    rows = Shard(braze.zeros(12 // count, 4), (12 // count * own, 0), (12, 4))
    columns = Shard(braze.zeros(12, 4 // count), (0, 4 // count * own), (12, 4))
    model, opt = optimizer(group)
    checkpoint.load({{"net": net, "net_adam": adam, "table": rows, "adam": opt,
                     "trained": {{"model": model.state_dict()}}}}, checkpoint_id="{one}")
    checkpoint.load({{"table": columns}}, checkpoint_id="{one}")
    near(rows.tensor, table.chunk(count)[own])
    near(columns.tensor, table.chunk(count, 1)[own])
    near(output(net).detach(), wanted)
    assert adam.param_groups[0]["lr"] == 0.1
    if group is pair:
        learn(net, adam)
        near(output(net).detach(), learned)
        # What the optimizer has already is written in place.
        checkpoint.load({{"net": net, "net_adam": adam}}, checkpoint_id="{one}")
        near(output(net).detach(), wanted)
    learn(net, adam)
    near(output(net).detach(), learned)
    assert len(opt.optim.state) == len(opt.optim.param_groups[0]["params"]) < 4
    step(model, opt)
    for parameter, values in zip(model.parameters(), goal, strict=True):
        near(parameter.detach(), values)
checkpoint.save({{"net": net, "net_adam": adam, "table": columns, "adam": opt,
                 "trained": {{"model": model.state_dict()}}}}, checkpoint_id="{four}")
try:
    adam.state[net["wide"].weight]["exp_avg"] = braze.ones(3)
    checkpoint.save({{"net": net, "net_adam": adam}}, checkpoint_id="{four}")
except RuntimeError as error:
    assert "keeps exp_avg of shape (3,) for a parameter of shape (2, 4)" in str(error), error
else:
    raise AssertionError
step(model, opt)
say([p.detach().numpy().tolist() for p in model.parameters()])
""",
        tmp_path,
    )
    wanted = json.loads(outcome.lines(0)[0])
    chunks = FileSystemReader(four).read_metadata().state_dict_metadata["net.wide.weight"].chunks
    assert sorted(chunk.offsets for chunk in chunks) == [(0, 0), (2, 0), (4, 0), (6, 0)]
    again = whole()
    into = {"net": again, "table": braze.zeros(12, 4)}
    checkpoint.load(into, storage_reader=FileSystemReader(four))
    assert np.allclose(output(again), output(net), rtol=1e-5, atol=1e-6)
    assert into["table"].tolist() == table.tolist()
    again_adam = braze.optim.Adam(again.parameters())
    checkpoint.load({"net_adam": again_adam}, checkpoint_id=four)
    learn(again, again_adam)
    learn(net, adam)
    assert np.allclose(output(again), output(net), rtol=1e-5, atol=1e-6)
    model, opt = trained()
    into = {"adam": {}, "trained": {"model": model.state_dict()}}
    checkpoint.load(into, checkpoint_id=four)
    opt.load_state_dict(into["adam"])
    step(model, opt)
    for parameter, values in zip(model.parameters(), wanted, strict=True):
        assert np.allclose(parameter.detach().numpy(), values, rtol=1e-5, atol=1e-6)
    run_ranks(
        PARTS
        + f"""
net = shared_out(None)
model, opt = optimizer(None)
columns = Shard(braze.zeros(12, 3), (0, rank), (12, 4))  # not as anybody wrote them
adam = braze.optim.Adam(net.parameters(), lr=0.5)
checkpoint.load({{"net": net, "net_adam": adam, "table": columns, "adam": opt,
                 "trained": {{"model": model.state_dict()}}}}, checkpoint_id="{four}")
near(columns.tensor, braze.arange(48.0).reshape(12, 4)[:, rank : rank + 3])
learn(net, adam)
near(output(net).detach(), {output(net)!r})
step(model, opt)
for parameter, values in zip(model.parameters(), {wanted!r}, strict=True):
    near(parameter.detach(), values)
""",
        tmp_path,
        ranks=2,
    )


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path):
    outcome = run_ranks(
        f"""
from braze.distributed import checkpoint
from braze.distributed.checkpoint import FileSystemWriter, DefaultSavePlanner, Shard, writing
from pathlib import Path
import threading
folder = "{tmp_path}/a"
w = braze.full((4,), float(rank))
mine = Shard(w, (4 * rank,), (16,))
# Nobody's file is written before all have gone on.
go, real = threading.Event(), writing.engine.replacing
def held(path, *args):
    assert go.wait(20)
    return real(path, *args)
writing.engine.replacing = held
first = checkpoint.async_save({{"w": mine, "step": 1}}, checkpoint_id=folder)
w.mul_(0).add_(100)
later = FileSystemWriter(folder + "2")
second = checkpoint.async_save({{"w": mine, "step": 2}}, storage_writer=later)
x = braze.ones(1 << 16)
for _ in range(5):
    dist.all_reduce(x, dist.ReduceOp.AVG)  # between the messages of those who write
assert not first.done() and not os.path.exists(folder + "/manifest.json")
dist.barrier()
go.set()
assert first.result().state_dict_metadata["w"].size == (16,)
whole, step = braze.zeros(16), {{}}
into = {{"w": whole, "step": 0}}
checkpoint.load(into, checkpoint_id=folder)
assert whole.tolist() == [float(r) for r in range(4) for _ in range(4)] and into["step"] == 1
second.result()
checkpoint.load(into, checkpoint_id=folder + "2")
assert whole.unique().tolist() == [100] and into["step"] == 2

kept = FileSystemWriter(folder, overwrite=False)
for save in (checkpoint.save, checkpoint.async_save):
    raises(RuntimeError, "rank 0: Checkpoint already exists in " + folder,
           lambda: save({{"w": mine}}, storage_writer=kept))
def refused(path, *args):
    if rank == 2:
        raise OSError("no room")
    return real(path, *args)
dist.barrier()
writing.engine.replacing = refused
failed = checkpoint.async_save({{"w": mine}}, checkpoint_id=folder)
raises(RuntimeError, "rank 2: OSError: no room", failed.result)
writing.engine.replacing = real
# The first rank writes what all have.
checkpoint.save({{"a": w, "b": w + 1}}, checkpoint_id=folder + "3",
                planner=DefaultSavePlanner(dedup_save_to_lowest_rank=True))
dist.barrier()
assert [p.name.rpartition("-")[2] for p in Path(folder + "3").glob("*-*")] == ["0.safetensors"]
last = checkpoint.async_save({{"w": mine, "step": 9}}, checkpoint_id=folder)
dist.destroy_process_group()
assert last.done() and last.exception() is None
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4)), outcome
    into = {"step": 0}
    checkpoint.load(into, checkpoint_id=tmp_path / "a")
    assert into == {"step": 9}


def test_a_rank_that_is_killed_while_others_write_is_named(tmp_path):
    """By the future, at the end of the program too, and by who makes a group afterwards."""
    outcome = run_ranks(
        expecting("pass")
        + f"""
from braze.distributed import checkpoint
from braze.distributed.checkpoint import Shard, writing
mine = Shard(braze.ones(4), (4 * rank,), (16,))
checkpoint.async_save({{"w": mine}}, checkpoint_id="{tmp_path}/c").result()
if rank == 2:
    writing.engine.replacing = lambda path: os.kill(os.getpid(), signal.SIGKILL)
failed = checkpoint.async_save({{"w": mine}}, checkpoint_id="{tmp_path}/c")
expect(failed.result)
expect(lambda: dist.new_group([0, 1]))
expect(lambda: dist.split_group(None, [[0, 1]]))
""",
        tmp_path,
        timeout=20,
        check=False,
    )
    for rank in (0, 1, 3):
        first, *others = [said(line) for line in outcome.lines(rank)]
        assert first[0] < 10 and "all_gather" in first[1], outcome
        assert len(others) == 2 and all("[new_group] cannot be" in text for _, text in others)
        assert all("rank 2 (process" in text for _, text in [first, *others])
    into = {"w": braze.zeros(16)}
    checkpoint.load(into, checkpoint_id=tmp_path / "c")  # the one before
    assert into["w"].tolist() == [1] * 16


def test_arguments_of_one_process(tmp_path):
    future = checkpoint.async_save({"w": braze.ones(2), "n": 1}, checkpoint_id=tmp_path)
    assert sorted(future.result().state_dict_metadata) == ["n", "w"]
    net = nn.Linear(2, 2)
    into = {"w": braze.zeros(2), "new": braze.full((1,), 7.0), "n": 0, "net": net}
    with pytest.raises(RuntimeError, match="Missing key in checkpoint state_dict: net.weight"):
        checkpoint.load({"net": net}, checkpoint_id=tmp_path)
    planner = DefaultLoadPlanner(allow_partial_load=True)
    checkpoint.load(into, checkpoint_id=tmp_path, planner=planner)
    assert into["w"].tolist() == [1, 1] and into["new"].item() == 7 and into["n"] == 1
    for call in (
        lambda: checkpoint.save({}),
        lambda: checkpoint.load({}),
        lambda: checkpoint.async_save({}),
    ):
        with pytest.raises(RuntimeError, match="`checkpoint_id` must be specified"):
            call()
    with pytest.raises(TypeError, match="expected a FileSystemWriter, given FileSystemReader"):
        checkpoint.save({}, storage_writer=FileSystemReader(tmp_path))
    with pytest.raises(TypeError, match="expected a DefaultLoadPlanner, given FileSystemWriter"):
        checkpoint.load({}, checkpoint_id=tmp_path, planner=FileSystemWriter(tmp_path))
    with pytest.raises(TypeError, match="w is a object"):
        checkpoint.async_save({"w": object()}, checkpoint_id=tmp_path)
    with pytest.raises(FileNotFoundError):
        FileSystemReader(tmp_path / "nothing").read_metadata()
