"""examples/dynamic_net: what growing and shrinking keep, that it learns, and few compiles."""

import numpy as np
import pytest

import braze


def test_growing_keeps_what_the_network_computes(load_example):
    example = load_example("dynamic_net")
    model = example.Growing(width=8)
    points = braze.from_numpy(example.spirals(50)[0])
    before = model(points).detach().numpy()
    model.grow()
    model.grow()
    # One graph may have been compiled by now and the other not.
    np.testing.assert_allclose(model(points).detach().numpy(), before, rtol=1e-5, atol=1e-6)
    assert len(list(model.parameters())) == 4 + 2 * 4


def test_pruning_drops_what_is_not_needed_and_keeps_what_is(load_example):
    example = load_example("dynamic_net")
    model = example.Growing(width=8)
    points, spiral = map(braze.from_numpy, example.spirals(200))
    for _ in range(3):
        model.grow()
    idle, needed = model.blocks[0], model.blocks[1]
    with braze.no_grad():
        model.last.weight.fill_(1.0)
        model.last.bias.fill_(-100.0)  # without the block that is needed, it says no to all
        needed.outer.bias.fill_(100.0)
        spiral.fill_(1.0)
    assert example.accuracy(model, points, spiral) == 1.0
    example.prune(model, points, spiral)
    assert list(model.blocks) == [needed] and idle is not needed


def test_it_learns_with_one_graph_for_each_depth(load_example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    example = load_example("dynamic_net")
    saved, drawn = str(tmp_path / "model.pt"), tmp_path / "spirals.png"
    common = ["--turns", "1", "--steps", "150", "--save", saved]
    example.main([*common, "--epochs", "2"])
    braze.stats.reset()
    accuracy, blocks = example.main(
        [*common, "--epochs", "4", "--resume", saved, "--plot", str(drawn)]
    )
    assert accuracy > 0.95 and blocks >= 1
    assert drawn.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "epoch 1/2: 0 blocks" in printed and "epoch 3/4" in printed and "Graphs:" in printed
    assert braze.load(saved)["blocks"] == blocks
    # Two more epochs: at most two new depths, each with a graph to train and few to test.
    assert braze.stats.graphs <= 12
