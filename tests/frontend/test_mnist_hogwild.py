"""examples/mnist_hogwild: two processes train one network, and what happens if one is killed."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest
from left_over import descriptors, shared_files

import braze
import braze.multiprocessing as mp

PATH = Path(__file__).parents[2] / "examples" / "mnist_hogwild" / "main.py"
spec = importlib.util.spec_from_file_location("hogwild_example", PATH)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

SMALL = ["--digits", "2000", "--start-method", "fork", "--batch-size", "32", "--lr", "0.05"]


def shared():
    return descriptors(), shared_files()


def test_two_processes_train_one_network(capfd, tmp_path):
    before = shared()
    saved = str(tmp_path / "model.pt")
    reached = example.main([*SMALL, "--epochs", "2", "--save", saved])
    assert reached > 0.75
    printed = capfd.readouterr().out
    assert printed.count("epoch 2: loss") == 2 and "test accuracy" in printed
    assert shared() == before
    # Nothing is learnt at a rate of 0, so it is as good as what was read.
    same = [*SMALL, "--epochs", "1", "--resume", saved, "--lr", "0", "--num-processes", "1"]
    assert example.main(same) == pytest.approx(reached)


def test_a_killed_process_ends_the_training(monkeypatch):
    before = shared()
    train = example.train

    def killed(rank, args, model, dataset):
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        train(rank, args, model, dataset)

    monkeypatch.setattr(example, "train", killed)
    with pytest.raises(mp.ProcessExitedException, match="process 1 terminated with signal SIGKILL"):
        example.main([*SMALL, "--epochs", "1000"])
    braze.sync()
    assert shared() == before
