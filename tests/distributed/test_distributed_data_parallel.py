"""Training on four ranks gives what one process computes from the whole batch."""

import json

import pytest
from ranks import run_ranks
from ranks_training import TRAINING, alone

import braze
from braze import nn
from braze.nn.parallel.reducer import buckets_of

pytestmark = pytest.mark.xdist_group("ranks")


def test_a_bucket_is_full_once_it_has_as_many_bytes_as_are_allowed():
    """As in PyTorch: the gradient that fills it is part of it, so none is left alone before a large
    one."""
    mib = 1 << 18  # elements of f32
    parameters = [nn.Parameter(braze.zeros(n)) for n in (9, 5 * mib, 3 * mib, 2 * mib, 1000)]
    assert buckets_of(parameters, [1 << 20, 4 << 20]) == [[4, 3], [2, 1], [0]]
    assert buckets_of(parameters, [1 << 20, 25 << 20]) == [[4, 3], [2, 1, 0]]
    assert buckets_of(parameters, [1000]) == [[4], [3], [2], [1], [0]]
    assert buckets_of(parameters, [1000, 2000, 6 << 20]) == [[4], [3], [2, 1], [0]]
    other = nn.Parameter(braze.zeros(9, dtype=braze.float64))
    assert buckets_of([*parameters[:1], other, parameters[0]], [4 << 20]) == [[2], [1], [0]]


def test_four_ranks_give_the_curve_of_one_process(tmp_path):
    """SGD, compiled, and Adam, interpreted; with small buckets, so that there are several; and by
    no_sync with each rank's part in two halves."""
    outcome = run_ranks(
        TRAINING
        + """
for kind in ("sgd", "adam"):
    braze.config.tier = "compile" if kind == "sgd" else "interpret"
    for halves in (1, 2):
        net = nn.parallel.DistributedDataParallel(model(), bucket_cap_mb=0.0005)
        assert len(net._reducer.buckets) > 2
        opt = optimizer(kind, net)
        losses = []
        for x, y in batches(8):
            x, y = x[4 * rank : 4 * rank + 4], y[4 * rank : 4 * rank + 4]
            opt.zero_grad()
            total = braze.zeros(())
            for part in range(halves):
                rows = slice(part * 4 // halves, (part + 1) * 4 // halves)
                def back():
                    loss = F.cross_entropy(net(x[rows]), y[rows]) / halves
                    loss.backward()
                    return loss.detach()
                if part + 1 < halves:
                    with net.no_sync():
                        total += back()
                else:
                    total += back()
            opt.step()
            dist.all_reduce(total, dist.ReduceOp.AVG)
            losses.append(total.item())
        weights = [p.detach().sum().item() for p in net.parameters()]
        everybody = [None] * size
        dist.all_gather_object(everybody, weights)
        assert all(w == everybody[0] for w in everybody), everybody
        say(json.dumps(losses))
""",
        tmp_path,
        limit=150,
    )
    for rank in range(4):
        lines = [json.loads(line) for line in outcome.lines(rank)]
        for kind, (whole, halves) in zip(("sgd", "adam"), (lines[:2], lines[2:]), strict=True):
            wanted = alone(kind, 8)
            assert wanted[-1] < 0.9 * wanted[0]
            assert whole == pytest.approx(wanted, rel=1e-5)
            assert halves == pytest.approx(wanted, rel=1e-5)


def test_unused_parameters_and_buffers(tmp_path):
    outcome = run_ranks(
        """
from braze import nn
Wrapped = nn.parallel.DistributedDataParallel

class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.never = nn.Linear(2, 1), nn.Linear(2, 1), nn.Linear(2, 1)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x, left):
        return (self.left if left else self.right)(self.norm(x)).sum()

braze.manual_seed(rank)
net = Branches()
first = [p.detach().tolist() for p in net.parameters()]
wrapped = Wrapped(net, find_unused_parameters=True)
same = [None] * size
dist.all_gather_object(same, [p.detach().tolist() for p in net.parameters()])
assert all(w == same[0] for w in same) and (rank == 0) == (first == same[0])

for step in range(3):
    wrapped.zero_grad()
    x = braze.arange(8.0).reshape(4, 2) * (rank + 1)
    wrapped(x, left=rank == 0).backward()
    assert net.never.weight.grad is None
    # Only rank 0 takes the left branch: its bias has gradient 4 there and none elsewhere.
    assert net.left.bias.grad.tolist() == [1.0] and net.right.bias.grad.tolist() == [3.0]
    mean = net.norm.running_mean.tolist()
# Each forward pass begins with rank 0's statistics, and then goes its own way.
dist.all_gather_object(same, mean)
assert len(set(map(tuple, same))) == 4
wrapped.eval()
wrapped(x, left=True)
assert net.norm.running_mean.tolist() == mean
wrapped.train()
wrapped(x, left=True)
new = 0.9 * np.array(same[0]) + 0.1 * x.mean(0).numpy()
assert np.allclose(net.norm.running_mean.numpy(), new, rtol=1e-5), (new, same)

for to_none in (True, False, None):
    plain = Wrapped(Branches())
    optimizer = braze.optim.SGD(plain.parameters(), lr=0.1)
    if to_none is not None:
        optimizer.zero_grad(set_to_none=to_none)
    plain(x, left=True).backward()
    optimizer.step()
    if to_none is not None:
        optimizer.zero_grad(set_to_none=to_none)
    try:
        plain(x, left=True)
    except RuntimeError as error:
        assert "not used in producing loss: right.weight, right.bias, never.weight" in str(error)
    else:
        raise AssertionError(to_none)

plain = Wrapped(Branches())
plain(x, left=True)  # no backward pass of it
(plain(x, left=True) + plain(x, left=False) + plain.module.never(x).sum()).backward()
assert all(p.grad is not None for p in plain.parameters())

for settings in ({"find_unused_parameters": True}, {"static_graph": True}):
    wrapped = Wrapped(Branches(), **settings)
    for step in range(2):
        wrapped.zero_grad()
        with wrapped.no_sync():
            wrapped(x, left=rank > 0).backward()
        wrapped(x, left=False).backward()
        # Three of four ranks took the left branch, without a reduction of their own.
        assert wrapped.module.left.bias.grad.tolist() == [3.0], wrapped.module.left.bias.grad
        assert wrapped.module.never.weight.grad is None
        gradients = [None] * size
        dist.all_gather_object(gradients, wrapped.module.left.weight.grad.tolist())
        assert all(g == gradients[0] for g in gradients)

for wrong, text in ((nn.Linear(2, rank + 1), "rank 0 has weight: f32[1,2], rank 1 has weight"),
                    (nn.ReLU(), "doesn't have any parameter")):
    try:
        Wrapped(wrong)
    except RuntimeError as error:
        assert text in str(error), error
    else:
        raise AssertionError
sampler = braze.utils.data.DistributedSampler(range(10), shuffle=False)
assert list(sampler) == [rank, rank + 4, (rank + 8) % 10]
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4))


def test_a_rank_killed_in_training_leaves_the_others_parameters(tmp_path):
    """The others' weights are those of one moment, equal on all of them; nobody hangs."""
    outcome = run_ranks(
        TRAINING
        + """
net = nn.parallel.DistributedDataParallel(model())
opt = optimizer("sgd", net)
def weights():
    return [round(p.detach().double().sum().item(), 9) for p in net.parameters()]
done, error = 0, None
try:
    for x, y in batches(1000):
        before = weights()
        opt.zero_grad()
        F.cross_entropy(net(x[4 * rank : 4 * rank + 4]), y[4 * rank : 4 * rank + 4]).backward()
        if rank == 2 and done == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        opt.step()
        done += 1
except dist.DistBackendError as found:
    error = found
assert error is not None
say(json.dumps([done, before == weights(), weights(), str(error)]))
""",
        tmp_path,
        timeout=20,
        check=False,
    )
    found = [json.loads(outcome.lines(rank)[0]) for rank in (0, 1, 3)]
    for done, same, weights, error in found:
        assert same and (done, weights) == (found[0][0], found[0][2])
        assert "rank 2 (process" in error and done == 5
