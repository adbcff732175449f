"""Training in 16 bits on four ranks: as one process does it, and all ranks alike."""

import json
import subprocess
import sys

import pytest
from ranks import run_ranks
from ranks_training import TOGETHER, TRAINING

pytestmark = pytest.mark.xdist_group("ranks")

# Of one process or of one rank; `mine` are its rows.
AUTOCAST = """
def amp_steps(net, opt, dtype, scaler, mine, steps=8):
    for x, y in batches(steps):
        opt.zero_grad()
        with braze.autocast("cpu", dtype=dtype):
            loss = F.cross_entropy(net(x[mine]), y[mine])
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
        yield loss.detach()

def scaler_for(dtype):
    return braze.amp.GradScaler("cpu", enabled=dtype is braze.float16, init_scale=1024.0)
"""


def test_autocast(tmp_path):
    """bf16; f16 with a scaler, interpreted and compiled; then one rank's gradients overflow."""
    program = TRAINING + AUTOCAST
    alone = """
found = {}
for dtype in (braze.bfloat16, braze.float16):
    net = model()
    opt = optimizer("sgd", net)
    scaler = scaler_for(dtype)
    steps = amp_steps(net, opt, dtype, scaler, slice(None))
    found[str(dtype)] = [loss.item() for loss in steps]
print(json.dumps(found))
"""
    outcome = run_ranks(
        program
        + TOGETHER
        + """
DDP = nn.parallel.DistributedDataParallel
mine = slice(4 * rank, 4 * rank + 4)
found = {}
for dtype in (braze.bfloat16, braze.float16):
    for tier in ("interpret", "compile")[: 1 + (dtype is braze.float16)]:
        braze.config.tier = tier
        net = DDP(model(), bucket_cap_mb=0.0005)
        opt = optimizer("sgd", net)
        losses = []
        for loss in amp_steps(net, opt, dtype, scaler_for(dtype), mine):
            dist.all_reduce(loss, dist.ReduceOp.AVG)
            losses.append(loss.item())
        assert all(p.grad.dtype is braze.float32 for p in net.parameters())
        assert same_everywhere(weights(net)), (dtype, tier)
        found[f"{dtype} {tier}"] = losses
braze.config.tier = "interpret"

# Rank 1's loss is beyond f16, once: nobody takes that step, and all have half the scale.
for conditional in (True, False):
    net = DDP(model())
    opt = optimizer("sgd", net)
    if not conditional:  # an optimizer that is called or not
        opt.register_step_pre_hook(lambda *_: None)
    scaler = scaler_for(braze.float16)
    for step, (x, y) in enumerate(batches(4)):
        before = weights(net)
        opt.zero_grad()
        with braze.autocast("cpu", dtype=braze.float16):
            loss = F.cross_entropy(net(x[mine]), y[mine])
        if step == 2 and rank == 1:
            loss = loss * 1e38
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
        assert (weights(net) == before) == (step == 2), (step, rank)
        assert scaler.get_scale() == (1024.0 if step < 2 else 512.0), scaler.get_scale()
        assert same_everywhere([weights(net), scaler.get_scale()])
say(json.dumps(found))
""",
        tmp_path,
    )
    done = subprocess.run(
        [sys.executable, "-c", program + alone], capture_output=True, text=True, check=True
    )
    wanted = json.loads(done.stdout)
    for rank in range(4):
        for name, losses in json.loads(outcome.lines(rank)[0]).items():
            dtype, _ = name.split()
            limit = 2e-2 if dtype == "braze.bfloat16" else 2e-3
            assert losses == pytest.approx(wanted[dtype], rel=limit), name
            assert losses[-1] < 0.9 * losses[0]


def test_dtypes_of_the_passes_and_of_the_reduction(tmp_path):
    outcome = run_ranks(
        TRAINING
        + TOGETHER
        + """
from braze.nn.parallel.distributed import _MixedPrecision
DDP = nn.parallel.DistributedDataParallel
f32, bf16, f16 = braze.float32, braze.bfloat16, braze.float16
mine = slice(4 * rank, 4 * rank + 4)
seen = []

def look(module, args, output):
    seen.append((args[0].dtype, module.weight.dtype, output.dtype))

def is_exact(gradient, dtype):
    return bool((gradient.to(dtype).float() == gradient).all())

found = {}
for name, how, passes, reduced in (
    ("bf16", _MixedPrecision(param_dtype=bf16), bf16, bf16),
    ("f16", _MixedPrecision(param_dtype=f16, reduce_dtype=f32), f16, f32),
    ("reduced", _MixedPrecision(reduce_dtype=bf16), f32, bf16),
):
    net = DDP(model(), mixed_precision=how, bucket_cap_mb=0.0005)
    net.module[0].register_forward_hook(look)
    opt = optimizer("sgd", net)
    losses = []
    for x, y in batches(8):
        opt.zero_grad()
        # Two passes are accumulated, in full precision.
        for rows, sync in ((slice(4 * rank, 4 * rank + 2), False),
                           (slice(4 * rank + 2, 4 * rank + 4), True)):
            net.require_backward_grad_sync = sync
            loss = F.cross_entropy(net(x[rows]), y[rows]) / 2
            loss.backward()
            assert all(p.grad.dtype is f32 for p in net.parameters())
        before = all(is_exact(p.grad, reduced) for p in net.parameters())
        opt.step()
        with braze.no_grad():
            found.setdefault(name, []).append(F.cross_entropy(net(x[mine]).float(), y[mine]))
    assert set(seen) == {(passes, passes, passes)}, seen
    seen.clear()
    assert before, name
    assert all(p.dtype is f32 for p in net.parameters())
    assert all(v.dtype is f32 for v in net.state_dict().values())
    assert same_everywhere(weights(net))
    for loss in found[name]:
        dist.all_reduce(loss, dist.ReduceOp.AVG)
    found[name] = [loss.item() for loss in found[name]]
assert not is_exact(net.module[0].weight.detach(), bf16)

# f16 sums of f32 gradients overflow; only what is of floating point is cast; weights may be tied.
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3, bias=False)
        self.b = nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x, index, *, more):
        assert self.a.weight is self.b.weight and self.a.weight.dtype is x.dtype is bf16
        assert index.dtype is braze.int64 and more["x"].dtype is bf16
        return self.norm(self.b(self.a(x)))[index] + more["x"]

net = DDP(Tied(), mixed_precision=_MixedPrecision(bf16, f16, bf16))
assert net.module.norm.running_mean.dtype is bf16
assert net.module.norm.num_batches_tracked.dtype is braze.int64
x = braze.randn(5, 3)
out = net(x, braze.tensor([1, 0]), more={"x": x[:2]})
(out.float() * 1e5).sum().backward()
assert out.dtype is bf16 and net.module.a.weight is net.module.b.weight
assert net.module.norm.bias.grad.tolist() == [float("inf")] * 3, net.module.norm.bias.grad

# A part that is computed again in the backward pass.
class Again(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.b(braze.utils.checkpoint.checkpoint(self.a, x, use_reentrant=False).tanh())

net = DDP(Again(), mixed_precision=_MixedPrecision(bf16, f16))
gradients = []
for tier in ("interpret", "compile"):
    braze.config.tier = tier
    net.zero_grad()
    net(braze.ones(2, 3) * (rank + 1)).sum().backward()
    gradients.append(braze.cat([p.grad.reshape(-1) for p in net.parameters()]).numpy())
    assert same_everywhere(gradients[-1].tobytes()) and gradients[-1].dtype == np.float32
assert np.allclose(*gradients, rtol=2e-2, atol=2e-2) and np.abs(gradients[0]).min() > 0
braze.config.tier = "interpret"

raises(RuntimeError, "can only be called once", lambda: net.register_comm_hook(None, print))
raises(TypeError, "reduce_dtype must be a floating-point dtype",
      lambda: _MixedPrecision(reduce_dtype=braze.int32))
raises(ValueError, "an embedding with sparse=True (weight)",
      lambda: DDP(nn.Embedding(3, 2, sparse=True), mixed_precision=_MixedPrecision(bf16)))
say(json.dumps(found))
""",
        tmp_path,
    )
    alone = """
net = model()
opt = optimizer("sgd", net)
losses = []
for x, y in batches(8):
    opt.zero_grad()
    F.cross_entropy(net(x), y).backward()
    opt.step()
    losses.append(F.cross_entropy(net(x), y).item())
print(json.dumps(losses))
"""
    done = subprocess.run(
        [sys.executable, "-c", TRAINING + alone], capture_output=True, text=True, check=True
    )
    wanted = json.loads(done.stdout)
    for rank in range(4):
        found = json.loads(outcome.lines(rank)[0])
        for name, limit in (("bf16", 2e-2), ("f16", 2e-3), ("reduced", 2e-2)):
            assert found[name] == pytest.approx(wanted, rel=limit), name
            assert found[name] != found["f16"] or name == "f16"
