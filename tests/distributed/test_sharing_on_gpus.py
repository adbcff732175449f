"""Optimizers and layers shared out among GPUs, and their checkpoints, held against one process."""

import pytest
from ranks_on_gpus import run_ranks_on_gpus

pytest.importorskip("nccl.bindings", reason="GPUs talk by NCCL: pip install nccl4py")
pytestmark = pytest.mark.xdist_group("ranks")

TRAIN = """
from braze import nn
from braze.distributed import checkpoint
import braze.nn.functional as F
from braze.runtime.stats import stats

def train(net, opt, given, target, steps):
    losses = []
    for _ in range(steps):
        braze.sync()
        before = stats.native_calls
        opt.zero_grad()
        loss = F.cross_entropy(net(given), target)
        loss.backward()
        opt.step()
        assert stats.native_calls - before == (given.device.type == "cuda"), stats.native_calls
        losses.append(loss.detach())
    return losses

def near(found, wanted):
    found = [x.detach().cpu().numpy() if isinstance(x, braze.Tensor) else x for x in found]
    wanted = [x.detach().cpu().numpy() if isinstance(x, braze.Tensor) else x for x in wanted]
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)

braze.config.tier = "interpret"  # for what one process computes
"""


def test_zero_and_its_checkpoints(tmp_path):
    """Stages 1 and 2, whose state goes on in a checkpoint."""
    outcome = run_ranks_on_gpus(
        TRAIN
        + f"""
from braze.distributed.optim import ZeroRedundancyOptimizer as Zero

def model():
    braze.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))

x, y = braze.arange(48.0).reshape(8, 6).sin(), braze.arange(8) % 3
own = slice(4 * rank, 4 * rank + 4)
alone = model()
optimizer = braze.optim.Adam(alone.parameters(), lr=0.02)
wanted = [loss.item() for loss in train(alone, optimizer, x, y, 4)]
braze.config.tier = "compile"
x, y = x[own].to(GPU), y[own].to(GPU)
for stage in (1, 2):
    def start():
        net = model().to(GPU)
        if stage == 1:
            net = nn.parallel.DistributedDataParallel(net, device_ids=[rank])
        return net, Zero(net.parameters(), braze.optim.Adam, lr=0.02, shard_gradients=stage == 2)
    net, opt = start()
    losses = train(net, opt, x, y, 2)
    kept = [v for own in opt.optim.state.values() for v in own.values()
            if isinstance(v, braze.Tensor) and v.dim()]
    assert all(v.device.type == "cuda" for v in kept)
    counts = [None, None]
    dist.all_gather_object(counts, sum(v.numel() for v in kept))
    assert sum(counts) == 2 * sum(p.numel() for p in net.parameters()) and min(counts) > 0
    state = {{"model": net.state_dict(), "optim": opt.shard_state_dict()}}
    checkpoint.save(state, checkpoint_id="{tmp_path}/c")
    net, opt = start()
    with braze.no_grad():
        [p.zero_() for p in net.parameters()]
    state = {{"model": net.state_dict(), "optim": {{}}}}
    checkpoint.load(state, checkpoint_id="{tmp_path}/c")
    opt.load_state_dict(state["optim"])
    losses += train(net, opt, x, y, 2)
    for loss in losses:
        dist.all_reduce(loss, dist.ReduceOp.AVG)
    near(losses, wanted)
    near(net.parameters(), alone.parameters())
say("fine")
""",
        tmp_path,
        BRAZE_EMULATED_LAZY="2",
    )
    assert [outcome.lines(r) for r in (0, 1)] == [["fine"]] * 2


def test_tensor_parallel_layers(tmp_path):
    outcome = run_ranks_on_gpus(
        TRAIN
        + f"""
from braze.distributed.checkpoint import Shard
from braze.distributed.tensor.parallel import *

def model(many):
    braze.manual_seed(5)
    if many:
        return nn.Sequential(
            VocabParallelEmbedding(8, 4), ColumnParallelLinear(4, 6, gather_output=False),
            nn.Tanh(), RowParallelLinear(6, 4, input_is_parallel=True), nn.Tanh(),
            ColumnParallelLinear(4, 4))
    return nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4),
                         nn.Tanh(), nn.Linear(4, 4))

words = braze.tensor([0, 3, 7, 6, 3, 5])
target = braze.tensor([0, 1, 2, 2, 1, 0])
alone = model(False)
optimizer = braze.optim.Adam(alone.parameters(), lr=0.05)
wanted = [loss.item() for loss in train(alone, optimizer, words, target, 3)]
braze.config.tier = "compile"
net = model(True).to(GPU)
optimizer = braze.optim.Adam(net.parameters(), lr=0.05)
near(train(net, optimizer, words.to(GPU), target.to(GPU), 3), wanted)
state = {{f"{{i}}.{{n}}": v for i in (0, 1, 3, 5) for n, v in net[i].sharded_state_dict().items()}}
assert isinstance(state["1.weight"], Shard)
checkpoint.save(state, checkpoint_id="{tmp_path}/c")
one = model(False).to(GPU)
[p.detach().zero_() for p in one.parameters()]
whole = {{n: p.detach() for n, p in one.named_parameters()}}
checkpoint.load(whole, checkpoint_id="{tmp_path}/c")
near(one.parameters(), alone.parameters())
say("fine")
""",
        tmp_path,
        BRAZE_EMULATED_LAZY="2",
    )
    assert [outcome.lines(r) for r in (0, 1)] == [["fine"]] * 2
