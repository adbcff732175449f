"""An optimizer that is shared out: each rank updates some parameters, and tells the others.

Source: Rajbhandari et al., "ZeRO: Memory optimizations toward training trillion parameter models",
2020: stage 1, and stage 2 with `shard_gradients`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from braze import distributed as dist
from braze import linalg
from braze.autograd.modes import enable_grad, no_grad
from braze.capture import flush, tracer
from braze.distributed.algorithms.join import Join, Joinable, JoinHook, _JoinConfig
from braze.distributed.captured import collective, together
from braze.distributed.groups import ProcessGroup, member
from braze.functions.creation import zeros, zeros_like
from braze.functions.movement import stack
from braze.optim.optimizer import Group, Optimizer
from braze.tensors import Tensor, wrap

# Bytes of gradients that go to their rank together.
_BUCKET = 25 << 20


class ZeroRedundancyOptimizer(Optimizer, Joinable):
    """Each rank keeps the optimizer's state of its own part of the parameters only.

    A step updates this rank's parameters, then every rank broadcasts its own. Parameters are shared
    out whole, the largest first, each to the rank that has least by then. Gradients must be equal
    on all ranks, as `nn.parallel.DistributedDataParallel` makes them, unless `shard_gradients` is
    given.

    Args:
        params: parameters, (name, parameter) pairs, or groups, the same on all ranks.
        optimizer_class: of the optimizer of each part, as `braze.optim.Adam`.
        process_group: the ranks; all by default.
        parameters_as_bucket_view: has no effect; parameters stay where they are.
        overlap_with_ddp: is refused. A step is captured with the backward pass, so that parts of
            it overlap with others in any case.
        shard_gradients: average the gradients here, each for its own rank only; others forget it.
            The model is not wrapped in `DistributedDataParallel`; its parameters start as rank 0's.
        defaults: settings of the optimizer.

    Attributes:
        optim: the optimizer of this rank's part.

    Raises:
        ValueError: this process is no member of the group; and whatever the optimizer raises.
        NotImplementedError: `overlap_with_ddp`.
    """

    def __init__(
        self,
        params: Any,
        optimizer_class: type[Optimizer],
        process_group: Any = None,
        parameters_as_bucket_view: bool = False,
        overlap_with_ddp: bool = False,
        shard_gradients: bool = False,
        **defaults: Any,
    ) -> None:
        if overlap_with_ddp:
            raise NotImplementedError(
                "ZeroRedundancyOptimizer: overlap_with_ddp=True is not there; a step is captured "
                "with the backward pass and overlaps with it anyway"
            )
        group = member(process_group)
        if group is None:
            raise ValueError("ZeroRedundancyOptimizer: this process is no member of the group")
        self.process_group: ProcessGroup = group
        self.rank, self.world_size = group.rank(), group.size()
        self.shard_gradients = shard_gradients
        self._class = optimizer_class
        self._settings = defaults
        self._bytes = [0] * group.size()
        self._owners: dict[Tensor, int] = {}
        self._everything: dict[int, Any] | None = None
        self._is_scattered = False  # the gradients, before a step
        self.optim: Optimizer = None  # type: ignore[assignment]
        Joinable.__init__(self)
        Optimizer.__init__(self, params, dict(defaults))
        if shard_gradients:
            for parameter in self._owners:
                dist.broadcast(parameter.detach(), group=group, group_src=0)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group, and share its parameters out.

        Raises: as `Optimizer`.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        sizes = {parameter: parameter._current().type.nbytes for parameter in group["params"]}
        for parameter in sorted(sizes, key=lambda p: -sizes[p]):
            owner = self._bytes.index(min(self._bytes))
            self._bytes[owner] += sizes[parameter]
            self._owners[parameter] = owner
        own = {**group, "params": self._own(group)}
        if self.optim is None:
            self.optim = self._class([own], **self._settings)
        else:
            self.optim.add_param_group(own)
        for name, value in self.optim.param_groups[-1].items():
            group.setdefault(name, value)
        for name, value in self.optim.defaults.items():
            self.defaults.setdefault(name, value)

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Update all parameters that have a gradient; ends the iteration. All ranks call it.

        Args:
            closure: computes the loss and the gradients anew.

        Returns:
            The closure's loss, or None.
        """
        Join.notify_join_context(self)
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self._everything = None
        state = tracer()
        before, state.grad_enabled = state.grad_enabled, False
        try:
            self._scatter_gradients()
            self._is_scattered = False
            self._copy_settings(self.param_groups, self.optim.param_groups)
            self.optim._skip = self._skip
            # Without the end of the iteration that a step is: the broadcasts belong to it.
            step = type(self.optim).step
            getattr(step, "__wrapped__", step)(self.optim, **kwargs)
            self._copy_settings(self.optim.param_groups, self.param_groups)
            self._share_parameters()
        finally:
            state.grad_enabled = before
        return loss

    def _own(self, group: Group) -> list[Tensor]:
        return [p for p in group["params"] if self._owners[p] == self.rank]

    def _of_each_rank(self) -> Iterator[tuple[int, list[Tensor]]]:
        """For each rank its parameters of one dtype, the last of the model first."""
        for rank in range(self.world_size):
            by_dtype: dict[Any, list[Tensor]] = {}
            for parameter, owner in reversed(self._owners.items()):
                if owner == rank and parameter.requires_grad:
                    by_dtype.setdefault(parameter.dtype, []).append(parameter)
            yield from ((rank, parameters) for parameters in by_dtype.values())

    def _share_parameters(self) -> None:
        for rank, parameters in self._of_each_rank():
            handles = [parameter._current() for parameter in parameters]
            parts = together("broadcast", handles, self.process_group, root=rank)
            for parameter, part in zip(parameters, parts, strict=True):
                if rank != self.rank:
                    parameter._replace(wrap(part, None, 0), tracked=False)

    def clip_grad_norm_(self, max_norm: float, norm_type: float = 2.0) -> Tensor:
        """Scale the gradients, right before a step, so that the norm of all of them together, those
        of other ranks included, is at most `max_norm`. All ranks call it.

        With `shard_gradients` they are averaged before that: `nn.utils.clip_grad_norm_` would clip
        those of each rank's own batch.

        Returns: the norm before, 0-d.
        """
        with no_grad():
            self._scatter_gradients()
            own = [p.grad for p, owner in self._owners.items() if owner == self.rank]
            norms = [linalg.vector_norm(g, norm_type) for g in own if g is not None]
            largest = norm_type == math.inf
            parts = stack(norms) if norms else zeros(1)
            part = parts.amax() if largest else (parts**norm_type).sum()
            total = self._reduced(part, "max" if largest else "sum")
            norm = total if largest else total ** (1.0 / norm_type)
            factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
            for parameter in self._owners:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor.to(parameter.grad.dtype))
        return norm

    def _agreed(self, overflow: Tensor) -> Tensor:
        """Whether any rank's gradients overflow, of whether this one's do: 1 or 0, 0-d. Those that
        are still to be averaged may overflow on some ranks only."""
        return self._reduced(overflow, "max") if self.shard_gradients else overflow

    def _reduced(self, x: Tensor, reduction: str) -> Tensor:
        made = collective("all_reduce", [x._current()], self.process_group, (), reduction)
        return wrap(made, None, 0)

    def _scatter_gradients(self) -> None:
        """With `shard_gradients`: average each gradient for the rank that needs it, once before a
        step, and forget it elsewhere."""
        if not self.shard_gradients or self._is_scattered:
            return
        self._is_scattered = True
        for rank, parameters in self._of_each_rank():
            for bucket in _buckets(parameters):
                handles = [_gradient(parameter)._current() for parameter in bucket]
                parts = together("reduce", handles, self.process_group, reduction="avg", root=rank)
                for parameter, part in zip(bucket, parts, strict=True):
                    parameter.grad = wrap(part, None, 0) if rank == self.rank else None

    # Ranks with fewer batches than others ---------------------------------------------------------

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """What this rank does in `braze.distributed.algorithms.Join` once it has no more batches:
        steps of its own part, with the gradients that the parameters have then. Have the model
        in `DistributedDataParallel` in the block, too, and before this, which sets them; with
        `shard_gradients` they are zeros, before they are averaged.

        Args:
            kwargs: there are none that it takes.
        """
        return _SteppingHook(self)

    @property
    def join_device(self) -> Any:
        """The first parameter's device."""
        return next(iter(self._owners)).device

    @property
    def join_process_group(self) -> ProcessGroup:
        """The ranks that share it."""
        return self.process_group

    # Saving and loading ---------------------------------------------------------------------------

    def consolidate_state_dict(self, to: int = 0) -> None:
        """Collect the state of all parts on one rank, for `state_dict`. All ranks call it.

        Args:
            to: a rank of the group.
        """
        flush()
        named = self.shard_state_dict()["state"]
        parts: list[Any] | None = [None] * self.world_size if self.rank == to else None
        dist.gather_object(named, parts, group=self.process_group, group_dst=to)
        if parts is None:
            self._everything = None
            return
        entries: dict[int, Any] = {}
        for part in parts:
            entries |= part
        self._everything = {number: entries[number] for number in sorted(entries)}

    def shard_state_dict(self) -> dict[str, Any]:
        """What `state_dict` gives, with the state of this rank's parameters only: for
        `braze.distributed.checkpoint`, which puts the parts together."""
        numbers = self._numbers()
        mine = [p for group in self.optim.param_groups for p in group["params"]]
        own = self.optim.state_dict()["state"]
        groups = super().state_dict()["param_groups"]
        return {"state": {numbers[mine[i]]: e for i, e in own.items()}, "param_groups": groups}

    def state_dict(self) -> dict[str, Any]:
        """The state of all parameters, as an optimizer of its own has it, on the rank that it was
        collected on.

        Raises:
            RuntimeError: it was not, since the last step.
        """
        if self._everything is None:
            raise RuntimeError(
                "Optimizer state has not been consolidated on this rank. Please call "
                "`consolidate_state_dict(to=...)` on all ranks beforehand if you meant to save the "
                "global state."
            )
        groups = super().state_dict()["param_groups"]
        return {"state": self._everything, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave, of any optimizer of this class, sharded for however
        many ranks or not; each rank keeps its part.

        Raises:
            ValueError: other groups, or groups of other sizes.
        """
        self._everything = None
        super().load_state_dict({**state_dict, "state": {}})
        numbers = self._numbers()
        given = [i for group in state_dict["param_groups"] for i in group["params"]]
        mine = [p for group in self.optim.param_groups for p in group["params"]]
        entries = state_dict["state"]
        state = {
            i: entries[given[numbers[p]]]
            for i, p in enumerate(mine)
            if given[numbers[p]] in entries
        }
        groups = self.optim.state_dict()["param_groups"]
        self._copy_settings(self.param_groups, groups)
        self.optim.load_state_dict({"state": state, "param_groups": groups})

    def _numbers(self) -> dict[Tensor, int]:
        every = (p for group in self.param_groups for p in group["params"])
        return {parameter: i for i, parameter in enumerate(every)}

    @staticmethod
    def _copy_settings(source: list[Group], target: list[Group]) -> None:
        for given, kept in zip(source, target, strict=True):
            own = ("params", "param_names")
            kept.update({name: value for name, value in given.items() if name not in own})


class _SteppingHook(JoinHook):
    """Updates this rank's part of the parameters, for the others."""

    def __init__(self, optimizer: ZeroRedundancyOptimizer) -> None:
        self._optimizer = optimizer

    def main_hook(self) -> None:
        optimizer = self._optimizer
        if optimizer.shard_gradients:
            for parameter in optimizer._owners:
                parameter.grad = zeros_like(parameter)
        config, optimizer._join_config = optimizer._join_config, _JoinConfig()
        try:
            optimizer.step()  # without telling anybody that this rank has a batch
        finally:
            optimizer._join_config = config


def _gradient(parameter: Tensor) -> Tensor:
    """Raises: RuntimeError if there is none."""
    if parameter.grad is None:
        raise RuntimeError(
            "ZeroRedundancyOptimizer: with shard_gradients every parameter needs a gradient on "
            f"every rank; one of shape {tuple(parameter.shape)} has none"
        )
    return parameter.grad


def _buckets(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    found: list[Tensor] = []
    size = 0
    for parameter in parameters:
        found.append(parameter)
        size += parameter._current().type.nbytes
        if size >= _BUCKET:
            yield found
            found, size = [], 0
    if found:
        yield found
