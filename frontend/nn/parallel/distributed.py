"""One module on several processes, each with its own part of every batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from braze import distributed as dist
from braze.autograd.builders import HandleBuilder
from braze.autograd.modes import no_grad
from braze.capture import tracer
from braze.distributed.bucket_layout import layout_of
from braze.distributed.captured import collective, together
from braze.distributed.groups import ProcessGroup, member
from braze.futures import Future
from braze.handle import Handle
from braze.nn.modules.module import Module
from braze.tensors import Tensor, wrap

_MIB = 1 << 20
# The first bucket is small, so that its reduction begins early.
_FIRST_BUCKET = _MIB
_BUILDER = HandleBuilder()

CommHook = Callable[[Any, dist.GradBucket], Future]


class DistributedDataParallel(Module):
    """Data-parallel training: every rank computes the gradients of its part of the batch, and all
    go on with their average.

    Parameters and buffers start as rank 0's. When the backward pass has given all parameters their
    gradients, these are put into buckets, in the reverse order of the parameters, and reduced. That
    is captured with the rest of the iteration: in compiled code the reduction of a bucket begins as
    soon as its gradients are computed, while the backward pass goes on, and the optimizer waits for
    it.

    Args:
        module: the same on all ranks.
        device_ids, output_device: the GPU that the module is on, or None.
        dim: has no effect.
        broadcast_buffers: let every forward pass in training mode begin with rank 0's buffers.
        process_group: the ranks that train together; all by default.
        bucket_cap_mb: MiB of gradients that are reduced together; 25 by default.
        find_unused_parameters: some parameters may have no part in the loss. Their gradients count
            as zeros where other ranks have some, and stay what they are where nobody has. To find
            out takes a message in each iteration.
        static_graph: parameters may be unused, as with `find_unused_parameters`.
        gradient_as_bucket_view, check_reduction: have no effect; compiled code puts gradients into
            their buckets in any case.
        init_sync: begin with rank 0's parameters and buffers.

    Raises:
        RuntimeError: no parameter requires a gradient, or ranks have different parameters.
        ValueError: `init_process_group` was not called, or the module is not on the GPU of
            `device_ids` or `output_device`.
    """

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool = True,
        init_sync: bool = True,
        process_group: Any = None,
        bucket_cap_mb: float | None = None,
        find_unused_parameters: bool = False,
        check_reduction: bool = False,
        gradient_as_bucket_view: bool = False,
        static_graph: bool = False,
    ) -> None:
        super().__init__()
        group = member(process_group)
        if group is None:
            raise ValueError("DistributedDataParallel: this process is no member of the group")
        _check_devices(module, device_ids, output_device)
        parameters = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        if not parameters:
            raise RuntimeError(
                "DistributedDataParallel is not needed when a module doesn't have any parameter "
                "that requires a gradient."
            )
        self.module = module
        self.process_group = group
        self.broadcast_buffers = broadcast_buffers
        self.find_unused_parameters = find_unused_parameters
        self.require_backward_grad_sync = True
        if init_sync:
            _check_same(module, group)
            for tensor in [*module.parameters(), *module.buffers()]:
                dist.broadcast(tensor.detach(), group=group, group_src=0)
        cap = 25 if bucket_cap_mb is None else bucket_cap_mb
        votes = dist.new_group(group.ranks) if find_unused_parameters or static_graph else None
        self._reducer = _Reducer(parameters, group, int(cap * _MIB), votes)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """As the module's own; what backward pass comes next is to be reduced."""
        if tracer().grad_enabled:
            if self.require_backward_grad_sync:
                self._reducer.expect()
            else:
                self._reducer.follow()
        if self.broadcast_buffers and self.training and self.require_backward_grad_sync:
            self._share_buffers()
        return self.module(*inputs, **kwargs)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Inside, gradients are accumulated on each rank; the first backward pass after it, with
        its forward pass, reduces their sums."""
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before

    def register_comm_hook(self, state: object, hook: CommHook) -> None:
        """Let a function do what is done with each bucket of gradients.

        Args:
            state: its first argument.
            hook: takes this and a `braze.distributed.GradBucket`, and gives a
                `braze.futures.Future` of a tensor like the bucket's `buffer()`, from which all
                ranks take their gradients. It is captured with the iteration, unless it reads a
                value. There are some in `braze.distributed.algorithms.ddp_comm_hooks`.

        Raises:
            TypeError: it cannot be called.
            RuntimeError: there is one already.
        """
        if not callable(hook):
            raise TypeError("Communication hook must be callable.")
        if self._reducer.hook is not None:
            raise RuntimeError(
                "register_comm_hook or register_builtin_comm_hook can only be called once."
            )
        self._reducer.hook = lambda bucket: hook(state, bucket)

    def _share_buffers(self) -> None:
        by_dtype: dict[Any, list[Tensor]] = {}
        for buffer in self.module.buffers():
            by_dtype.setdefault(buffer.dtype, []).append(buffer)
        for buffers in by_dtype.values():
            handles = [buffer._current() for buffer in buffers]
            parts = together("broadcast", handles, self.process_group)
            for buffer, handle in zip(buffers, parts, strict=True):
                buffer._replace(wrap(handle, None, 0), tracked=False)


class _Reducer:
    """The gradients of one module's parameters.

    votes: a group for telling which parameters were used, if that is asked for. It is one of its
        own, since its messages are not captured, so they overtake what is.
    """

    def __init__(
        self, parameters: Sequence[tuple[str, Tensor]], group: ProcessGroup, cap: int, votes: Any
    ) -> None:
        self.names = [name for name, _ in parameters]
        self.parameters = [parameter for _, parameter in parameters]
        self.group = group
        self.buckets = _buckets(self.parameters, cap)
        self.votes = votes
        self.hook: Callable[[dist.GradBucket], Future] | None = None
        self.before: list[Any] | None = None  # what the gradients were, while some are expected
        self.missing: list[str] = []  # that an unfinished reduction still waits for
        self.touched: set[int] = set()  # parameters of backward passes without a reduction

    def expect(self) -> None:
        """A forward pass whose backward pass is to be reduced."""
        now = self._marks()
        if self.before is None:
            own = weakref.ref(self)
            tracer().after_backward.append(lambda: _arrived(own))
        elif self.missing:
            raise RuntimeError(
                "Expected to have finished reduction in the prior iteration before starting a new "
                "one. This error indicates that your module has parameters that were not used in "
                f"producing loss: {', '.join(self.missing)}. Pass find_unused_parameters=True to "
                "DistributedDataParallel if that is meant."
            )
        self.before = now

    def follow(self) -> None:
        """A forward pass whose backward pass is not reduced: what it adds to is, with the next."""
        if self.votes is None:  # each parameter is reduced with the next pass, in any case
            return
        before, own = self._marks(), weakref.ref(self)

        def arrived() -> bool:
            reducer = own()
            if reducer is None:
                return False
            added = {i for i, mark in enumerate(reducer._marks()) if mark != before[i]}
            reducer.touched |= added
            return not added

        tracer().after_backward.append(arrived)

    def arrived(self) -> bool:
        """A backward pass is over. Whether more is expected."""
        assert self.before is not None
        used = [now != before for now, before in zip(self._marks(), self.before, strict=True)]
        complete = all(used) or self.votes is not None
        if not any(used) or not complete:
            if any(used):
                self.missing = [n for n, u in zip(self.names, used, strict=True) if not u]
            return True
        self.before, self.missing = None, []
        counted = np.array(used, np.int64)
        if self.votes is not None:
            counted[list(self.touched)] = 1
            self.touched.clear()
            self.votes._communicator.all_reduce(counted, "max").wait()
        buckets = [[self.parameters[i] for i in bucket if counted[i]] for bucket in self.buckets]
        filled = [number for number, bucket in enumerate(buckets) if bucket]
        for number in filled:
            self._reduce(number, buckets[number], is_last=number == filled[-1])
        return False

    def _marks(self) -> list[Any]:
        return [_mark(parameter) for parameter in self.parameters]

    def _reduce(self, number: int, parameters: list[Tensor], *, is_last: bool) -> None:
        """Capture the average of the gradients of a bucket, or what a hook makes of them."""
        layout = layout_of(tuple(parameter._current().type for parameter in parameters))
        given = layout.laid_out([_gradient(parameter) for parameter in parameters])
        if self.hook is None:
            mean = collective("all_reduce", given, self.group, (layout.numel,), "avg")
        else:
            mean = _hooked(self.hook, dist.GradBucket(number, layout, given, parameters, is_last))
        for parameter, handle in zip(parameters, layout.parts(mean), strict=True):
            new = wrap(handle, None, 0)
            if parameter.grad is None:
                parameter.grad = new
            else:
                parameter.grad._replace(new, tracked=False)


def _hooked(hook: Callable[[dist.GradBucket], Future], bucket: dist.GradBucket) -> Handle:
    """What a hook gives for a bucket.

    Raises: RuntimeError if it is not like the bucket.
    """
    with no_grad():
        future = hook(bucket)
        result = future.wait() if hasattr(future, "wait") else future
    if isinstance(result, (list, tuple)) and len(result) == 1:
        (result,) = result
    own = bucket.buffer()._current().type
    if not isinstance(result, Tensor) or result._current().type != own:
        given = result._current().type if isinstance(result, Tensor) else type(result).__name__
        raise RuntimeError(
            f"DistributedDataParallel: a communication hook must give a tensor of type {own}, as "
            f"the bucket's buffer is, given {given}"
        )
    return result._current()


def _arrived(reference: weakref.ref[_Reducer]) -> bool:
    reducer = reference()
    return reducer is not None and reducer.arrived()


def _mark(parameter: Tensor) -> Any:
    """What changes when something is added to a parameter's gradient."""
    gradient = parameter.grad
    return None if gradient is None else (id(gradient), getattr(gradient, "_writes", 0))


def _gradient(parameter: Tensor) -> Handle:
    if parameter.grad is None:
        own = parameter._current().type
        zeros: Handle = _BUILDER.full(shape=own.shape, value=0.0, dtype=own.dtype)
        return zeros
    if parameter.grad.is_sparse:
        raise RuntimeError(
            "DistributedDataParallel: sparse gradients are not reduced; use sparse=False"
        )
    return parameter.grad._current()


def _buckets(parameters: Sequence[Tensor], cap: int) -> list[list[int]]:
    """Positions of parameters whose gradients go together: in reverse order, of one dtype, and each
    bucket full once it has so many bytes."""
    found: list[list[int]] = []
    room, dtype = 0, None
    for position in reversed(range(len(parameters))):
        own = parameters[position]._current().type
        if not found or own.dtype is not dtype or room <= 0:
            room = min(cap, _FIRST_BUCKET) if not found else cap
            dtype = own.dtype
            found.append([])
        found[-1].append(position)
        room -= own.nbytes
    return found


def _check_devices(module: Module, device_ids: Sequence[Any] | None, output_device: Any) -> None:
    """Raises: ValueError if a module is not on the one GPU that is named."""
    given = [*(device_ids or ()), *([] if output_device is None else [output_device])]
    if not given:
        return
    from braze.cuda.devices import index_of

    places = sorted({str(parameter.device) for parameter in module.parameters()})
    if len(device_ids or ()) > 1 or places != sorted({f"cuda:{index_of(d)}" for d in given}):
        raise ValueError(
            "DistributedDataParallel device_ids and output_device arguments only work with "
            f"single-device GPU modules, but got device_ids {device_ids}, output_device "
            f"{output_device}, and module parameters {places}."
        )


def _check_same(module: Module, group: ProcessGroup) -> None:
    """Raises: RuntimeError if ranks have parameters or buffers of different names or types."""
    named = [*module.named_parameters(), *module.named_buffers()]
    # Each rank's are on a device of its own.
    own = [f"{n}: {tensor._current().type}".partition("@")[0] for n, tensor in named]
    everybody: list[Any] = [None] * group.size()
    dist.all_gather_object(everybody, own, group=group)
    for rank, theirs in zip(group.ranks, everybody, strict=True):
        for mine, other in zip(everybody[0], theirs, strict=False):
            if mine != other:
                raise RuntimeError(
                    f"DistributedDataParallel: rank {group.ranks[0]} has {mine}, "
                    f"rank {rank} has {other}"
                )
        if len(theirs) != len(everybody[0]):
            raise RuntimeError(
                f"DistributedDataParallel: rank {group.ranks[0]} has {len(everybody[0])} "
                f"parameters and buffers, rank {rank} has {len(theirs)}"
            )
