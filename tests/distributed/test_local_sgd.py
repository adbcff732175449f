"""Hooks and averagers for ranks that do not average all gradients in each iteration."""

import json

import pytest
from ranks import run_ranks
from ranks_training import TOGETHER, TRAINING, alone

pytestmark = pytest.mark.xdist_group("ranks")


def test_hooks_and_averagers(tmp_path):
    outcome = run_ranks(
        TRAINING
        + TOGETHER
        + """
import warnings
from braze.distributed.algorithms import model_averaging
from braze.distributed.algorithms.ddp_comm_hooks import (
    DDPCommHookType as Kind, default_hooks, post_localSGD_hook as local, powerSGD_hook as power,
    quantization_hooks as quantized, register_ddp_comm_hook)
from braze.distributed.algorithms.model_averaging import utils
from braze.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from braze.distributed.algorithms.model_averaging.hierarchical_model_averager import (
    HierarchicalModelAverager)
from braze.distributed.optim import PostLocalSGDOptimizer
DDP = nn.parallel.DistributedDataParallel

def trained(hook, state=None, steps=8, wrap=lambda opt: opt, same=True):
    net = DDP(model(), bucket_cap_mb=0.0005)
    if isinstance(hook, Kind):
        register_ddp_comm_hook(hook, net, state)
    elif hook is not None:
        net.register_comm_hook(state, hook)
    opt = wrap(optimizer("sgd", net))
    losses = train(net, opt, steps)
    assert same_everywhere(weights(net)) == same
    return losses

found = {kind.name: trained(kind, steps=3) for kind in Kind if kind is not Kind.NOOP}
trained(Kind.NOOP, steps=2, same=False)
# With as many columns as the square has, nothing is lost.
def gradients(hook, state):
    braze.manual_seed(1)
    net = DDP(nn.Linear(4, 4))
    net.register_comm_hook(state, hook)
    for step in range(3):
        net.zero_grad()
        net(braze.arange(8.0).reshape(2, 4).sin() + rank * step).square().sum().backward()
    return [p.grad.numpy() for p in net.parameters()]

full = power.PowerSGDState(None, 64, 2)
exact = gradients(default_hooks.allreduce_hook, None)
for one, other in zip(gradients(power.batched_powerSGD_hook, full), exact, strict=True):
    assert np.allclose(one, other, rtol=1e-3, atol=1e-3), (one, other)
assert full.iter == 3 and [tuple(m.shape) for m in full.matrices.values()] == [(6, 6)]
batched = power.PowerSGDState(None, 2, 2)
found["batched"] = trained(power.batched_powerSGD_hook, batched)
say(json.dumps(found))
raises(TypeError, "expected a DDPCommHookType", lambda: register_ddp_comm_hook("x", None))

# A span of 0 and one that does not begin at 0.
class Bucket:
    def __init__(self, values):
        self.values = values
    def buffer(self):
        return self.values
for hook in (quantized.quantization_pertensor_hook, quantized.quantization_perchannel_hook):
    assert hook(None, Bucket(braze.zeros(5))).wait().tolist() == [0] * 5
    values = braze.arange(700.0) / 7 + 3 + rank
    got = hook(None, Bucket(values)).wait()
    assert (got - (braze.arange(700.0) / 7 + 4.5)).abs().max().item() < 0.25 and got.shape == (700,)

# All average at first, then two and two.
pairs, _ = dist.new_subgroups(2)
state = local.PostLocalSGDState(None, pairs, 3)
losses = trained(local.post_localSGD_hook, state, 3)
state = local.PostLocalSGDState(None, pairs, 3)
later = trained(local.post_localSGD_hook, state, 5, same=False)
assert losses == later[:3] and state.iter == 3
state = local.PostLocalSGDState(None, None, 2)  # the ranks of this host, which are all
assert np.allclose(trained(local.post_localSGD_hook, state, 3), found["ALLREDUCE"], rtol=1e-5)
assert state.subgroup.size() == 4

# What the averager makes of them. Of a step, only the average of parameters counts.
state = local.PostLocalSGDState(None, pairs, 2, post_local_gradient_allreduce=False)
averagers = []
def post_local(opt):
    averagers.append(PeriodicModelAverager(3, warmup_steps=2))
    return PostLocalSGDOptimizer(opt, averagers[-1])
losses = trained(local.post_localSGD_hook, state, 6, post_local)  # averaged in steps 2 and 5
assert losses[-1] < losses[0] and averagers[-1].step == 6
state = local.PostLocalSGDState(None, pairs, 2, post_local_gradient_allreduce=False)
trained(local.post_localSGD_hook, state, 5, post_local, same=False)

x = nn.Parameter(braze.full((2,), float(rank)))
y = nn.Parameter(braze.full((3,), 10.0 * rank, dtype=braze.float64))
z = nn.Parameter(braze.full((1,), float(rank)))  # without a gradient: it stays
opt = braze.optim.SGD([x, y, z], lr=0.0)
own = PostLocalSGDOptimizer(opt, PeriodicModelAverager(2, warmup_steps=1))
(x.sum() + y.sum()).backward()
own.step()
assert x.tolist() == [rank] * 2
own.step()
assert x.tolist() == [1.5] * 2 and y.tolist() == [15.0] * 3 and y.dtype is braze.float64
assert z.tolist() == [rank] and own.param_groups is opt.param_groups
saved = own.state_dict()
assert saved["step"] == 2 and "param_groups" in saved
again = PostLocalSGDOptimizer(opt, PeriodicModelAverager(2))
again.load_state_dict(saved)
assert again.averager.step == 2 and again.param_groups is opt.param_groups
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    again.load_state_dict({k: v for k, v in saved.items() if k != "step"})
    PeriodicModelAverager(1)
    HierarchicalModelAverager({1: 4})
assert [str(w.message)[:20] for w in seen] == [
    "Loaded state dict do", "When period is 1, no", "When the maximum per"]
assert again.averager.step == 0
again.zero_grad()
assert x.grad is None and repr(again) == repr(opt)
again.add_param_group({"params": [nn.Parameter(braze.ones(1))]})
assert len(again.param_groups) == 2

with braze.no_grad():
    x.fill_(rank)
x.grad = braze.zeros(2)
averager = HierarchicalModelAverager({2: 2, 4: 4}, warmup_steps=1)
seen = []
for _ in range(5):
    averager.average_parameters([x])
    seen.append(x[0].item())
    if len(seen) == 3:
        with braze.no_grad():
            x.fill_(rank)
assert seen == [rank, rank, [0.5, 0.5, 2.5, 2.5][rank], rank, 1.5], seen
utils.average_parameters([z], pairs)
assert z.item() == [0.5, 0.5, 2.5, 2.5][rank]
utils.average_parameters([z], dist.GroupMember.NON_GROUP_MEMBER)
raises(NotImplementedError, "is not supported", lambda: utils.get_params_to_average([3]))
raises(ValueError, "non-negative", lambda: PeriodicModelAverager(2, -1))
raises(ValueError, "positive value", lambda: PeriodicModelAverager(0))
for periods, text in ((None, "must not be empty"), ({0: 4}, "minimum period"),
                      ({2: 2}, "must be equal to the size"), ({4: 2, 2: 4}, "ascending order")):
    raises(ValueError, text, lambda: HierarchicalModelAverager(periods))
""",
        tmp_path,
    )
    wanted = alone("sgd", 8)
    for rank in range(4):
        found = json.loads(outcome.lines(rank)[0])
        for name, limit in (("ALLREDUCE", 1e-5), ("FP16_COMPRESS", 2e-3), ("BF16_COMPRESS", 2e-2),
                            ("QUANTIZE_PER_TENSOR", 2e-2), ("QUANTIZE_PER_CHANNEL", 2e-2),
                            ("POWER_SGD", 1e-5), ("BATCHED_POWER_SGD_RANK2", 1e-5)):  # fmt: skip
            assert found[name] == pytest.approx(wanted[: len(found[name])], rel=limit), name
        assert found["QUANTIZE_PER_TENSOR"] != found["ALLREDUCE"]
        assert found["batched"][:3] == pytest.approx(wanted[:3], rel=1e-5)
        assert found["batched"] != pytest.approx(wanted, rel=1e-3)
        assert found["batched"][-1] < 0.95 * wanted[0]
