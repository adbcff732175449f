"""A training on several ranks that goes on from its last checkpoint.

    mpiexec -n 4 python resumable_training.py FOLDER STEPS [SECONDS [sharded]]

Each rank writes to TEST_SAID.rank its process and the shared memory that it has mapped, before it
joins the others ("started") and once it trains ("process"), the loss of each step, and the error
that ends it: a launcher that cannot be reached could not pass it on. Rank 0 writes
FOLDER/checkpoint.pt every ten steps. TEST_TIMEOUT is the process group's timeout; SECONDS is slept
in each step. A sharded training has larger layers, so that ranks add up in memory that they share,
each has a part of the optimizer's state, and all together write FOLDER/checkpoint.
"""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import braze
import braze.nn.functional as F
from braze import distributed as dist
from braze import engine, nn
from braze.distributed import checkpoint
from braze.distributed.optim import ZeroRedundancyOptimizer

EVERY = 10


def say(*words):
    rank = engine.distributed().library().COMM_WORLD.Get_rank()  # also if nobody has joined
    with open(f"{os.environ['TEST_SAID']}.{rank}", "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def mapped():
    """Names of the shared memory that this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split("/dev/shm/")[1] for line in lines if "/dev/shm/" in line}


class Whole:
    """A model, an optimizer whose state each rank has, and a checkpoint that rank 0 writes."""

    def __init__(self, folder):
        net = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 8))
        self.model = nn.parallel.DistributedDataParallel(net, bucket_cap_mb=0.005)
        self.optimizer = braze.optim.Adam(net.parameters(), lr=0.01)
        self.saved = folder / "checkpoint.pt"

    def load(self):
        if not self.saved.exists():
            return 0
        checkpoint = braze.load(self.saved)
        self.model.module.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        return checkpoint["steps"]

    def save(self, steps):
        if dist.get_rank() == 0:
            model, optimizer = self.model.module.state_dict(), self.optimizer.state_dict()
            braze.save({"model": model, "optimizer": optimizer, "steps": steps}, self.saved)


class Sharded:
    """The same, each with a part of the state, and of the checkpoint."""

    def __init__(self, folder):
        net = nn.Sequential(nn.Linear(32, 4096), nn.Tanh(), nn.Linear(4096, 8))
        self.model = nn.parallel.DistributedDataParallel(net, bucket_cap_mb=0.2)
        self.optimizer = ZeroRedundancyOptimizer(net.parameters(), braze.optim.Adam, lr=0.001)
        self.saved = folder / "checkpoint"

    def load(self):
        if not (self.saved / "manifest.json").exists():
            return 0
        state = {"model": self.model.module.state_dict(), "optimizer": {}, "steps": 0}
        checkpoint.load(state, checkpoint_id=self.saved)
        self.optimizer.load_state_dict(state["optimizer"])
        return state["steps"]

    def save(self, steps):
        model, optimizer = self.model.module.state_dict(), self.optimizer.shard_state_dict()
        state = {"model": model, "optimizer": optimizer, "steps": steps}
        checkpoint.save(state, checkpoint_id=self.saved)


def train(training, steps, seconds):
    first = training.load()
    dist.barrier()  # nobody writes before all have read
    say("process", os.getpid(), *mapped())
    rank, size = dist.get_rank(), dist.get_world_size()
    for step in range(first, steps):
        generator = braze.Generator().manual_seed(1000 + step)
        x = braze.randn(8 * size, 32, generator=generator)[8 * rank : 8 * rank + 8]
        y = (x.sum(1) > 0).long()
        training.optimizer.zero_grad()
        loss = F.cross_entropy(training.model(x), y)
        loss.backward()
        training.optimizer.step()
        loss = loss.detach()
        dist.all_reduce(loss, dist.ReduceOp.AVG)
        say("step", step, loss.item())
        if (step + 1) % EVERY == 0:
            training.save(step + 1)
        time.sleep(seconds)


def main():
    folder, steps, *rest = sys.argv[1:]
    say("started", os.getpid(), *mapped())
    try:
        timeout = timedelta(seconds=float(os.environ["TEST_TIMEOUT"]))
        dist.init_process_group("mpi", timeout=timeout)
        braze.manual_seed(1)
        kind = Sharded if "sharded" in rest else Whole
        train(kind(Path(folder)), int(steps), float(rest[0]) if rest else 0)
    except dist.DistBackendError as error:
        say("error", str(error).replace("\n", " "))
        raise


if __name__ == "__main__":
    main()
