"""What `DistributedDataParallel` does beside averaging, with a GPU on each rank."""

import pytest
from ranks_on_gpus import run_ranks_on_gpus

pytestmark = pytest.mark.xdist_group("ranks")


def test_unused_joined_sparse_and_mixed(tmp_path):
    outcome = run_ranks_on_gpus(
        """
from braze import nn
from braze.nn.parallel.distributed import _MixedPrecision
DDP = nn.parallel.DistributedDataParallel

class Choice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(braze.ones(2)), nn.Parameter(braze.ones(3))
        self.register_buffer("seen", braze.zeros(1))

    def forward(self, x, name="a"):
        self.seen += x
        return (getattr(self, name) * x).sum()

# Each bucket is used on one rank only.
net = DDP(Choice().to(GPU), device_ids=[rank], find_unused_parameters=True, bucket_cap_mb=1e-6)
net(braze.ones(1, device=GPU), "ab"[rank]).backward()
assert net.module.a.grad.tolist() == [0.5] * 2 and net.module.b.grad.tolist() == [0.5] * 3

for by_all, wanted in ((True, 1 - 0.5 - 1.5), (False, 1 - 0.5 - 3)):
    net = DDP(Choice().to(GPU), find_unused_parameters=True)
    optimizer = braze.optim.SGD(net.parameters(), lr=1.0)
    with net.join(divide_by_initial_world_size=by_all):
        for batch in ((1.0,), (0.0, 3.0))[rank]:
            optimizer.zero_grad()
            net(braze.full((1,), batch, device=GPU)).backward()
            optimizer.step()
    assert net.module.a.tolist() == [wanted] * 2 and net.module.seen.tolist() == [3.0]
    assert net.module.a.device == braze.device(GPU)

net = DDP(nn.Embedding(5, 2, sparse=True).to(GPU))
net(braze.arange(rank + 1, device=GPU)).sum().backward()
grad = net.module.weight.grad
assert grad.is_sparse and grad.device == braze.device(GPU)
assert grad.to_dense().cpu()[:, 0].tolist() == [1.0, 0.5, 0.0, 0.0, 0.0]

half = _MixedPrecision(braze.float16, braze.float32)
net = DDP(nn.Linear(3, 2).to(GPU), mixed_precision=half)
out = net(braze.full((4, 3), 1.0 + rank, device=GPU))
out.sum().backward()
assert out.dtype is braze.float16 and net.module.weight.grad.dtype is braze.float32
assert net.module.weight.grad.tolist() == [[6.0] * 3] * 2
say("fine")
""",
        tmp_path,
    )
    assert [outcome.lines(r) for r in (0, 1)] == [["fine"]] * 2
