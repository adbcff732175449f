"""A training on several ranks that goes on from its last checkpoint.

    mpiexec -n 4 python resumable_training.py FOLDER STEPS [SECONDS]

Each rank writes to TEST_SAID.rank its process and the shared memory that it has mapped, the loss of
each step, and the error that ends it: a launcher that cannot be reached could not pass it on. Rank
0 writes FOLDER/checkpoint.pt every ten steps. TEST_TIMEOUT is the process group's timeout; SECONDS
is slept in each step.
"""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import braze
import braze.nn.functional as F
from braze import distributed as dist
from braze import nn

EVERY = 10


def say(*words):
    with open(f"{os.environ['TEST_SAID']}.{dist.get_rank()}", "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def mapped():
    """Names of the shared memory that this process has mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split("/dev/shm/")[1] for line in lines if "/dev/shm/" in line}


def train(folder, steps, seconds):
    braze.manual_seed(1)
    net = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 8))
    model = nn.parallel.DistributedDataParallel(net, bucket_cap_mb=0.005)
    optimizer = braze.optim.Adam(net.parameters(), lr=0.01)
    saved, first = folder / "checkpoint.pt", 0
    if saved.exists():
        checkpoint = braze.load(saved)
        net.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        first = checkpoint["steps"]
    dist.barrier()  # nobody writes before all have read
    say("process", os.getpid(), *mapped())
    rank, size = dist.get_rank(), dist.get_world_size()
    for step in range(first, steps):
        generator = braze.Generator().manual_seed(1000 + step)
        x = braze.randn(8 * size, 32, generator=generator)[8 * rank : 8 * rank + 8]
        y = (x.sum(1) > 0).long()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        loss = loss.detach()
        dist.all_reduce(loss, dist.ReduceOp.AVG)
        say("step", step, loss.item())
        if rank == 0 and (step + 1) % EVERY == 0:
            state = {"model": net.state_dict(), "optimizer": optimizer.state_dict()}
            braze.save({**state, "steps": step + 1}, saved)
        time.sleep(seconds)


def main():
    timeout = timedelta(seconds=float(os.environ["TEST_TIMEOUT"]))
    dist.init_process_group("mpi", timeout=timeout)
    folder, steps, *rest = sys.argv[1:]
    try:
        train(Path(folder), int(steps), float(rest[0]) if rest else 0)
    except dist.DistBackendError as error:
        say("error", str(error).replace("\n", " "))
        raise


if __name__ == "__main__":
    main()
