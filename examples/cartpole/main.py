"""Balance a pole on a cart with policy gradients: actor-critic (the default) or REINFORCE.

Several carts run at once, so that the policy is asked for a batch of actions and every update has
the same shape. The task, gymnasium's CartPole-v1, counts as solved when the last 100 episodes
had a mean reward over 475 (an episode ends after 500 steps at the latest).
(Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
learning", 1992; Mnih et al., "Asynchronous methods for deep reinforcement learning", 2016.)
"""

import argparse
import time
from collections import deque

import gymnasium as gym
import numpy as np
from tqdm import tqdm

import braze
from braze import nn, optim
from braze.distributions import Categorical

SOLVED, LONGEST = 475, 500


def network(outputs, hidden=128):
    return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


class ActorCritic(nn.Module):
    """The actor gives logits of the two actions, the critic the return that it expects."""

    def __init__(self):
        super().__init__()
        self.actor = network(2)
        self.critic = network(1)

    def policy(self, observations):
        return Categorical(logits=self.actor(observations))

    def value(self, observations):
        return self.critic(observations).squeeze(-1)


class Carts:
    """`count` copies of the task: what they see now, and the rewards of the last 100 episodes.

    After the last step of an episode comes one that only resets its cart, whose observation is
    still that of the episode's end: `resetting` [count] says where that is so.
    """

    def __init__(self, count, seed):
        self.envs = gym.make_vec("CartPole-v1", count, vectorization_mode="vector_entry_point")
        self.envs.action_space.seed(seed)
        self.rewards = deque(maxlen=100)
        self.episodes = self.steps = 0
        self.reset(seed)

    def reset(self, seed=None):
        self.seen, _ = self.envs.reset(seed=seed)
        self.resetting = np.zeros(len(self.seen), bool)
        self.so_far = np.zeros(len(self.seen))

    def step(self, actions):
        """Rewards and whether the pole fell, both [count]."""
        self.seen, rewards, fell, cut, _ = self.envs.step(actions)
        self.so_far = np.where(self.resetting, 0, self.so_far + rewards)
        self.steps += np.count_nonzero(~self.resetting)
        self.resetting = fell | cut
        for reward in self.so_far[self.resetting]:
            self.rewards.append(reward)
            self.episodes += 1
        return rewards, fell

    @property
    def mean_reward(self):
        return np.mean(self.rewards) if self.rewards else 0.0

    @property
    def solved(self):
        return len(self.rewards) == 100 and self.mean_reward > SOLVED


def play(model, carts, steps, device):
    """Arrays [steps, carts]: seen, done and gained; who fell; where nothing was decided."""
    history = []
    for _ in range(steps):
        seen, resetting = carts.seen, carts.resetting
        with braze.no_grad():
            actions = model.policy(braze.from_numpy(seen).to(device)).sample().cpu().numpy()
        rewards, fell = carts.step(actions)
        history.append((seen, actions, rewards, fell, resetting))
    return [np.stack(column) for column in zip(*history, strict=True)]


def mean_over(mask, values):
    return (values * mask).sum() / mask.sum()


def actor_critic(model, optimizer, carts, args):
    """A few steps of each cart, then a step of the optimizer for both networks."""
    seen, actions, rewards, fell, resetting = play(model, carts, args.steps, args.device)
    observations = braze.from_numpy(np.stack([*seen, carts.seen])).to(args.device)
    values = model.value(observations)
    expected = values.detach().cpu().numpy()
    returns = np.empty_like(expected)
    returns[-1] = expected[-1]
    for t in reversed(range(args.steps)):
        gained = rewards[t] + args.gamma * returns[t + 1] * ~fell[t]
        returns[t] = np.where(resetting[t], expected[t], gained)

    decided = braze.from_numpy(~resetting).to(args.device)
    returns = braze.from_numpy(returns).to(args.device)
    advantages = (returns - values)[:-1]
    policy = model.policy(observations[:-1])
    chosen = policy.log_prob(braze.from_numpy(actions).to(args.device))
    actor_loss = -mean_over(decided, chosen * advantages.detach() + args.entropy * policy.entropy())
    critic_loss = mean_over(decided, advantages.square())
    optimizer.zero_grad()
    (actor_loss + critic_loss).backward()
    optimizer.step()


def reinforce(model, optimizer, carts, args):
    """A whole episode of each cart, then a step of the optimizer for the actor alone."""
    carts.reset()
    seen, actions, rewards, _, resetting = play(model, carts, LONGEST, args.device)
    playing = np.cumsum(resetting, axis=0) == 0  # each cart's first episode only
    returns = np.zeros((LONGEST + 1, args.carts), np.float32)
    for t in reversed(range(LONGEST)):
        returns[t] = playing[t] * (rewards[t] + args.gamma * returns[t + 1])
    returns = returns[:-1]
    returns = (returns - returns[playing].mean()) / returns[playing].std()

    playing, returns = (braze.from_numpy(a).to(args.device) for a in (playing, returns))
    policy = model.policy(braze.from_numpy(seen).to(args.device))
    chosen = policy.log_prob(braze.from_numpy(actions).to(args.device))
    loss = -mean_over(playing, chosen * returns + args.entropy * policy.entropy())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def plot(curve, path):
    """Draw mean rewards, rows of (steps played, mean reward)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    axes.plot(*zip(*curve, strict=True))
    axes.axhline(SOLVED, color="gray", linestyle="--")
    axes.set(xlabel="steps played", ylabel="mean reward of the last 100 episodes")
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main(argv=None):
    parser = argparse.ArgumentParser(description="Solve CartPole with policy gradients.")
    algorithms = ["actor-critic", "reinforce"]
    parser.add_argument("--algorithm", default=algorithms[0], choices=algorithms)
    parser.add_argument("--epochs", type=int, default=60, help="of 50 updates, or 5 of REINFORCE")
    parser.add_argument("--carts", type=int, default=16, help="how many are played at once")
    parser.add_argument("--steps", type=int, default=32, help="of each cart for an update")
    parser.add_argument("--lr", type=float, help="6e-3, or 2e-2 for REINFORCE")
    parser.add_argument("--gamma", type=float, default=0.99, help="discount of what comes later")
    parser.add_argument("--entropy", type=float, default=0.01, help="what randomness is worth")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", metavar="FILE", help="write a checkpoint after each epoch")
    parser.add_argument("--resume", metavar="FILE", help="go on from a checkpoint")
    parser.add_argument("--plot", metavar="FILE", help="draw the rewards (needs matplotlib)")
    args = parser.parse_args(argv)
    if args.algorithm == "actor-critic":
        update, updates, rate = actor_critic, 50, args.lr or 6e-3
    else:
        update, updates, rate = reinforce, 5, args.lr or 2e-2

    braze.manual_seed(args.seed)
    model = ActorCritic().to(args.device)
    optimizer = optim.Adam(model.parameters(), lr=rate)
    if args.resume:
        checkpoint = braze.load(args.resume)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
    carts = Carts(args.carts, args.seed)
    curve = []
    start = time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        bar = tqdm(range(updates), f"epoch {epoch}/{args.epochs}", leave=False, disable=None)
        for _ in bar:
            update(model, optimizer, carts, args)
            bar.set_postfix(reward=f"{carts.mean_reward:.0f}", refresh=False)
            curve.append((carts.steps, carts.mean_reward))
            if carts.solved:
                break
        seconds = time.perf_counter() - start
        print(
            f"epoch {epoch}: mean reward {carts.mean_reward:.1f} after {carts.episodes} episodes, "
            f"{carts.steps} steps, {seconds:.1f} s",
            flush=True,
        )
        if args.save:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            braze.save(state, args.save)
        if carts.solved:
            print(f"solved in {seconds:.1f} s", flush=True)
            break
    if args.plot:
        plot(curve, args.plot)
    return carts.mean_reward


if __name__ == "__main__":
    main()
