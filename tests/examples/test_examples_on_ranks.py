"""examples/mnist and examples/imagenet on several ranks: they learn together, rank 0 speaks and
writes for all, and they go on from a checkpoint, on as many ranks or on others."""

from pathlib import Path

import pytest
from ranks import run_ranks

import braze

pytestmark = pytest.mark.xdist_group("ranks")

EXAMPLES = Path(__file__).parents[2] / "examples"
# Rank by rank, what `main` returns and what the parameters add up to.
PROGRAM = """
import importlib.util, json, sys
sys.path.insert(0, {folder!r})
spec = importlib.util.spec_from_file_location("example", {folder!r} + "/main.py")
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)
kept = []
class Kept(example.nn.parallel.DistributedDataParallel):
    def __init__(self, module):
        super().__init__(module)
        kept.append(module)
example.nn.parallel.DistributedDataParallel = Kept
{before}
result = example.main(["--distributed"] + {arguments!r})
weights = [p.detach().double().sum().item() for p in kept[0].parameters()]
rank = example.dist.get_rank()
sys.stdout.write(f"{{rank}}: {{json.dumps([result, weights])}}\\n")
"""


def _train(name, arguments, folder, before="", ranks=2):
    """What the ranks print. What they return and end with must be the same on all."""
    program = PROGRAM.format(folder=str(EXAMPLES / name), arguments=arguments, before=before)
    outcome = run_ranks(program, folder, ranks=ranks, timeout=60, prologue="")
    first, *others = (outcome.lines(rank) for rank in range(ranks))
    assert len(first) == 1 and all(other == first for other in others), outcome.out
    # Open MPI gives ranks a terminal, so what fills a line comes as well.
    printed = [line.removeprefix("\033[K") for line in outcome.out.splitlines()]
    return [line for line in printed if "accuracy" in line]


def test_mnist(load_example, tmp_path):
    saved = str(tmp_path / "model.pt")
    common = ["--limit", "512", "--save", saved]
    (printed,) = _train("mnist", [*common, "--epochs", "1"], tmp_path, ranks=4)
    assert printed.startswith("epoch 1/1 loss")
    (printed,) = _train("mnist", [*common, "--epochs", "2", "--resume", saved], tmp_path)
    assert printed.startswith("epoch 2/2 loss")
    checkpoint = braze.load(saved)
    first, second = checkpoint["accuracies"]
    assert checkpoint["epoch"] == 2 and second > max(first, 0.4)
    # Each rank has tested half of the digits: together they say what one process does.
    example = load_example("mnist")
    net = example.Net()
    net.load_state_dict(checkpoint["model"])
    loader = example.DataLoader(example.Digits(*example.load_data(None)[1]), 500)
    assert example.test(net, loader, "cpu")[1] == second


def test_imagenet(load_example, tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    small = """
import functools
example.ARCHITECTURES["resnet18"] = ((1, 1, 1, 1), False)
example.ResNet = functools.partial(example.ResNet, width=8)
example.make_pictures = functools.partial(example.make_pictures, count=400)
"""
    saved, data = str(tmp_path / "model.pt"), str(tmp_path / "digits")
    size = ["--data", data, "--size", "24", "--workers", "0"]
    common = [*size, "--batch-size", "32", "--save", saved]
    (printed,) = _train("imagenet", [*common, "--epochs", "1"], tmp_path, small, ranks=4)
    assert printed.startswith("epoch 1/1: loss")
    more = [*common, "--epochs", "2", "--resume", saved]
    (printed,) = _train("imagenet", more, tmp_path, small)
    assert printed.startswith("epoch 2/2: loss")
    example = load_example("imagenet")
    monkeypatch.setitem(example.ARCHITECTURES, "resnet18", ((1, 1, 1, 1), False))
    whole = example.ResNet
    monkeypatch.setattr(example, "ResNet", lambda *args: whole(*args, width=8))
    history = braze.load(saved)["history"]
    tested = example.main([*size, "--resume", saved, "--evaluate"])
    assert len(history) == 2 and tested == pytest.approx(history[1][0], abs=1e-6)


def test_a_batch_that_cannot_be_shared_out(load_example, monkeypatch, capsys):
    for name in ("mnist", "imagenet"):
        example = load_example(name)
        monkeypatch.setattr(example.dist, "init_process_group", lambda backend: None)
        monkeypatch.setattr(example.dist, "get_rank", lambda: 0)
        monkeypatch.setattr(example.dist, "get_world_size", lambda: 3)
        with pytest.raises(SystemExit):
            example.main(["--distributed", "--batch-size", "64"])
        assert "--batch-size 64 cannot be shared out among 3 processes" in capsys.readouterr().err
