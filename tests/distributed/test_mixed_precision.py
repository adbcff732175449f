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
