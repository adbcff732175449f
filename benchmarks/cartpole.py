"""A cart with a pole to balance: the environment of the actor-critic program.

Source: Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve difficult learning
control problems", 1983, with the usual constants. An episode here does not end by itself.
"""

from __future__ import annotations

import math

GRAVITY, CART, POLE, HALF_LENGTH, FORCE, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02


class CartPole:
    """Position, speed, angle and angular speed, from the same start each time."""

    def __init__(self) -> None:
        self.state = [0.02, -0.01, 0.03, 0.01]

    def step(self, action: int) -> float:
        """Push to the left (0) or right (1) for 20 milliseconds; returns the reward."""
        x, speed, angle, spin = self.state
        force = FORCE if action == 1 else -FORCE
        cos, sin = math.cos(angle), math.sin(angle)
        push = (force + POLE * HALF_LENGTH * spin * spin * sin) / (CART + POLE)
        turn = (GRAVITY * sin - cos * push) / (
            HALF_LENGTH * (4.0 / 3.0 - POLE * cos * cos / (CART + POLE))
        )
        move = push - POLE * HALF_LENGTH * turn * cos / (CART + POLE)
        self.state = [
            x + SECONDS * speed,
            speed + SECONDS * move,
            angle + SECONDS * spin,
            spin + SECONDS * turn,
        ]
        return 1.0
