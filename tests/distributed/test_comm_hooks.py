"""What hooks make of buckets of gradients."""

import json

import pytest
from ranks import run_ranks
from ranks_training import TOGETHER, TRAINING, alone

import braze
from braze.futures import Future

pytestmark = pytest.mark.xdist_group("ranks")


def test_hooks(tmp_path):
    """All hooks in one program: training with each, and what they must not be."""
    outcome = run_ranks(
        TRAINING
        + TOGETHER
        + """
from braze.distributed.algorithms.ddp_comm_hooks import default_hooks as d, powerSGD_hook as power
DDP = nn.parallel.DistributedDataParallel

def train_with(hook, state=None, kind="sgd", steps=8, cap=0.0005):
    net = DDP(model(), bucket_cap_mb=cap)
    net.register_comm_hook(state, hook)
    opt = optimizer(kind, net)
    losses = train(net, opt, steps)
    assert same_everywhere(weights(net))
    return losses

seen = []
def own(state, bucket):
    assert state == "state" and not braze.is_grad_enabled()
    parts = bucket.gradients()
    assert [p.shape for p in parts] == [p.shape for p in bucket.parameters()]
    seen.append((bucket.index(), bucket.is_last(), len(parts)))
    return d.allreduce_hook(None, bucket)

found = {"all": train_with(d.allreduce_hook), "own": train_with(own, "state")}
braze.config.tier = "compile"
found["compiled"] = train_with(d.allreduce_hook)
braze.config.tier = "interpret"
number = max(i for i, _, _ in seen) + 1
wanted = [(i, i == number - 1) for i in range(number)]
assert number > 2 and [s[:2] for s in seen[:number]] == wanted
assert sum(s[2] for s in seen[:number]) == 6
for name in ("fp16", "bf16"):
    found[name] = train_with(getattr(d, name + "_compress_hook"))
    found[name + " wrapped"] = train_with(getattr(d, name + "_compress_wrapper")(d.allreduce_hook))
found["power"] = train_with(power.powerSGD_hook, power.PowerSGDState(None, 1, 2))
# With as many columns as the matrices have, nothing is lost.
full = power.PowerSGDState(None, 64, 2, min_compression_rate=1)
power._is_worth_it = lambda gradient, rank, state: gradient.ndim > 1
found["full"] = train_with(power.powerSGD_hook, full)
say(json.dumps(found))

net = DDP(model())
for wrong, error, text in ((3, TypeError, "must be callable"),):
    try:
        net.register_comm_hook(None, wrong)
    except error as found:
        assert text in str(found)
    else:
        raise AssertionError
net.register_comm_hook(None, lambda state, bucket: bucket.buffer()[:3])
try:
    net.register_comm_hook(None, d.allreduce_hook)
except RuntimeError as error:
    assert "can only be called once" in str(error)
else:
    raise AssertionError
try:
    net(next(batches(1))[0]).sum().backward()
except RuntimeError as error:
    assert "must give a tensor of type f32[" in str(error) and "given f32[3]" in str(error)
else:
    raise AssertionError
for wrong in (dict(matrix_approximation_rank=0), dict(start_powerSGD_iter=1)):
    try:
        power.PowerSGDState(None, **wrong)
    except ValueError:
        pass
    else:
        raise AssertionError
""",
        tmp_path,
    )
    wanted = alone("sgd", 8)
    for rank in range(4):
        found = json.loads(outcome.lines(rank)[0])
        for name in ("all", "own", "compiled"):
            assert found[name] == pytest.approx(wanted, rel=1e-5), name
        assert found["full"] == pytest.approx(wanted, rel=1e-3)
        for name, limit in (("fp16", 2e-3), ("bf16", 2e-2)):
            for own in (name, name + " wrapped"):
                assert found[own] == pytest.approx(wanted, rel=limit) and found[own] != found["all"]
        assert found["power"][:2] == pytest.approx(wanted[:2], rel=1e-5)
        assert found["power"][-1] < 0.95 * wanted[0]


def test_powersgd_with_parameters_that_come_and_go(tmp_path):
    outcome = run_ranks(
        """
from braze import nn
from braze.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as power

class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.both = (nn.Linear(32, 32) for _ in range(3))

    def forward(self, x, first):
        return self.both((self.first if first else self.second)(x)).square().mean()

braze.manual_seed(0)
net = nn.parallel.DistributedDataParallel(Branches(), find_unused_parameters=True)
state = power.PowerSGDState(None, matrix_approximation_rank=2, start_powerSGD_iter=2)
net.register_comm_hook(state, power.powerSGD_hook)
optimizer = braze.optim.SGD(net.parameters(), lr=0.5)
losses = []
for step in range(12):
    optimizer.zero_grad()
    loss = net(braze.randn(8, 32), first=step % 3 > 0)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert state.iter == 12, state.iter
assert losses[-1] < losses[1], losses
everyone = [None] * size
dist.all_gather_object(everyone, [p.detach().numpy().tobytes() for p in net.parameters()])
assert all(weights == everyone[0] for weights in everyone)
say("fine")
""",
        tmp_path,
        ranks=2,
    )
    assert [outcome.lines(rank) for rank in range(2)] == [["fine"], ["fine"]], outcome


def test_futures():
    future = Future()
    with pytest.raises(RuntimeError, match="nobody has set a result"):
        future.wait()
    twice = future.then(lambda f: 2 * f.value())
    assert not twice.done()
    future.set_result(braze.tensor(3.0))
    assert twice.wait().item() == 6 and twice.done()
    with pytest.raises(RuntimeError, match="only be marked completed once"):
        future.set_result(1)
    failed = Future()
    failed.set_exception(KeyError("x"))
    with pytest.raises(KeyError):
        failed.then(lambda f: f.value()).wait()
    with pytest.raises(ZeroDivisionError):
        Future(lambda: 1 // 0).wait()
