"""One module on several processes, each with its own part of every batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from braze import distributed as dist
from braze.capture import flush, tracer
from braze.distributed.algorithms.join import Join, Joinable, JoinHook
from braze.distributed.captured import together
from braze.distributed.groups import ProcessGroup, member
from braze.futures import Future
from braze.nn.modules.embedding import Embedding, EmbeddingBag
from braze.nn.modules.module import Module
from braze.nn.parallel.mixed_precision import _MixedPrecision, cast_buffers, cast_inputs, lowered
from braze.nn.parallel.reducer import Delayed, Reducer, Reduction
from braze.nn.uninitialized import UninitializedParameter
from braze.sites import user_stacklevel
from braze.tensors import Tensor, wrap

_MIB = 1 << 20
# The first bucket is small, so that its reduction begins early.
_CAPS = (_MIB, 25 * _MIB)

CommHook = Callable[[Any, dist.GradBucket], Future]


class DistributedDataParallel(Module, Joinable):
    """Data-parallel training: every rank computes the gradients of its part of the batch, and all
    go on with their average.

    Parameters and buffers start as rank 0's. When the backward pass has given all parameters their
    gradients, these are put into buckets, in the reverse order of the parameters, and reduced. That
    is captured with the rest of the iteration: in compiled code the reduction of a bucket begins as
    soon as its gradients are computed, while the backward pass goes on, and the optimizer waits for
    it. Sparse gradients, of embeddings with ``sparse=True``, become the entries of all ranks.

    Args:
        module: the same on all ranks.
        device_ids, output_device: the GPU that the module is on, or None.
        dim: has no effect.
        broadcast_buffers: the older name of `forward_sync_buffers`; False also leaves buffers as
            they are in the beginning.
        init_sync: begin with rank 0's parameters and buffers.
        process_group: the ranks that train together; all by default.
        bucket_cap_mb: MiB of gradients that are reduced together; by default 1 first, then 25.
        find_unused_parameters: some parameters may have no part in the loss. Their gradients count
            as zeros where other ranks have some, and stay what they are where nobody has. To find
            out takes a message in each iteration.
        static_graph: parameters may be unused, as with `find_unused_parameters`.
        gradient_as_bucket_view, check_reduction, batched_grad_copy: have no effect; compiled code
            puts gradients into their buckets in any case.
        delay_all_reduce_named_params: (name, parameter) pairs, whose gradients are reduced together
            once that of `param_to_hook_all_reduce` is there, in every backward pass. Nothing else
            that is given here concerns them.
        mixed_precision: a `_MixedPrecision`: the dtypes of the forward and backward passes, of the
            reduction and of buffers.
        device_mesh: a mesh of one dimension, whose group is `process_group`.
        skip_all_reduce_unused_params: with `find_unused_parameters`, parameters that are unused
            here are so on all ranks, so that no message is needed.
        bucket_cap_mb_list: MiB of each bucket, instead of `bucket_cap_mb`; the last is for all that
            follow.
        forward_sync_buffers: let every forward pass in training mode begin with rank 0's buffers,
            but for those behind a pass whose gradients are not reduced. True by default.

    Raises:
        RuntimeError: no parameter requires a gradient, one is uninitialized, ranks have different
            ones, or there are both a group and a mesh, or a mesh of several dimensions.
        ValueError: `init_process_group` was not called, the module is not on the GPU of
            `device_ids` or `output_device`, only one of the two arguments for delayed parameters is
            given, or an embedding with ``sparse=True`` is to be computed in another dtype.
    """

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool | None = None,
        init_sync: bool = True,
        process_group: Any = None,
        bucket_cap_mb: float | None = None,
        find_unused_parameters: bool = False,
        check_reduction: bool = False,
        gradient_as_bucket_view: bool = False,
        static_graph: bool = False,
        delay_all_reduce_named_params: Iterable[tuple[str, Tensor]] | None = None,
        param_to_hook_all_reduce: Tensor | None = None,
        mixed_precision: _MixedPrecision | None = None,
        device_mesh: dist.DeviceMesh | None = None,
        skip_all_reduce_unused_params: bool = False,
        bucket_cap_mb_list: Sequence[float] | None = None,
        batched_grad_copy: bool = False,
        forward_sync_buffers: bool | None = None,
    ) -> None:
        super().__init__()
        Joinable.__init__(self)
        if (delay_all_reduce_named_params is None) != (param_to_hook_all_reduce is None):
            raise ValueError(
                "delay_all_reduce_named_params and param_to_hook_all_reduce need to be set at the "
                "same time."
            )
        group = _group(process_group, device_mesh)
        _check_devices(module, device_ids, output_device)
        delayed = list(delay_all_reduce_named_params or ())
        ignored = set(getattr(module, "_ddp_params_and_buffers_to_ignore", ()))
        ignored |= {name for name, _ in delayed}
        parameters = [
            (name, parameter)
            for name, parameter in module.named_parameters()
            if parameter.requires_grad and name not in ignored
        ]
        if not parameters and not delayed:
            raise RuntimeError(
                "DistributedDataParallel is not needed when a module doesn't have any parameter "
                "that requires a gradient."
            )
        if any(isinstance(parameter, UninitializedParameter) for _, parameter in parameters):
            raise RuntimeError(
                "Modules with uninitialized parameters can't be used with "
                "`DistributedDataParallel`. Run a dummy forward pass to correctly initialize the "
                "modules"
            )
        if check_reduction:
            warnings.warn(
                "The `check_reduction` argument in `DistributedDataParallel` module is deprecated. "
                "Please avoid using it.",
                FutureWarning,
                stacklevel=user_stacklevel(),
            )
        self.module = module
        self.process_group = group
        self.device = next(module.parameters()).device
        self.parameters_to_ignore = ignored
        self.find_unused_parameters = find_unused_parameters
        self.static_graph = static_graph
        self.mixed_precision = mixed_precision
        self.require_backward_grad_sync = True
        self.require_forward_param_sync = True
        self._divide_by_initial_world_size = True
        init_sync_buffers = self._set_sync_buffers(broadcast_buffers, forward_sync_buffers)
        caps = _caps(bucket_cap_mb, bucket_cap_mb_list)
        self._delayed: Delayed | None = None
        if param_to_hook_all_reduce is not None:
            for _, parameter in delayed:
                dist.broadcast(parameter.detach(), group=group, group_src=0)
            reducer = Reducer(delayed, group, Reduction(caps))
            self._delayed = Delayed(reducer, param_to_hook_all_reduce)
        self._reducer: Reducer | None = None
        if not parameters:
            return
        if init_sync:
            _check_same(module, group, ignored)
            for tensor in self._state(init_sync_buffers):
                dist.broadcast(tensor.detach(), group=group, group_src=0)
        how = Reduction(
            caps,
            find_unused_parameters or static_graph,
            skip_all_reduce_unused_params,
            _sparse_names(module, parameters),
            None if mixed_precision is None else _reduced_in(mixed_precision),
        )
        if mixed_precision is not None:
            if how.sparse and mixed_precision.param_dtype is not None:
                raise ValueError(
                    "DistributedDataParallel: mixed_precision: an embedding with sparse=True "
                    f"({', '.join(sorted(how.sparse))}) cannot be computed in another dtype"
                )
            cast_buffers(module, mixed_precision.buffer_dtype, ignored)
        self._reducer = Reducer(parameters, group, how)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """As the module's own; what backward pass comes next is to be reduced."""
        has_grad = tracer().grad_enabled
        if self._delayed is not None and has_grad:
            self._delayed.expect()
        if self._reducer is None:
            return self.module(*inputs, **kwargs)
        is_reduced = has_grad and self.require_backward_grad_sync
        if is_reduced:
            self._reducer.expect()
        elif has_grad:
            self._reducer.follow()
        root = 0
        if self._join_config.enable:
            Join.notify_join_context(self)
            active, *_ = self._told(self.will_sync_module_buffers(), is_reduced)
            root = active[-1]
            self._reducer.active = None if self._divide_by_initial_world_size else len(active)
        if self.will_sync_module_buffers():
            self._share(list(self._buffers_to_share()), root)
        if self.training and self.require_forward_param_sync != is_reduced:
            self.require_forward_param_sync = is_reduced
        dtype = None if self.mixed_precision is None else self.mixed_precision.param_dtype
        if dtype is None:
            return self.module(*inputs, **kwargs)
        inputs, kwargs = cast_inputs(inputs, kwargs, dtype)
        with lowered(self.module, dtype, self.parameters_to_ignore):
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
                value. There are some in `braze.distributed.algorithms.ddp_comm_hooks`. Sparse
                gradients have no buckets: with a hook, they are an error in the backward pass.

        Raises:
            TypeError: it cannot be called.
            RuntimeError: there is one already, `mixed_precision` says how gradients are reduced, or
                all parameters are delayed.
        """
        if not callable(hook):
            raise TypeError("Communication hook must be callable.")
        if self._reducer is None:
            raise RuntimeError("register_comm_hook: the gradients of all parameters are delayed")
        if self._reducer.hook is not None or self.mixed_precision is not None:
            raise RuntimeError(
                "register_comm_hook or register_builtin_comm_hook can only be called once."
            )
        self._reducer.hook = lambda bucket: hook(state, bucket)

    # Unused parameters, and those that are not this one's -----------------------------------------

    def _set_static_graph(self) -> None:
        """As `static_graph=True`. All ranks call it."""
        if self.static_graph:
            warnings.warn(
                "You've set static_graph to be True, no need to set it again.",
                stacklevel=user_stacklevel(),
            )
            return
        self.static_graph = True
        if self._reducer is not None:
            self._reducer.allow_unused(True)

    @staticmethod
    def _set_params_and_buffers_to_ignore_for_model(
        module: Module, params_and_buffers_to_ignore: Iterable[str]
    ) -> None:
        """Leave parameters and buffers of these names alone in a module that is wrapped
        afterwards."""
        module._ddp_params_and_buffers_to_ignore = list(params_and_buffers_to_ignore)

    # Buffers --------------------------------------------------------------------------------------

    @property
    def broadcast_buffers(self) -> bool:
        """The older name of `forward_sync_buffers`."""
        return self.forward_sync_buffers

    @broadcast_buffers.setter
    def broadcast_buffers(self, value: bool) -> None:
        self.forward_sync_buffers = value

    def will_sync_module_buffers(self) -> bool:
        """Whether the next forward pass begins with rank 0's buffers."""
        return (
            self.forward_sync_buffers
            and self.training
            and self.require_forward_param_sync
            and any(True for _ in self._buffers_to_share())
        )

    def _set_sync_buffers(self, older: bool | None, given: bool | None) -> bool:
        """Take `broadcast_buffers` or `forward_sync_buffers`; whether all begin with rank 0's."""
        if older is not None:
            text = "`broadcast_buffers` is deprecated. Use `forward_sync_buffers` instead."
            if given is not None:
                text += " Its value is ignored where both are given."
            warnings.warn(text, FutureWarning, stacklevel=user_stacklevel())
        self.forward_sync_buffers = older is not False if given is None else given
        return given is not None or older is not False

    def _buffers_to_share(self) -> Iterator[Tensor]:
        for name, buffer in self.module.named_buffers():
            if name not in self.parameters_to_ignore:
                yield buffer

    def _state(self, with_buffers: bool) -> list[Tensor]:
        """What is to be the same on all ranks."""
        ignored = self.parameters_to_ignore
        found: list[Tensor] = [p for n, p in self.module.named_parameters() if n not in ignored]
        return [*found, *self._buffers_to_share()] if with_buffers else found

    def _share(self, tensors: Sequence[Tensor], root: int) -> None:
        """Capture that tensors become those of one rank."""
        by_dtype: dict[Any, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for alike in by_dtype.values():
            handles = [tensor._current() for tensor in alike]
            parts = together("broadcast", handles, self.process_group, root=root)
            for tensor, handle in zip(alike, parts, strict=True):
                tensor._replace(wrap(handle, None, 0), tracked=False)

    # Ranks with fewer batches than others ---------------------------------------------------------

    def join(
        self,
        divide_by_initial_world_size: bool = True,
        enable: bool = True,
        throw_on_early_termination: bool = False,
    ) -> Join:
        """A block for training in which ranks may have different numbers of batches. A rank that
        has no more goes on taking part in the others' reductions, with zeros; at the end all have
        the parameters and buffers of one that had most.

        Inside, every forward pass begins with a sync point. The model must have no other
        collectives, as `nn.SyncBatchNorm` has them.

        Args:
            divide_by_initial_world_size: divide sums of gradients by the number of all ranks, so
                that all samples count alike; else by how many ranks still have batches.
            enable: False: a block that does nothing.
            throw_on_early_termination: raise a RuntimeError on all ranks once one has no more.
        """
        return Join(
            [self],
            enable,
            throw_on_early_termination,
            divide_by_initial_world_size=divide_by_initial_world_size,
        )

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """What this rank does in `braze.distributed.algorithms.Join` once it has no more batches.
        Its parameters' gradients become the averages, for optimizers that are shared out.

        Args:
            kwargs: `divide_by_initial_world_size`, as for `join`.

        Raises:
            RuntimeError: gradients are delayed, which ranks without batches know nothing of.
        """
        if self._reducer is None or self._delayed is not None:
            raise RuntimeError(
                "join: ranks without batches do not take part in reductions of gradients that "
                "delay_all_reduce_named_params delays"
            )
        self._divide_by_initial_world_size = kwargs.get("divide_by_initial_world_size", True)
        return _ShadowingHook(self, self._reducer)

    @property
    def join_device(self) -> Any:
        """The parameters' device."""
        return self.device

    @property
    def join_process_group(self) -> ProcessGroup:
        """The ranks that train together."""
        return self.process_group

    def _told(self, *flags: bool, counts: bool = True) -> tuple[Any, ...]:
        """What all ranks of a `join` tell each other: the ranks that count themselves in, in order,
        and for each flag whether any rank has it. A sync point."""
        flush()
        size = self.process_group.size()
        told = np.array([*[0] * size, *flags], np.int64)
        told[self.process_group.rank()] = counts
        self.process_group._communicator.all_reduce(told, "max").wait()
        return [int(rank) for rank in np.flatnonzero(told[:size])], *map(bool, told[size:])


class _ShadowingHook(JoinHook):
    """Takes part in the collectives of a model's iterations."""

    def __init__(self, model: DistributedDataParallel, reducer: Reducer) -> None:
        self._model = model
        self._reducer = reducer

    def main_hook(self) -> None:
        model, reducer = self._model, self._reducer
        active, has_buffers, is_reduced = model._told(False, False, counts=False)
        if has_buffers:
            model._share(list(model._buffers_to_share()), active[-1])
        if is_reduced:
            reducer.active = None if model._divide_by_initial_world_size else len(active)
            reducer.shadow()

    def post_hook(self, is_last_joiner: bool) -> None:
        """All have the state of a rank that had the most batches."""
        model = self._model
        self._reducer.active = None
        last, *_ = model._told(counts=is_last_joiner)
        model._share(model._state(model.forward_sync_buffers), last[-1])
        model.require_forward_param_sync = True


def _group(given: Any, mesh: dist.DeviceMesh | None) -> ProcessGroup:
    """The ranks that are meant.

    Raises: RuntimeError, ValueError as `DistributedDataParallel`.
    """
    if mesh is not None:
        if given is not None:
            raise RuntimeError("Cannot specify both process_group and device_mesh arguments.")
        if mesh.ndim != 1:
            raise RuntimeError(f"Only 1D device mesh is supported, but got {mesh}.")
        given = mesh.get_group(0)
    found = member(given)
    if found is None:
        raise ValueError("DistributedDataParallel: this process is no member of the group")
    return found


def _caps(cap: float | None, each: Sequence[float] | None) -> tuple[int, ...]:
    """Bytes of buckets."""
    if each:
        return tuple(int(mib * _MIB) for mib in each)
    return _CAPS if cap is None else (int(cap * _MIB),)


def _reduced_in(how: _MixedPrecision) -> Any:
    return how.param_dtype if how.reduce_dtype is None else how.reduce_dtype


def _sparse_names(module: Module, parameters: Sequence[tuple[str, Tensor]]) -> frozenset[str]:
    """The parameters whose gradients are sparse."""
    kinds = (Embedding, EmbeddingBag)
    weights = {id(m.weight) for m in module.modules() if isinstance(m, kinds) and m.sparse}
    return frozenset(name for name, parameter in parameters if id(parameter) in weights)


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


def _check_same(module: Module, group: ProcessGroup, ignored: Collection[str]) -> None:
    """Raises: RuntimeError if ranks have parameters or buffers of different names or types."""
    every = [*module.named_parameters(), *module.named_buffers()]
    named = [(name, tensor) for name, tensor in every if name not in ignored]
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
