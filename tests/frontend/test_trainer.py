"""`braze.utils.trainer`: plugins, logs, and runs that go on where they were interrupted."""

import io
import pickle
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import braze
from braze import nn, optim
from braze.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset
from braze.utils.data.resumable import ResumableSampler
from braze.utils.trainer import Checkpoints, Trainer, plugins

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import kill_and_resume

pytestmark = pytest.mark.usefixtures("interpret")


def made(loader=None, checkpoints=None, schedule="epoch", **named):
    """A small training, the same each time."""
    braze.manual_seed(3)
    inputs = braze.randn(12, 4)
    if loader is None:
        loader = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), 4, shuffle=True)
    elif loader == "resumable":
        data = TensorDataset(inputs, inputs.sum(1, keepdim=True))
        loader = DataLoader(data, 5, sampler=ResumableSampler(data))
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1, 0.7)
    return Trainer(
        model,
        nn.MSELoss(),
        optimizer,
        loader,
        scheduler=scheduler,
        schedule=schedule,
        checkpoints=checkpoints,
        **named,
    )


def bits(trainer):
    return [p.detach().numpy().tobytes() for p in trainer.model.parameters()]


class Interrupt(Exception):
    pass


def stop_at(trainer, iteration):
    @trainer.on("update")
    def stop(time, model):
        if time == iteration:
            raise Interrupt


class Recorder(plugins.Plugin):
    def __init__(self, interval):
        super().__init__(interval)
        self.seen = []

    def register(self, trainer):
        self.trainer = trainer

    def batch(self, time, input, target):
        self.seen.append(("batch", time, tuple(input.shape)))

    def iteration(self, time, input, target, output, loss):
        self.seen.append(("iteration", time, tuple(output.shape), loss.requires_grad))

    def update(self, time, model):
        self.seen.append(("update", time, model is self.trainer.model))

    def epoch(self, time):
        self.seen.append(("epoch", time))


def test_plugins_are_called_at_their_intervals():
    trainer = made()
    every = Recorder([(1, "batch"), (2, "iteration"), (3, "update"), (1, "epoch")])
    trainer.register_plugin(every)
    trainer.run(2)
    assert [s[:2] for s in every.seen if s[0] == "batch"] == [("batch", i) for i in range(1, 7)]
    assert [s for s in every.seen if s[0] == "iteration"] == [
        ("iteration", i, (4, 1), False) for i in (2, 4, 6)
    ]
    assert [s for s in every.seen if s[0] == "update"] == [("update", i, True) for i in (3, 6)]
    assert [s for s in every.seen if s[0] == "epoch"] == [("epoch", 1), ("epoch", 2)]
    assert every.seen[0] == ("batch", 1, (4, 4)) and every.seen[-1] == ("epoch", 2)
    trainer.run(1)  # another run counts its epochs anew, as PyTorch's did
    assert every.seen[-1] == ("epoch", 1) and trainer.iterations == 9
    with pytest.raises(ValueError, match="no event 'never'"):
        trainer.on("never", print)
    with pytest.raises(ValueError, match="schedule"):
        made(schedule="daily")


def test_an_interval_may_be_a_single_one():
    trainer = made()
    single = Recorder([])
    single.trigger_interval = (2, "iteration")
    trainer.register_plugin(single)
    trainer.run(1)
    assert [s[:2] for s in single.seen] == [("iteration", 2)]


def test_progress_can_be_shown_before_the_first_batch_is_used():
    trainer = made()
    trainer.register_plugin(plugins.ProgressMonitor())
    stats = trainer.stats["progress"]
    assert stats["log_iter_fields"][0].format(**stats) == "0/3 (0.00%)"


def test_monitors_keep_what_the_log_shows(capsys):
    data = [(braze.ones(2, 3), braze.tensor([0, 1])), (braze.zeros(2, 3), braze.tensor([0, 0]))]
    model = nn.Linear(3, 2)
    with braze.no_grad():
        model.weight.zero_()
        model.bias.copy_(braze.tensor([1.0, 0.0]))
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.0), data)
    for plugin in (plugins.LossMonitor(precision=2), plugins.AccuracyMonitor()):
        trainer.register_plugin(plugin)
    trainer.register_plugin(plugins.TimeMonitor())
    trainer.register_plugin(plugins.ProgressMonitor())
    fields = ["progress", "loss", "accuracy", "accuracy.last"]
    trainer.register_plugin(plugins.Logger(fields))
    trainer.run(1)
    likely = np.log(1 + np.exp(-1))
    losses = [likely + 0.5, likely]
    assert trainer.stats["loss"]["last"] == pytest.approx(losses[1], rel=1e-6)
    running = losses[0] * 0.3 * 0.7 + losses[1] * 0.3
    assert trainer.stats["loss"]["running_avg"] == pytest.approx(running, rel=1e-6)
    assert trainer.stats["loss"]["epoch_mean"] == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert trainer.stats["accuracy"]["epoch_mean"] == 75.0
    assert trainer.stats["time"]["last"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f"progress: 1/2 (50.00%)\tloss: {losses[0]:.2f} ({losses[0] * 0.3:.2f})\t"
        "accuracy: 50.00% (15.00%)\taccuracy.last: 50.0"
    )
    assert lines[2:] == ["#" * 80, "Epoch summary:", lines[4], "#" * 80]
    assert lines[4] == f"loss: {sum(losses) / 2:.2f}\taccuracy: 75.00%"
    trainer.register_plugin(plugins.Logger(["unknown"]))
    with pytest.raises(KeyError, match="unknown"):
        trainer.run(1)


def test_the_progress_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for file in (Terminal(), io.StringIO()):
        trainer = made()
        trainer.register_plugin(plugins.LossMonitor())
        trainer.register_plugin(plugins.ProgressBar(width=6, every=0.0, file=file))
        trainer.run(2)
        text = file.getvalue()
        assert text.count("\n") == 2 and "epoch 2 [######] 3/3 loss" in text
        assert ("epoch 1 [##    ] 1/3" in text) == file.isatty()


@pytest.mark.parametrize("kind", [None, "resumable"])
@pytest.mark.parametrize("at", [1, 4, 5, 6])
def test_an_interrupted_run_ends_with_the_same_bits(kind, at, tmp_path):
    whole = made(kind)
    whole.register_plugin(plugins.LossMonitor())
    whole.run(3)
    stopped = made(kind, Checkpoints(tmp_path, every=2))
    stop_at(stopped, at)
    with pytest.raises(Interrupt):
        stopped.run(3)
    braze.manual_seed(99)
    np.random.rand(3)
    again = made(kind, Checkpoints(tmp_path, every=2))
    again.register_plugin(plugins.LossMonitor())
    calls = Recorder([(2, "iteration")])
    again.register_plugin(calls)
    assert again.resume() == (at > 1)
    again.run(3)
    assert bits(again) == bits(whole) and again.iterations == whole.iterations == 9
    assert [call[1] for call in calls.seen] == [i for i in (2, 4, 6, 8) if i > (at - 1) // 2 * 2]
    done = made(kind, Checkpoints(tmp_path))
    done.run(3, resume=True)  # nothing is left to do
    assert bits(done) == bits(whole) and done.iterations == 9


def test_schedules_by_iteration_and_other_generators(tmp_path):
    results = []
    for stop in (None, 4):
        own = braze.random.Generator()
        own.manual_seed(5)
        drawn = []
        for resume in (False, True):
            trainer = made(
                checkpoints=Checkpoints(tmp_path / str(stop), every=1),
                schedule="iteration",
                generators={"own": own},
            )
            trainer.on(
                "batch", lambda *_, own=own, drawn=drawn: drawn.append(braze.rand(1, generator=own))
            )
            if stop is not None and not resume:
                stop_at(trainer, stop)
                with pytest.raises(Interrupt):
                    trainer.run(2)
                own.manual_seed(77)
                drawn.pop()
            else:
                trainer.run(2, resume=resume)
        results.append((bits(trainer), [x.item() for x in drawn], trainer.scheduler.get_last_lr()))
    assert results[0] == results[1]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    trainer = made(checkpoints=Checkpoints(tmp_path, every=1, keep=3))
    trainer.run(2)
    expected = bits(trainer)
    names = [path.name for path in trainer.checkpoints.paths()]
    assert names == [f"checkpoint-{i:08d}.pt" for i in (6, 5, 4)]
    newest, second = tmp_path / names[0], tmp_path / names[1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    second.write_bytes(second.read_bytes()[:100])
    (tmp_path / ".checkpoint-00000007.pt.12-3").write_bytes(b"half")
    again = made(checkpoints=Checkpoints(tmp_path, every=1))
    assert not list(tmp_path.glob(".checkpoint*"))
    with pytest.warns(UserWarning, match="falling back") as warned:
        assert again.resume()
    assert again.iterations == 4
    assert [names[i] in str(w.message) for i, w in enumerate(warned)] == [True, True]
    again.run(2)
    assert bits(again) == expected
    for path in tmp_path.iterdir():
        path.write_bytes(b"PK\3\4")
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="none of the checkpoints"):
        made(checkpoints=Checkpoints(tmp_path)).resume()
    with pytest.raises(ValueError, match="keep"):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(ValueError, match="without checkpoints"):
        made().resume()


def test_a_failed_write_keeps_the_checkpoints_before(tmp_path):
    trainer = made(checkpoints=Checkpoints(tmp_path, every=1))

    @trainer.on("iteration", every=2)
    def spoil(*_):
        trainer.stats["bad"] = {"value": lambda: 0}

    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        trainer.run(1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.pt"]
    assert made(checkpoints=trainer.checkpoints).resume()


def test_what_could_not_be_resumed_is_found_out_at_once(tmp_path):
    trainer = made(checkpoints=Checkpoints(tmp_path, every=1))
    trainer.stats["bad"] = {"value": np.float64(1.0)}
    with pytest.raises(RuntimeError, match="can be saved, but not loaded.*numpy"):
        trainer.run(1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumable_sampler_counts_what_was_used(workers):
    data = TensorDataset(braze.arange(10))
    sampler = ResumableSampler(data, seed=1)
    loader = DataLoader(data, 4, sampler=sampler, num_workers=workers)
    first = [batch[0].tolist() for batch in loader]
    assert sorted(sum(first, [])) == list(range(10)) and sum(first, []) != list(range(10))
    assert [batch[0].tolist() for batch in loader] == first  # nobody said that it was used
    sampler.advance(4)
    again = ResumableSampler(data)
    again.load_state_dict(sampler.state_dict())
    rest = DataLoader(data, 4, sampler=again, num_workers=workers)
    assert [batch[0].tolist() for batch in rest] == first[1:]
    sampler.next_epoch()
    assert sampler.position == 0 and sum([b[0].tolist() for b in loader], []) != sum(first, [])
    assert len(sampler) == 10


def test_resumable_batches():
    ordered = ResumableSampler(range(5), shuffle=False)
    assert list(ordered) == [0, 1, 2, 3, 4]
    batches = ResumableSampler(BatchSampler(SequentialSampler(range(5)), 2, False))
    batches.advance()
    assert list(batches) == [[2, 3], [4]] and len(batches) == 3
    random = BatchSampler(braze.utils.data.RandomSampler(range(6)), 2, False)
    one = ResumableSampler(random, seed=4)
    assert list(one) == list(one)
    data = TensorDataset(braze.arange(8.0).reshape(4, 2), braze.zeros(4, 1))
    shuffled = BatchSampler(braze.utils.data.RandomSampler(data), 2, False)
    trainer = made(DataLoader(data, batch_sampler=ResumableSampler(shuffled, seed=0)))
    trainer.model = nn.Linear(2, 1)
    trainer.optimizer = optim.SGD(trainer.model.parameters(), lr=0.1)
    trainer.scheduler = None
    places = []
    trainer.on("update", lambda *_: places.append(trainer.state_dict()["data"]))
    trainer.run(2)
    assert [(p["epoch"], p["position"]) for p in places] == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_loss_scaling():
    class Scaler:
        calls = []

        def scale(self, loss):
            self.calls.append("scale")
            return loss * 8

        def step(self, optimizer):
            self.calls.append("step")
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad /= 8
            optimizer.step()

        def update(self):
            self.calls.append("update")

    scaled = made(scaler=Scaler())
    scaled.run(1)
    plain = made()
    plain.run(1)
    assert Scaler.calls == ["scale", "step", "update"] * 3
    assert bits(scaled) == bits(plain)


def test_a_killed_run_ends_with_the_same_bits(tmp_path, monkeypatch):
    """Three kills, one after the other; `kill_and_resume.py` as a program kills at random."""
    # The data and the first weights are the program's own affair; this process has seen their
    # graphs, and would compile what the others interpret.
    monkeypatch.setenv("BRAZE_TIER", "compile")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    left = []
    for point in ("update:8", "write:1", "rename:2"):
        process = kill_and_resume.start("replayed", killed, point)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        left.append(sorted(path.name for path in (killed / "checkpoints").iterdir()))
    first = "checkpoint-00000005.pt"
    assert left[0] == [first] and left[1][1] == first and left[1][0].startswith(".checkpoint-")
    assert left[2] == [first, "checkpoint-00000010.pt", "checkpoint-00000012.pt"]
    with braze.config.using(tier="compile"):
        kill_and_resume.train("replayed", killed)
        kill_and_resume.train("replayed", whole)
    assert kill_and_resume.result(killed) == kill_and_resume.result(whole)
