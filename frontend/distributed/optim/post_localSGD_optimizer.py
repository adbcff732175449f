"""An optimizer of each rank's own gradients, whose parameters are averaged now and then.

Source: Lin, Stich, Patel, Jaggi, "Don't use large mini-batches, use local SGD", 2020.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from typing import Any

from braze.distributed.algorithms.model_averaging.averagers import ModelAverager
from braze.optim.optimizer import Group, Optimizer


class PostLocalSGDOptimizer(Optimizer):
    """Steps of another optimizer, after each of which an averager has its turn.

    Args:
        optim: the optimizer, of the same parameters on all ranks.
        averager: for example an `averagers.PeriodicModelAverager`, with the warm-up that the
            communication hook has (`post_localSGD_hook`).
    """

    def __init__(self, optim: Optimizer, averager: ModelAverager) -> None:
        self.optim = optim
        self.averager = averager
        self.defaults = optim.defaults
        self._hooks = defaultdict(dict)
        self._stepped = False
        self._follow()

    def _follow(self) -> None:
        self.param_groups, self.state = self.optim.param_groups, self.optim.state

    def step(self, closure: Any = None) -> Any:
        """A step of the optimizer, then the averager's; ends the iteration. All ranks call it.

        Returns:
            The closure's loss, or None.
        """
        self.optim._skip = self._skip
        loss = self.optim.step(closure)
        self._follow()
        self.averager.average_parameters(self.param_groups)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optim.zero_grad(set_to_none)

    def add_param_group(self, param_group: Group) -> None:
        """As the optimizer's."""
        self.optim.add_param_group(param_group)
        self._follow()

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's, with the averager's count of steps as "step"."""
        return {**self.optim.state_dict(), "step": self.averager.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave. Without a "step", there is a warning, and the
        averager begins anew.

        Raises:
            ValueError: other groups, or groups of other sizes.
        """
        self.optim.load_state_dict({k: v for k, v in state_dict.items() if k != "step"})
        self._follow()
        if "step" not in state_dict:
            warnings.warn(
                "Loaded state dict does not contain a step counter for an averager. Setting step "
                "counter to 0.",
                stacklevel=2,
            )
        self.averager.step = state_dict.get("step", 0)

    def __repr__(self) -> str:
        return repr(self.optim)
