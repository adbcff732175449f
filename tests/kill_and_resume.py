"""Kill a training run at random moments and resume it: the result must not differ in a bit.

    python tests/kill_and_resume.py --count 100

A small training (shuffled batches, dropout, Adam and a schedule) runs in a process of its own,
which is killed with SIGKILL after a random time, or while it writes a checkpoint, and started again
until it is done. Its parameters and optimizer state are compared with those of a run that nobody
interrupted. Prints a line for each run; the exit status is 1 if one differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EPOCHS, EXAMPLES, FEATURES, BATCH = 4, 96, 6, 8
KINDS = ("replayed", "resumable")


def train(kind: str, folder: Path, die: str | None = None) -> None:
    """The training, in the process that is killed; leaves its result in the folder.

    Args:
        die: where the process kills itself: "update:7", "write:2" (in the midst of the second
            checkpoint) or "rename:2" (when that has its name).
    """
    import braze
    from braze import nn, optim
    from braze.utils.data import DataLoader, TensorDataset
    from braze.utils.trainer import Checkpoints, LossMonitor, ResumableSampler, Trainer

    braze.manual_seed(7)
    inputs = braze.randn(EXAMPLES, FEATURES)
    data = TensorDataset(inputs, inputs.sin().sum(1, keepdim=True))
    if kind == "resumable":
        loader = DataLoader(data, BATCH, sampler=ResumableSampler(data))
    else:
        loader = DataLoader(data, BATCH, shuffle=True)
    model = nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1)
    )
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    checkpoints = Checkpoints(folder / "checkpoints", every=5, keep=2)
    trainer = Trainer(
        model, nn.MSELoss(), optimizer, loader, scheduler=scheduler, checkpoints=checkpoints
    )
    trainer.register_plugin(LossMonitor())
    if die is not None:
        die_at(*die.split(":"), trainer)
    print("ready", flush=True)
    trainer.run(EPOCHS, resume=True)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    state["stats"] = trainer.stats["loss"]
    braze.save([state, scheduler.state_dict(), trainer.iterations], folder / "result.pt")


def die_at(point: str, count: str, trainer) -> None:
    """Have this process killed at a point, when that is reached for the `count`-th time."""
    left = int(count)

    def reached() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    fsync, replace = os.fsync, os.replace

    def watched_fsync(file) -> None:
        if "/.checkpoint-" in os.readlink(f"/proc/self/fd/{file}"):
            reached()
        fsync(file)

    def watched_replace(old, new) -> None:
        replace(old, new)
        if "/checkpoint-" in str(new):
            reached()

    if point == "update":
        trainer.on("update", lambda *_: reached())
    elif point == "write":
        os.fsync = watched_fsync
    else:
        os.replace = watched_replace


def start(kind: str, folder: Path, die: str | None = None) -> subprocess.Popen:
    command = [sys.executable, __file__, "--train", kind, "--folder", str(folder)]
    if die is not None:
        command += ["--die", die]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen) -> float:
    """Wait until it is done; returns the seconds from when it was ready, or was known to be."""
    process.stdout.readline()
    began = time.monotonic()
    _, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the training failed: {errors.decode()}")
    return time.monotonic() - began


def numbers(value) -> list:
    """A result as things whose equality is that of all bits."""
    if isinstance(value, dict):
        return [(key, numbers(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [numbers(item) for item in value]
    if hasattr(value, "numpy"):
        array = value.numpy()
        return [str(array.dtype), array.shape, array.tobytes()]
    return value.hex() if isinstance(value, float) else value


def result(folder: Path) -> list:
    import braze

    return numbers(braze.load(folder / "result.pt"))


def wait_to_kill(
    process: subprocess.Popen, folder: Path, seconds: float, source: random.Random
) -> None:
    """Wait for a random part of the training (one in eight times, of the start) and then, every
    other time, until a checkpoint is being written."""
    if source.random() < 1 / 8:
        time.sleep(source.uniform(0, 1))
        return
    process.stdout.readline()
    limit = time.monotonic() + source.uniform(0, 1) * seconds
    while process.poll() is None and time.monotonic() < limit:
        time.sleep(0.001)
    if source.random() < 0.5:
        before = set(folder.glob("checkpoints/.checkpoint-*"))
        while process.poll() is None:
            if set(folder.glob("checkpoints/.checkpoint-*")) - before:
                return


class Kills:
    """How many there were: in all, with a checkpoint to go on from, and while one was written."""

    def __init__(self) -> None:
        self.all = self.resumed = self.writing = 0
        self._unfinished: set[Path] = set()

    def note(self, folder: Path) -> None:
        unfinished = set(folder.glob("checkpoints/.checkpoint-*"))
        self.all += 1
        self.resumed += bool(list(folder.glob("checkpoints/checkpoint-*.pt")))
        self.writing += bool(unfinished - self._unfinished)
        self._unfinished = unfinished


def interrupted(
    kind: str, folder: Path, seconds: float, source: random.Random, most: int, kills: Kills
) -> None:
    """Run to the end with at most so many kills."""
    for _ in range(most):
        process = start(kind, folder)
        wait_to_kill(process, folder, seconds, source)
        if process.poll() is not None:
            finish(process)
            return
        process.kill()
        process.communicate()
        kills.note(folder)
    finish(start(kind, folder))


def check(count: int, seed: int, work: Path) -> int:
    """Kill `count` times; returns how many runs differed."""
    os.environ["BRAZE_CACHE_DIR"] = str(work / "cache")
    source = random.Random(seed)
    whole, seconds = {}, {}
    for kind in KINDS:
        folder = work / kind
        finish(start(kind, folder))
        whole[kind] = result(folder)
        # Again, with all graphs compiled: how long the training itself takes.
        seconds[kind] = finish(start(kind, work / f"{kind}-again"))
        assert result(work / f"{kind}-again") == whole[kind], "two whole runs differ"
    kills, runs, wrong = Kills(), 0, 0
    while kills.all < count:
        kind = KINDS[runs % len(KINDS)]
        folder = work / f"run-{runs}"
        before = kills.all
        interrupted(kind, folder, seconds[kind], source, min(count - before, 12), kills)
        same = result(folder) == whole[kind]
        runs, wrong = runs + 1, wrong + (not same)
        verdict = "the same bits" if same else "DIFFERS"
        print(f"run {runs} ({kind}): {kills.all - before} kills, {verdict}", flush=True)
    print(
        f"{kills.all} kills in {runs} runs ({kills.resumed} with a checkpoint to go on from, "
        f"{kills.writing} while one was written): {wrong} results differ"
    )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="kills in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--train", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--die", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train, arguments.folder, arguments.die)
        return 0
    with tempfile.TemporaryDirectory() as work:
        return int(check(arguments.count, arguments.seed, Path(work)) > 0)


if __name__ == "__main__":
    sys.exit(main())
