"""SyncBatchNorm on several ranks is batch normalisation of their batches together."""

import pytest
from ranks import run_ranks

pytestmark = pytest.mark.xdist_group("ranks")


@pytest.mark.parametrize("tier", ["interpret", "compile"])
def test_training_is_that_of_the_whole_batch(tmp_path, tier):
    outcome = run_ranks(
        """
from braze import nn

braze.config.tier = TIER

def net():
    braze.manual_seed(0)
    first = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(64, 3))

def same(one, other, rtol=1e-4, atol=1e-6):
    one, other = (x.detach().numpy() for x in (one, other))
    np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)

# Uneven parts of one batch; the mean over ranks is weighted by their sizes.
rng = np.random.default_rng(0)
whole, target = rng.standard_normal((6, 2, 6, 6)).astype("f"), rng.integers(0, 3, 6)
part = slice(0, 2) if rank == 0 else slice(2, 6)
weight = len(range(6)[part]) * size / 6
plain, shared = net(), nn.SyncBatchNorm.convert_sync_batchnorm(net())
wrapped = nn.parallel.DistributedDataParallel(shared, broadcast_buffers=False)
for step in range(3):
    cases = (plain, whole, target, 1.0), (wrapped, whole[part], target[part], weight)
    for model, x, y, scale in cases:
        x = braze.from_numpy(x.copy()).requires_grad_()
        optimizer = braze.optim.SGD(model.parameters(), lr=0.1)
        optimizer.zero_grad()
        (nn.functional.cross_entropy(model(x), braze.from_numpy(y.copy())) * scale).backward()
        optimizer.step()
        if model is plain:
            wanted = x.grad[part]
        else:
            same(x.grad / size, wanted)
    for own, other in zip(shared.parameters(), plain.parameters(), strict=True):
        same(own, other)
    for own, other in zip(shared.buffers(), plain.buffers(), strict=True):
        same(own, other, rtol=1e-5)

# Evaluation needs nobody else.
if rank == 0:
    shared.eval(), plain.eval()
    x = braze.from_numpy(whole)
    same(shared(x), plain(x), atol=1e-5)
alone = dist.new_group([0]), dist.new_group([1])
own = nn.SyncBatchNorm(2, process_group=alone[rank])
batch = nn.BatchNorm2d(2)
x = braze.from_numpy(whole[part].copy())
same(own(x), batch(x), rtol=1e-5)
half = nn.SyncBatchNorm(2)(x.half())
assert half.dtype is braze.float16
say("fine")
""".replace("TIER", repr(tier)),
        tmp_path,
        ranks=2,
    )
    assert [outcome.lines(rank) for rank in range(2)] == [["fine"], ["fine"]], outcome
