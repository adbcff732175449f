"""The base of all optimizers: groups of parameters with their settings, a state for each, saving
and loading.

An iteration ends in `step`: what it captured, forward pass, backward pass and updates, runs there
as one graph. What may change between steps (learning rate, corrections) goes into it as run-time
numbers, shared by all parameters.
"""

from __future__ import annotations

import copy
import functools
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from braze.autograd.modes import enable_grad, no_grad
from braze.capture import flush
from braze.functions.methods import zero_gradient
from braze.functions.promotion import cast, scalar
from braze.handle import BUFFER
from braze.ir.dtypes import f64
from braze.removable import HookTable
from braze.removable import RemovableHandle as HookHandle
from braze.shared_updates import direct_if_shared
from braze.tensors import Tensor, from_array

Group = dict[str, Any]
Closure = Callable[[], Any]


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()


class Numbers:
    """The numbers of one step as operands, each one input of the graph however many parameters
    share it.

    They are told apart by what they are, not by their values: two that happen to be equal in one
    step may differ in the next, which must not be another graph. They are f64, so that what the
    update derives from them, such as 1 - beta, is rounded once.
    """

    def __init__(self) -> None:
        self._made: dict[Any, Tensor] = {}

    def __call__(self, role: Any, value: Any) -> Tensor:
        """The operand for a number (or 0-d tensor) in some role."""
        if isinstance(value, Tensor):
            return cast(value, f64)
        made = self._made.get(role)
        if made is None:
            made = self._made[role] = scalar(float(value), f64)
        return made


def zeros_in_memory(like: Tensor) -> Tensor:
    """A state tensor of zeros that is in memory at once, so that the first step's graph is the
    later ones' graph.
    """
    kind = like._handle.type
    return from_array(np.zeros(kind.shape, kind.dtype.numpy), BUFFER)


def check_betas(betas: tuple[float, float]) -> None:
    """Raises: ValueError unless both are in [0, 1)."""
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")


def check_not_negative(what: str, value: Any) -> None:
    """Raises: ValueError for negative numbers and nan."""
    if not float(value) >= 0.0:
        raise ValueError(f"Invalid {what}: {value}")


class Optimizer:
    """Subclasses define `_update` (or, as in PyTorch, `step`).

    Args:
        params: parameters, (name, parameter) pairs, or groups: dicts with "params" and settings of
            their own.
        defaults: settings of groups that do not have their own.

    Attributes:
        param_groups: the groups, with their settings.
        state: for each parameter, what is kept between steps.

    Raises:
        TypeError: the parameters are a tensor, or hold something that is no tensor.
        ValueError: there are none, one is not a leaf, or one is in two groups.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, "
                f"but got {type(params).__name__}"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self._pre_hooks: HookTable = {}
        self._post_hooks: HookTable = {}
        self._stepped = False  # schedulers warn if they are stepped first
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)
        # The parameters' first values, so that they are not computed in the first iteration's
        # graph.
        flush()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _whole_step(cls.__dict__["step"])  # type: ignore[method-assign]

    # One step -------------------------------------------------------------------------------------

    def step(self, closure: Closure | None = None) -> Any:
        """Update all parameters that have a gradient; ends the iteration.

        Args:
            closure: computes the loss and the gradients anew.

        Returns:
            The closure's loss, or None.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        numbers = Numbers()
        every = (p for group in self.param_groups for p in group["params"])
        with no_grad(), direct_if_shared(every):
            for group in self.param_groups:
                self._update(group, [p for p in group["params"] if p.grad is not None], numbers)
        return loss

    def _update(self, group: Group, parameters: list[Tensor], numbers: Numbers) -> None:
        """Update some parameters of a group in place. Gradients are not recorded here."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or set them to zero."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    zero_gradient(parameter.grad)

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(optimizer, args, kwargs)` before a step; it may return new (args, kwargs)."""
        return HookHandle(self._pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return HookHandle(self._post_hooks, hook)

    # Groups ---------------------------------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        """Add a group; settings that it lacks are the defaults.

        Raises: as the class.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the "
                "ordering of tensors in "
                "sets will change between runs. Please use a list instead."
            )
        listed = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in listed if isinstance(p, tuple)]
        if names:
            param_group["param_names"] = names
            listed = [p[1] if isinstance(p, tuple) else p for p in listed]
        for parameter in listed:
            if not isinstance(parameter, Tensor):
                raise TypeError(
                    "optimizer can only optimize Tensors, but one of the params is "
                    f"{type(parameter)}"
                )
            if not parameter.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
        param_group["params"] = listed
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(
                    "parameter group didn't specify a value of required optimization parameter "
                    f"{name}"
                )
            param_group.setdefault(name, default)
        if len({id(p) for p in listed}) != len(listed):
            raise ValueError("some parameters appear more than once in the parameter group")
        taken = {id(p) for group in self.param_groups for p in group["params"]}
        if any(id(p) in taken for p in listed):
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)

    # Saving and loading ---------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state and the groups, with parameters named by their numbers in order.

        Returns:
            {"state": {number: {name: tensor or number}}, "param_groups": [{..., "params":
            [numbers]}]}
        """
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for parameter in group["params"]:
                numbers.setdefault(id(parameter), len(numbers))
            packed = {key: value for key, value in group.items() if key != "params"}
            packed["params"] = [numbers[id(parameter)] for parameter in group["params"]]
            groups.append(packed)
        state = {numbers.get(id(key), key): value for key, value in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave; floating-point state takes the parameters' dtypes.

        Raises:
            ValueError: other groups, or groups of other sizes.
        """
        groups = copy.deepcopy([{**group} for group in state_dict["param_groups"]])
        if len(groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        for mine, given in zip(self.param_groups, groups, strict=True):
            if len(mine["params"]) != len(given["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of "
                    "optimizer's group"
                )
        parameters: dict[Any, Tensor] = {}
        for mine, given in zip(self.param_groups, groups, strict=True):
            parameters.update(zip(given["params"], mine["params"], strict=True))
            given["params"] = mine["params"]
            if "param_names" in mine:
                given["param_names"] = mine["param_names"]
            else:
                given.pop("param_names", None)
        self.param_groups[:] = groups
        self.state = defaultdict(dict)
        for key, entry in state_dict["state"].items():
            if key in parameters:
                own = parameters[key]
                self.state[own] = {name: _loaded(name, value, own) for name, value in entry.items()}
            else:
                self.state[key] = copy.deepcopy(entry)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pre_hooks, self._post_hooks, self._stepped = {}, {}, True

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _loaded(name: str, value: Any, parameter: Tensor) -> Any:
    """A state entry as it is kept here: its own memory, the parameter's dtype; step counts are
    plain numbers.
    """
    if name == "step":
        return int(value)
    if not isinstance(value, (Tensor, np.ndarray)):
        return copy.deepcopy(value)
    array = value._numpy() if isinstance(value, Tensor) else value
    own = parameter._handle.type.dtype
    floating = own.is_floating_point and array.dtype.kind not in "biu"
    return from_array(np.array(array, dtype=own.numpy if floating else None, order="C"), BUFFER)


def _whole_step(function: Callable[..., Any]) -> Callable[..., Any]:
    """A `step` method with hooks around it, that runs the iteration at its end."""

    @functools.wraps(function)
    def step(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        for hook in list(self._pre_hooks.values()):
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        f"{function} must return None or a tuple of (new_args, new_kwargs), but "
                        f"got {changed}."
                    )
                args, kwargs = changed
        result = function(self, *args, **kwargs)
        flush()
        self._stepped = True
        for hook in list(self._post_hooks.values()):
            hook(self, args, kwargs)
        return result

    return step


Optimizer.step = _whole_step(Optimizer.step)  # type: ignore[method-assign]


def corrections(betas: tuple[float, float], step: int) -> tuple[float, float]:
    """Adam's 1 - beta ** step for both betas, in double precision."""
    return 1 - math.pow(betas[0], step), 1 - math.pow(betas[1], step)
