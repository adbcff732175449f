"""A small training: what one process computes of it, and the parts of programs of ranks."""

from __future__ import annotations

import json
import subprocess
import sys

# The model, its data, and one process's or one rank's part of the training.
TRAINING = """
import json
import braze
from braze import nn
import braze.nn.functional as F

def model():
    braze.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 5),
    )

def batches(steps):
    generator = braze.Generator().manual_seed(5)
    x = braze.randn(16, 1, 8, 8, generator=generator)
    y = (x.mean((1, 2, 3)) * 40).long().clamp(-2, 2) + 2
    for step in range(steps):
        yield x * (1 + step / 8), y

def optimizer(kind, net):
    if kind == "sgd":
        return braze.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    return braze.optim.Adam(net.parameters(), lr=0.01)
"""

# Ranks of four pictures each, and what they have in common; behind `TRAINING`.
TOGETHER = """
def train(net, opt, steps):
    losses = []
    for x, y in batches(steps):
        opt.zero_grad()
        loss = F.cross_entropy(net(x[4 * rank : 4 * rank + 4]), y[4 * rank : 4 * rank + 4])
        loss.backward()
        opt.step()
        total = loss.detach()
        dist.all_reduce(total, dist.ReduceOp.AVG)
        losses.append(total.item())
    return losses

def weights(net):
    return [p.detach().numpy().tobytes() for p in net.parameters()]

def same_everywhere(value):
    everybody = [None] * size
    dist.all_gather_object(everybody, value)
    return all(v == everybody[0] for v in everybody)
"""


def alone(kind, steps):
    program = (
        TRAINING
        + f"""
net = model()
opt = optimizer({kind!r}, net)
losses = []
for x, y in batches({steps}):
    opt.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
    losses.append(loss.item())
print(json.dumps(losses))
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    return json.loads(done.stdout)
