"""Optimizers whose state, and gradients, are shared out among the ranks."""

import json

import pytest
from ranks import run_ranks
from ranks_training import TOGETHER, TRAINING, alone

pytestmark = pytest.mark.xdist_group("ranks")

SHARDED = (
    TRAINING
    + TOGETHER
    + """
from braze.distributed.optim import ZeroRedundancyOptimizer as Zero

def zero(kind, net, **how):
    if kind == "sgd":
        return Zero(net.parameters(), braze.optim.SGD, lr=0.05, momentum=0.9, **how)
    return Zero(net.parameters(), braze.optim.Adam, lr=0.01, **how)

def bytes_kept(net, opt):
    state = getattr(opt, "optim", opt).state.values()
    tensors = [v for entry in state for v in entry.values() if isinstance(v, braze.Tensor)]
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    count = lambda tensors: sum(t.numel() * t.element_size() for t in tensors)
    return count(tensors), count(gradients)
"""
)


def test_four_ranks_give_the_curve_of_one_process(tmp_path):
    outcome = run_ranks(
        SHARDED
        + """
for kind in ("sgd", "adam"):
    braze.config.tier = "compile" if kind == "adam" else "interpret"
    for stage in (1, 2):
        if stage == 1:
            net = nn.parallel.DistributedDataParallel(model())
            opt = zero(kind, net)
        else:
            net = model()
            if rank:
                with braze.no_grad():
                    [p.zero_() for p in net.parameters()]  # rank 0's count
            opt = zero(kind, net, shard_gradients=True)
        losses = train(net, opt, 8)
        assert same_everywhere(weights(net))
        say(json.dumps([kind, stage, losses, bytes_kept(net, opt)]))
""",
        tmp_path,
    )
    curves = {kind: alone(kind, 8) for kind in ("sgd", "adam")}
    values = 4 * (4 * 9 + 4 + 64 * 32 + 32 + 32 * 5 + 5)
    kept = {(kind, stage): [] for kind in curves for stage in (1, 2)}
    for rank in range(4):
        lines = [json.loads(line) for line in outcome.lines(rank)]
        assert len(lines) == 4
        for kind, stage, losses, (state, gradients) in lines:
            assert losses == pytest.approx(curves[kind], rel=1e-5)
            kept[kind, stage].append((state, gradients))
    for (kind, stage), all_ranks in kept.items():
        # Momentum, or two moments, once in all; gradients everywhere, or once in all.
        copies = 1 if kind == "sgd" else 2
        assert sum(state for state, _ in all_ranks) == copies * values
        assert sum(gradients for _, gradients in all_ranks) == (4 if stage == 1 else 1) * values


def test_groups_schedules_saving_and_refusals(tmp_path):
    outcome = run_ranks(
        SHARDED
        + """
import io
net = nn.parallel.DistributedDataParallel(model())
params = list(net.parameters())
opt = Zero([{"params": params[:3]}, {"params": params[3:5], "lr": 0.02}], braze.optim.Adam, lr=0.01)
opt.add_param_group({"params": params[5:], "lr": 0.03})
schedule = braze.optim.lr_scheduler.StepLR(opt, 1, gamma=0.5)
plain = model()
rest = list(plain.parameters())
ordinary = braze.optim.Adam([{"params": rest[:3]}, {"params": rest[3:5], "lr": 0.02},
                             {"params": rest[5:], "lr": 0.03}], lr=0.01)
other = braze.optim.lr_scheduler.StepLR(ordinary, 1, gamma=0.5)
wrapped = nn.parallel.DistributedDataParallel(plain)

def both(steps):
    a, b = train(net, opt, steps), train(wrapped, ordinary, steps)
    assert np.allclose(a, b, rtol=1e-6), (a, b)
    schedule.step(); other.step()
both(2)
both(2)
assert [g["lr"] for g in opt.param_groups] == [0.01 / 4, 0.02 / 4, 0.03 / 4]
try:
    opt.state_dict()
except RuntimeError as error:
    assert "consolidate_state_dict(to=...)" in str(error)
else:
    raise AssertionError
opt.consolidate_state_dict(to=1)
saved = [None]
if rank == 1:
    state, wanted = opt.state_dict(), ordinary.state_dict()
    assert state["param_groups"] == wanted["param_groups"]
    assert state["state"].keys() == wanted["state"].keys()
    for i, entry in wanted["state"].items():
        for name, value in entry.items():
            assert np.allclose(state["state"][i][name].numpy(), value.numpy(), rtol=1e-5), (i, name)
    file = io.BytesIO()
    braze.save([state, net.module.state_dict()], file)
    saved = [file.getvalue()]
dist.broadcast_object_list(saved, src=1)
state, weights_then = braze.load(io.BytesIO(saved[0]))

# Into a sharded optimizer of fewer ranks, and into one that is not sharded.
pair = dist.new_group([0, 1])
if rank < 2:
    after = model()
    after.load_state_dict(weights_then)
    new = Zero([{"params": p} for p in (list(after.parameters())[:3], list(after.parameters())[3:5],
               list(after.parameters())[5:])], braze.optim.Adam, process_group=pair, lr=1.0)
    new.load_state_dict(state)
    assert [g["lr"] for g in new.param_groups] == [0.01 / 4, 0.02 / 4, 0.03 / 4]
    single = model()
    single.load_state_dict(weights_then)
    p = list(single.parameters())
    lone = braze.optim.Adam([{"params": p[:3]}, {"params": p[3:5]}, {"params": p[5:]}], lr=1.0)
    lone.load_state_dict(state)
    for x, y in batches(3):
        for n, o in ((after, new), (single, lone)):
            o.zero_grad()
            F.cross_entropy(n(x), y).backward()
            o.step()
    for a, b in zip(after.parameters(), single.parameters()):
        assert np.allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-7)

for wrong, error in ((dict(overlap_with_ddp=True), NotImplementedError),
                     (dict(lr=-1.0), ValueError)):
    try:
        Zero(net.parameters(), braze.optim.SGD, **wrong)
    except error:
        pass
    else:
        raise AssertionError(wrong)
net = model()
opt = Zero(net.parameters(), braze.optim.SGD, lr=0.1, shard_gradients=True)
try:
    opt.step()
except RuntimeError as error:
    assert "every parameter needs a gradient" in str(error)
else:
    raise AssertionError
dist.barrier()
say("fine")
""",
        tmp_path,
    )
    assert all(outcome.lines(rank) == ["fine"] for rank in range(4))


def test_gradients_that_are_shared_out_are_clipped_and_scaled_together(tmp_path):
    outcome = run_ranks(
        SHARDED
        + """
def clipped(stage, norm_type):
    net = model()
    if stage == 2:
        opt = zero("sgd", net, shard_gradients=True)
    else:
        net = nn.parallel.DistributedDataParallel(net)
        plain = braze.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        opt = zero("sgd", net) if stage else plain
    norms = []
    for step in range(3):
        opt.zero_grad()
        braze.manual_seed(100 * step + rank)
        (net(braze.randn(2, 1, 8, 8)) ** 2).sum().backward()
        if stage:
            norms.append(float(opt.clip_grad_norm_(0.05, norm_type)))
        else:
            norms.append(float(nn.utils.clip_grad_norm_(net.parameters(), 0.05, norm_type)))
        opt.step()
    return norms, np.concatenate([p.detach().numpy().ravel() for p in net.parameters()])

for norm_type in (2.0, float("inf"), 1.0):
    wanted = clipped(0, norm_type)
    for stage in (1, 2):
        norms, found = clipped(stage, norm_type)
        assert np.allclose(norms, wanted[0], rtol=1e-4), (stage, norm_type, norms, wanted[0])
        assert np.allclose(found, wanted[1], rtol=1e-4, atol=1e-6)

# One rank's gradients overflow: no rank takes that step, and all scale by less from then on.
net = model()
opt = zero("adam", net, shard_gradients=True)
scaler = braze.amp.GradScaler("cpu", init_scale=4.0)
for step in range(3):
    opt.zero_grad()
    x = braze.ones(2, 1, 8, 8) * (rank + 1)
    if step == 1 and rank == 1:
        x = x * float("inf")
    before = weights(net)
    scaler.scale((net(x) ** 2).sum()).backward()
    scaler.step(opt)
    scaler.update()
    assert (before == weights(net)) == (step == 1), step
    assert scaler.get_scale() == (4.0 if step == 0 else 2.0)
assert same_everywhere(weights(net))
say("fine")
""",
        tmp_path,
        ranks=2,
    )
    assert [outcome.lines(rank) for rank in range(2)] == [["fine"], ["fine"]], outcome
