"""examples/cartpole: both algorithms learn, what they compute, and checkpoints."""

import argparse

import numpy as np
import pytest

pytest.importorskip("gymnasium")


def test_actor_critic_learns_and_goes_on_from_a_checkpoint(load_example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    example = load_example("cartpole")
    saved, curve = tmp_path / "policy.pt", tmp_path / "curve.png"
    first = example.main(["--epochs", "2", "--save", str(saved), "--plot", str(curve)])
    assert first > 80  # at random it is 22
    assert curve.read_bytes().startswith(b"\x89PNG")
    assert example.main(["--epochs", "1", "--resume", str(saved), "--seed", "2"]) > 80
    printed = capsys.readouterr().out
    assert "epoch 2: mean reward" in printed and "\r" not in printed


def test_reinforce_learns(load_example):
    example = load_example("cartpole")
    assert example.main(["--algorithm", "reinforce", "--epochs", "1"]) > 50


def test_an_episodes_end_is_not_taken_for_a_decision(load_example):
    """The step that only resets a cart comes after each end, and counts for no reward."""
    example = load_example("cartpole")
    carts = example.Carts(4, seed=1)
    args = argparse.Namespace(steps=60, device="cpu")
    seen, _, rewards, fell, resetting = example.play(
        example.ActorCritic(), carts, args.steps, args.device
    )
    assert fell.any() and (resetting[1:] == fell[:-1]).all() and not resetting[0].any()
    assert (rewards[resetting] == 0).all() and (rewards[~resetting] == 1).all()
    assert carts.steps == np.count_nonzero(~resetting)
    assert carts.episodes == np.count_nonzero(fell)
    assert np.mean(carts.rewards) * carts.episodes <= carts.steps
    assert seen.shape == (60, 4, 4) and seen.dtype == np.float32
