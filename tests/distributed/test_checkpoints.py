"""Checkpoints that each rank writes a part of, read by another number of ranks."""

import json
import re

import numpy as np
import pytest
from ranks import run_ranks

import braze
from braze.distributed import checkpoint
from braze.distributed.checkpoint import Shard

pytestmark = pytest.mark.xdist_group("ranks")

WRITE = """
from braze import nn
from braze.distributed import checkpoint
from braze.distributed.checkpoint import Shard
from braze.distributed.optim import ZeroRedundancyOptimizer as Zero
import braze.nn.functional as F

def model():
    braze.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))

def data(step):
    x = braze.arange(48.0).reshape(8, 6).sin() * (step + 1)
    return x, braze.arange(8) % 3

def train(net, opt, steps):
    for step in steps:
        x, y = data(step)
        opt.zero_grad()
        F.cross_entropy(net(x), y).backward()
        opt.step()
"""


def test_another_number_of_ranks_goes_on_where_four_ended(tmp_path):
    folder = tmp_path / "checkpoint"
    outcome = run_ranks(
        WRITE
        + f"""
net = model()
opt = Zero(net.parameters(), braze.optim.Adam, lr=0.01)
train(net, opt, range(3))
table = braze.arange(40.0).reshape(10, 4)
rows = [0, 3, 5, 9, 10]
mine = Shard(table[rows[rank] : rows[rank + 1]], (rows[rank], 0), (10, 4))
def state():
    return {{"model": net.state_dict(), "optim": opt.shard_state_dict(), "table": mine,
            "half": braze.tensor([1.5, 2.5], dtype=braze.bfloat16), "epoch": 3,
            "betas": (0.9, [0.99, None]), 7: "seven"}}
checkpoint.save(state(), checkpoint_id="{folder}")
first = sorted(os.listdir("{folder}"))
dist.barrier()
checkpoint.save(state(), checkpoint_id="{folder}")  # in its place
dist.barrier()
second = sorted(os.listdir("{folder}"))
assert not set(first) & set(second) - {{"manifest.json"}} and len(first) == len(second), second
# A rank that cannot write fails all.
try:
    checkpoint.save({{"x": object() if rank == 2 else 1}}, checkpoint_id="{folder}")
except RuntimeError as error:
    assert "rank 2: TypeError: checkpoint: x is a object" in str(error)
else:
    raise AssertionError
for wrong, text in (({{"x": braze.zeros(rank + 1)}}, "different types of x"),
                    ({{"x": rank}}, "different values of x"),
                    ({{"x": Shard(braze.zeros(2), (rank,), (5,))}}, "each element once")):
    try:
        checkpoint.save(wrong, checkpoint_id="{folder}")
    except RuntimeError as error:
        assert text in str(error), error
    else:
        raise AssertionError(wrong)
train(net, opt, range(3, 5))
say([p.detach().sum().item() for p in net.parameters()])
""",
        tmp_path,
    )
    wanted = json.loads(outcome.lines(0)[0])
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert len(manifest["files"]) == 4  # every rank wrote some
    outcome = run_ranks(
        WRITE
        + f"""
net = model()
[p.detach().zero_() for p in net.parameters()]
opt = Zero(net.parameters(), braze.optim.Adam, lr=9.0)
half = Shard(braze.zeros(5, 4), (5 * rank, 0), (10, 4))
state = {{"model": net.state_dict(), "optim": {{}}, "table": half, "epoch": 0, "betas": None, 7: "",
         "half": braze.zeros(2)}}
checkpoint.load(state, checkpoint_id="{folder}")
opt.load_state_dict(state["optim"])
assert opt.param_groups[0]["lr"] == 0.01 and len(opt.optim.state) < 6
assert (state["epoch"], state["betas"], state[7]) == (3, (0.9, [0.99, None]), "seven")
assert half.tensor.tolist() == braze.arange(40.0).reshape(10, 4)[5 * rank : 5 * rank + 5].tolist()
assert state["half"].tolist() == [1.5, 2.5]
train(net, opt, range(3, 5))
say([p.detach().sum().item() for p in net.parameters()])
""",
        tmp_path,
        ranks=2,
    )
    for rank in range(2):
        assert json.loads(outcome.lines(rank)[0]) == pytest.approx(wanted, rel=1e-5)
    # One process reads it, too.
    weight = braze.zeros(5, 6)
    checkpoint.load({"model": {"0.weight": weight}}, checkpoint_id=folder)
    assert weight.abs().sum().item() > 0


def test_what_is_missing_or_damaged_is_said(tmp_path):
    state = {"a": {"w": braze.arange(6.0).reshape(2, 3)}, "n": 1}
    checkpoint.save(state, checkpoint_id=tmp_path)
    into = {"a": {"w": braze.zeros(2, 3)}, "n": 0}
    checkpoint.load(into, checkpoint_id=tmp_path)
    assert into["a"]["w"].tolist() == [[0, 1, 2], [3, 4, 5]] and into["n"] == 1
    part = Shard(braze.zeros(1, 2), (1, 1), (2, 3))
    checkpoint.load({"a": {"w": part}}, checkpoint_id=tmp_path)
    assert part.tensor.tolist() == [[4, 5]]
    for wrong, text in (
        ({"b": braze.zeros(1)}, "Missing key in checkpoint state_dict: b"),
        ({"m": 3}, "Missing key in checkpoint state_dict: m"),
        ({"a": {"w": braze.zeros(3, 2)}}, r"Size mismatch between saved \(2, 3\) and current"),
    ):
        with pytest.raises(RuntimeError, match=text):
            checkpoint.load(wrong, checkpoint_id=tmp_path)
    with pytest.raises(ValueError, match="is no part of a tensor of shape"):
        Shard(braze.zeros(2), (4,), (5,))
    with pytest.raises(TypeError, match="keys are texts or integers"):
        checkpoint.save({1.5: 1}, checkpoint_id=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    with pytest.raises(RuntimeError, match=re.escape(f"it has {len(data) - 1} bytes, not")):
        checkpoint.load(into, checkpoint_id=tmp_path)
    file.unlink()
    with pytest.raises(RuntimeError, match="cannot be read"):
        checkpoint.load(into, checkpoint_id=tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
        checkpoint.load(into, checkpoint_id=tmp_path)


def test_a_killed_writer_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    """Whatever write it does not get beyond."""
    from braze.distributed.checkpoint import writing

    checkpoint.save({"w": braze.ones(3)}, checkpoint_id=tmp_path)

    class Killed(BaseException):
        pass

    real = writing.engine.replacing
    for before in range(2):
        calls = []

        def dies(path, *args, before=before, calls=calls):
            calls.append(path)
            if len(calls) > before:
                raise Killed
            return real(path, *args)

        with monkeypatch.context() as patch:
            patch.setattr(writing.engine, "replacing", dies)
            with pytest.raises(Killed):
                checkpoint.save({"w": braze.full((3,), 2.0)}, checkpoint_id=tmp_path)
        into = {"w": braze.zeros(3)}
        checkpoint.load(into, checkpoint_id=tmp_path)
        assert np.array_equal(into["w"].numpy(), [1, 1, 1])
    (tmp_path / ".0123456789ab-1.safetensors.7-8-9").touch()  # another rank was killed as it wrote
    checkpoint.save({"w": braze.full((3,), 2.0)}, checkpoint_id=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # what was left behind is gone
