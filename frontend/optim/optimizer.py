"""The base of all optimizers: groups of parameters with their settings, a state for each, saving
and loading.

An iteration ends in `step`: what it captured, forward pass, backward pass and updates, runs there
as one graph. What may change between steps (learning rate, corrections) goes into it as run-time
numbers, shared by all parameters.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from braze.autograd.modes import enable_grad
from braze.capture import Call, flush, tracer
from braze.functions.methods import zero_gradient
from braze.functions.pointwise import where
from braze.optim.numbers import Numbers
from braze.optim.state import loaded, saved
from braze.optim.updates import Row, update
from braze.removable import HookTable
from braze.removable import RemovableHandle as HookHandle
from braze.shared_updates import direct_if_shared
from braze.tensors import Tensor, apply

Group = dict[str, Any]
Closure = Callable[[], Any]


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()

_all_pre_hooks: HookTable = {}
_all_post_hooks: HookTable = {}


class Optimizer:
    """Subclasses define `_update` (or, as in PyTorch, `step`), and write through `_write`.

    Args:
        params: parameters, (name, parameter) pairs, or groups: dicts with "params" and settings of
            their own.
        defaults: settings of groups that do not have their own.

    Attributes:
        param_groups: the groups, with their settings.
        state: for each parameter, what is kept between steps.
        _counted: the state's entries that are Python numbers here and 0-d tensors when saved.
        _skip: during a step of `braze.amp.GradScaler`, a 0-d bool: True leaves everything as it is.

    Raises:
        TypeError: the parameters are a tensor, or hold something that is no tensor.
        ValueError: there are none, one is not a leaf, one is in two groups, or only some have
            names.
    """

    _counted: Mapping[str, type] = {}
    _skip: Tensor | None = None

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, "
                f"but got {type(params).__name__}"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self._hooks: defaultdict[str, HookTable] = defaultdict(dict)
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
        state = tracer()
        before, state.grad_enabled = state.grad_enabled, False
        try:
            with direct_if_shared([p for group in self.param_groups for p in group["params"]]):
                numbers = Numbers()
                for group in self.param_groups:
                    self._update(group, [p for p in group["params"] if p.grad is not None], numbers)
        finally:
            state.grad_enabled = before
        return loss

    def _write(self, tensor: Tensor, new: Tensor) -> None:
        """Replace a parameter or a state tensor in place."""
        tensor._replace(new if self._skip is None else where(self._skip, tensor, new))

    def _run(self, call: Call, rows: Sequence[Row], shared: Row, written: Sequence[int]) -> None:
        """Run an operation for each parameter and let its results replace the parameter and its
        state; see `braze.optim.updates`."""
        if self._skip is None:
            update(call, rows, shared, written)
            return
        for row in rows:
            results = apply(call, *row, *shared)
            together = results if len(written) > 1 else (results,)
            for at, new in zip(written, together, strict=True):
                self._write(row[at], new)

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
        return HookHandle(self._hooks["before step"], hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return HookHandle(self._hooks["after step"], hook)

    def register_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> HookHandle:
        """Call `hook(optimizer)` before each `state_dict`."""
        return HookHandle(self._hooks["before saving"], hook, prepend)

    def register_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> HookHandle:
        """Call `hook(optimizer, state_dict)` after each `state_dict`; it may return another one."""
        return HookHandle(self._hooks["after saving"], hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> HookHandle:
        """Call `hook(optimizer, state_dict)` before each `load_state_dict`, with a shallow copy; it
        may return another one."""
        return HookHandle(self._hooks["before loading"], hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> HookHandle:
        """Call `hook(optimizer)` after each `load_state_dict`."""
        return HookHandle(self._hooks["after loading"], hook, prepend)

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
            if len(names) != len(listed):
                raise ValueError(
                    "all optimizer params should be with/without names. Some param names are "
                    "missing"
                )
            param_group["param_names"] = names
            listed = [p[1] if isinstance(p, tuple) else p for p in listed]
        for parameter in listed:
            if not isinstance(parameter, Tensor):
                raise TypeError(
                    "optimizer can only optimize Tensors, but one of the params is "
                    f"{type(parameter)}"
                )
            if not (parameter.is_leaf or parameter.retains_grad):  # type: ignore[attr-defined]
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
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this "
                "will cause an error",
                stacklevel=3,
            )
        named = "param_names" in param_group
        if any(("param_names" in group) is not named for group in self.param_groups):
            raise ValueError(
                "all optimizer param groups should be with/without names. cannot add param group "
                f"{'with' if named else 'without'} names to the optimizer"
            )
        taken = {id(p) for group in self.param_groups for p in group["params"]}
        if any(id(p) in taken for p in listed):
            raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)

    # Saving and loading ---------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state and the groups, with parameters named by their numbers in order.

        Returns:
            {"state": {number: {name: tensor or number}}, "param_groups": [{..., "params":
            [numbers]}]}. Step counts are float32 tensors, as PyTorch's are.
        """
        for hook in list(self._hooks["before saving"].values()):
            hook(self)
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for parameter in group["params"]:
                numbers.setdefault(id(parameter), len(numbers))
            packed = {key: value for key, value in group.items() if key != "params"}
            packed["params"] = [numbers[id(parameter)] for parameter in group["params"]]
            groups.append(packed)
        state = {
            numbers.get(id(key), key): saved(entry, self._counted)
            for key, entry in self.state.items()
        }
        result: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in list(self._hooks["after saving"].values()):
            changed = hook(self, result)
            result = result if changed is None else changed
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave, here or in PyTorch; floating-point state takes the
        parameters' dtypes.

        Raises:
            ValueError: other groups, or groups of other sizes.
        """
        state_dict = dict(state_dict)
        for hook in list(self._hooks["before loading"].values()):
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
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
                given.setdefault("param_names", mine["param_names"])
            for name, default in self.defaults.items():  # settings younger than what was saved
                given.setdefault(name, default)
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for key, entry in state_dict["state"].items():
            if key in parameters:
                own = parameters[key]
                state[own] = {
                    name: loaded(name, value, own, self._counted) for name, value in entry.items()
                }
            else:
                state[key] = copy.deepcopy(entry)
        self.__setstate__({"state": state, "param_groups": groups})
        for hook in list(self._hooks["after loading"].values()):
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__dict__.setdefault("_hooks", defaultdict(dict))
        self.__dict__.setdefault("_stepped", True)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += ["", f"Parameter Group {i}"] if i else [f"Parameter Group {i}"]
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _whole_step(function: Callable[..., Any]) -> Callable[..., Any]:
    """A `step` method with hooks around it, that runs the iteration at its end."""

    @functools.wraps(function)
    def step(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        for hook in [*_all_pre_hooks.values(), *self._hooks["before step"].values()]:
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
        for hook in [*self._hooks["after step"].values(), *_all_post_hooks.values()]:
            hook(self, args, kwargs)
        return result

    return step


Optimizer.step = _whole_step(Optimizer.step)  # type: ignore[method-assign]


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> HookHandle:
    """Call `hook(optimizer, args, kwargs)` before each step of every optimizer."""
    return HookHandle(_all_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> HookHandle:
    """Call `hook(optimizer, args, kwargs)` after each step of every optimizer."""
    return HookHandle(_all_post_hooks, hook)


def has_global_hooks() -> bool:
    """Whether there are hooks around the steps of every optimizer."""
    return bool(_all_pre_hooks or _all_post_hooks)
