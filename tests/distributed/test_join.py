"""Ranks with different numbers of batches."""

import pytest
from ranks import run_ranks

pytestmark = pytest.mark.xdist_group("ranks")

# A line through the origin, whose gradient is what it is given: its steps can be added up.
SLOPE = """
from braze import nn
from braze.distributed.algorithms import Join, Joinable, JoinHook
from braze.distributed.optim import ZeroRedundancyOptimizer
DDP = nn.parallel.DistributedDataParallel

class Slope(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(braze.ones(2))
        self.unused = nn.Parameter(braze.ones(2))
        self.register_buffer("seen", braze.zeros(1))

    def forward(self, x):
        self.seen += x
        return (self.w * x).sum()

def slope(**settings):
    net = Slope()
    net.unused.requires_grad_(False)
    return DDP(net, **settings)

def same(values):
    everybody = [None] * size
    dist.all_gather_object(everybody, values)
    return all(value == everybody[0] for value in everybody)

def close(a, b):
    return np.allclose(a.detach().numpy() if isinstance(a, braze.Tensor) else a, b, rtol=1e-5)

# Rank r has 2 * r batches: the gradient of the i-th is r + i.
COUNTS = [0, 2, 4, 6]

def expected(by_all):
    w = 1.0
    for i in range(6):
        active = [r for r in range(4) if i < COUNTS[r]]
        w -= 0.1 * sum(r + i for r in active) / (4 if by_all else len(active))
    return w
"""


def test_gradients_count_as_zeros_on_ranks_without_batches(tmp_path):
    """By all ranks' number and by those that are there, with buffers, hooks, unused parameters,
    accumulation and a shared optimizer."""
    outcome = run_ranks(
        SLOPE
        + """
from braze.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

def train(net, block, opt, halves=1):
    with block:
        for i in range(COUNTS[rank]):
            opt.zero_grad()
            for part in range(halves):
                net.require_backward_grad_sync = part + 1 == halves
                net(braze.tensor(float(rank + i)) / halves).backward()
            opt.step()

for by_all in (True, False):
    for settings in ({}, {"find_unused_parameters": True}, {"forward_sync_buffers": False}):
        net = slope(**settings)
        opt = braze.optim.SGD(net.parameters(), lr=0.1)
        train(net, net.join(divide_by_initial_world_size=by_all), opt)
        assert close(net.module.w, expected(by_all)), (by_all, settings, net.module.w)
        # Each pass adds to the buffer of the last rank, which is there all the time.
        seen = [float(sum(r + i for i in range(COUNTS[r]))) for r in range(4)]
        shared = settings.get("forward_sync_buffers", True)
        assert net.module.seen.item() == (seen[3] if shared else seen[rank]), net.module.seen
        assert net._reducer.active is None

net = slope()
opt = braze.optim.SGD(net.parameters(), lr=0.1)
train(net, net.join(), opt, halves=2)
assert close(net.module.w, expected(True)) and same(net.module.seen.item())

net = slope()
net.register_comm_hook(None, allreduce_hook)
opt = braze.optim.SGD(net.parameters(), lr=0.1)
train(net, net.join(), opt)
assert close(net.module.w, expected(True))

# Afterwards, and in a block that does nothing, it is as before.
net(braze.tensor(1.0 + rank)).backward()
with net.join(enable=False):
    opt.zero_grad()
    net(braze.tensor(1.0 + rank)).backward()
    assert close(net.module.w.grad, 2.5)

# Parameters that only some ranks use, of which none has the most batches.
class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(braze.ones(1)), nn.Parameter(braze.ones(1))

    def forward(self, x):
        return ((self.a if rank == 2 else self.b) * x).sum()

net = DDP(Branches(), find_unused_parameters=True)
opt = braze.optim.SGD(net.parameters(), lr=0.1)
with net.join():
    for i in range(COUNTS[rank]):
        opt.zero_grad()
        net(braze.ones(1)).backward()
        opt.step()
assert close(net.module.a, 1 - 4 * 0.1 / 4) and close(net.module.b, 1 - 8 * 0.1 / 4), net.module.a

# The optimizer's parts are on all ranks, also on those without batches.
for kind, wanted in ((braze.optim.SGD, expected(True)), (braze.optim.Adam, None)):
    whole = slope()
    opt = kind(whole.parameters(), lr=0.1)
    train(whole, whole.join(), opt)
    net = slope()
    opt = ZeroRedundancyOptimizer(net.parameters(), kind, lr=0.1)
    train(net, Join([net, opt]), opt)
    assert same(net.module.w.tolist())
    assert close(net.module.w, whole.module.w.detach().numpy()), (net.module.w, whole.module.w)
    if wanted is not None:
        assert close(net.module.w, wanted)

plain = Slope()
plain.unused.requires_grad_(False)
opt = ZeroRedundancyOptimizer(plain.parameters(), braze.optim.SGD, lr=0.1, shard_gradients=True)
with Join([opt]):
    for i in range(COUNTS[rank]):
        plain(braze.tensor(float(rank + i))).backward()
        opt.step()
        opt.zero_grad()
assert close(plain.w, expected(True)) and same(plain.w.tolist()), plain.w
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4))


def test_blocks_of_ones_own_and_early_ends(tmp_path):
    outcome = run_ranks(
        SLOPE
        + """
class Counting(Joinable):
    def __init__(self, group=None):
        super().__init__()
        self.total, self.last, self.group = 0.0, None, group or dist.group.WORLD

    def count(self, value):
        work = Join.notify_join_context(self)
        value = braze.tensor(value)
        dist.all_reduce(value)
        self.total += value.item()
        return None if work is None else work.result()[0].item()

    def join_hook(self, factor):
        counting = self
        class Hook(JoinHook):
            def main_hook(self):
                value = braze.zeros(())
                dist.all_reduce(value)
                counting.total += factor * value.item()
            def post_hook(self, is_last_joiner):
                counting.last = is_last_joiner
        return Hook()

    join_device = property(lambda self: braze.device("cpu"))
    join_process_group = property(lambda self: self.group)

counting = Counting()
assert counting.count(1.0) is None and counting.total == size  # outside of a block
there = []
with Join([counting], factor=10.0):
    for i in range(COUNTS[rank]):
        there.append(counting.count(1.0))
assert there == [3.0, 3.0, 2.0, 2.0, 1.0, 1.0][: COUNTS[rank]]
own, all_of_them = sum(there), 12.0
assert counting.total == size + own + 10 * (all_of_them - own)
assert counting.last == (rank == 3)

raises(ValueError, "requires at least one joinable", lambda: Join([]))
other = Counting(dist.new_group([0, 1, 2, 3]))
raises(ValueError, "multiple process groups", lambda: Join([counting, other], factor=1.0))
raises(TypeError, "abstract", lambda: Joinable())

net = slope()
opt = braze.optim.SGD(net.parameters(), lr=0.1)
done = 0

def uneven():
    global done
    with net.join(throw_on_early_termination=True):
        for i in range(2 + rank % 2):
            opt.zero_grad()
            net(braze.tensor(1.0)).backward()
            opt.step()
            done += 1

if rank % 2:
    raises(RuntimeError, "Detected at least one rank that exhausted inputs.", uneven)
else:
    raises(RuntimeError, f"Rank {rank} exhausted all inputs.", uneven)
assert done == 2 and same(net.module.w.tolist())

# An error inside is not held back, and even numbers of batches are no error.
def even(fault=None):
    with net.join(throw_on_early_termination=True):
        for i in range(2):
            net(braze.tensor(1.0)).backward()
        if fault:
            raise fault

even()
raises(KeyError, "fault", lambda: even(KeyError("fault")))
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4))
