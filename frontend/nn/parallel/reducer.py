"""The gradients of a module's parameters, averaged over ranks when a backward pass is over.

In: parameters, and word of each forward pass.  Out: their `grad`, the average of all ranks'. The
gradients are put into buckets in the reverse order of the parameters, and the collectives of these
are captured with the rest of the iteration.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from braze import distributed as dist
from braze.autograd.builders import HandleBuilder
from braze.autograd.modes import no_grad
from braze.capture import tracer
from braze.distributed.bucket_layout import layout_of
from braze.distributed.captured import collective
from braze.distributed.groups import ProcessGroup, made_group
from braze.distributed.sparse_sums import sums
from braze.functions.promotion import cast
from braze.futures import Future
from braze.handle import Handle
from braze.ir.dtypes import DType
from braze.placing import moved
from braze.sparse.tensor import SparseTensor, make
from braze.tensors import Tensor, wrap

_BUILDER = HandleBuilder()


@dataclass(frozen=True)
class Reduction:
    """How gradients are reduced.

    Attributes:
        caps: bytes of the buckets, the first one's first; the last is for all that follow.
        allows_unused: parameters may have no gradient.
        skips_unused: those have none on any rank then, so nobody has to be asked.
        sparse: names of parameters whose gradients are sparse.
        dtype: what floating-point gradients are reduced in; None: their own.
    """

    caps: Sequence[int]
    allows_unused: bool = False
    skips_unused: bool = False
    sparse: frozenset[str] = field(default_factory=frozenset)
    dtype: DType | None = None


class Reducer:
    """The gradients of one module's parameters.

    Attributes:
        hook: what is done with each bucket, in place of the average.
        active: how many ranks still have batches, if gradients are divided by that.
    """

    def __init__(
        self, parameters: Sequence[tuple[str, Tensor]], group: ProcessGroup, how: Reduction
    ) -> None:
        self.names = [name for name, _ in parameters]
        self.parameters = [parameter for _, parameter in parameters]
        self.group = group
        self._how = how
        self._sparse = [i for i, name in enumerate(self.names) if name in how.sparse]
        dense = [i for i in range(len(parameters)) if i not in self._sparse]
        self.buckets = [
            [dense[i] for i in bucket]
            for bucket in buckets_of([self.parameters[i] for i in dense], how.caps)
        ]
        self._aside: ProcessGroup | None = None
        self.allow_unused(how.allows_unused)
        if self._sparse:
            self._messages()
        self.hook: Callable[[dist.GradBucket], Future] | None = None
        self.active: int | None = None
        self.before: list[Any] | None = None  # what the gradients were, while some are expected
        self.missing: list[str] = []  # that an unfinished reduction still waits for
        self.touched: set[int] = set()  # parameters of backward passes without a reduction
        self._used: np.ndarray[Any, Any] | None = None  # those that were reduced last

    def allow_unused(self, allowed: bool) -> None:
        """Say whether parameters may be without a gradient. All ranks call it."""
        self.allows_unused = allowed
        if allowed and not self._how.skips_unused:
            self._messages()

    def _messages(self) -> ProcessGroup:
        """A group for what ranks tell each other; one of its own, since these messages are not
        captured, so they overtake what is."""
        if self._aside is None:
            self._aside = made_group(self.group.ranks, None, None, None, self.group)
        assert self._aside is not None
        return self._aside

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
        if not self.allows_unused:  # each parameter is reduced with the next pass, in any case
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
        complete = all(used) or self.allows_unused
        if not any(used) or not complete:
            if any(used):
                self.missing = [n for n, u in zip(self.names, used, strict=True) if not u]
            return True
        self.before, self.missing = None, []
        counted = np.array(used, np.int64)
        counted[list(self.touched)] = 1
        self.touched.clear()
        self._reduce_all(counted, is_here=True)
        return False

    def reduce(self) -> None:
        """Reduce all gradients as they are; None counts as zeros."""
        self._reduce_all(np.ones(len(self.parameters), np.int64), is_here=True)

    def shadow(self) -> None:
        """Take part in the others' reduction without a backward pass of this rank's own: its
        gradients count as zeros, and become the others' average."""
        if self.allows_unused and self._how.skips_unused:
            if self._used is None:
                raise RuntimeError(
                    "DistributedDataParallel: with skip_all_reduce_unused_params, a rank that had "
                    "no batch at all does not know which parameters the others use"
                )
            used = self._used.copy()
        else:
            used = np.full(len(self.parameters), not self.allows_unused, np.int64)
        with no_grad():
            self._reduce_all(used, is_here=False)

    def _reduce_all(self, counted: np.ndarray[Any, Any], *, is_here: bool) -> None:
        """Reduce the gradients of the parameters that count, on this or any other rank."""
        if self.allows_unused and not self._how.skips_unused:
            self._messages()._communicator.all_reduce(counted, "max").wait()
        self._used = counted
        if not is_here:
            for position in np.flatnonzero(counted):
                self.parameters[position].grad = None
        buckets = [[self.parameters[i] for i in bucket if counted[i]] for bucket in self.buckets]
        filled = [number for number, bucket in enumerate(buckets) if bucket]
        for number in filled:
            self._reduce(number, buckets[number], is_last=number == filled[-1])
        sparse = [i for i in self._sparse if counted[i]]
        if sparse:
            self._reduce_sparse(sparse)

    def _marks(self) -> list[Any]:
        return [mark_of(parameter) for parameter in self.parameters]

    def _reduce(self, number: int, parameters: list[Tensor], *, is_last: bool) -> None:
        """Capture the average of the gradients of a bucket, or what a hook makes of them."""
        gradients = [self._lowered(_gradient(parameter)) for parameter in parameters]
        layout = layout_of(tuple(gradient.type for gradient in gradients))
        given = layout.laid_out(gradients)
        if self.hook is None:
            mean = self._mean(given, layout.numel)
        else:
            mean = _hooked(self.hook, dist.GradBucket(number, layout, given, parameters, is_last))
        for parameter, handle in zip(parameters, layout.parts(mean), strict=True):
            new = cast(wrap(handle, None, 0), parameter.dtype)
            if parameter.grad is None:
                parameter.grad = new
            else:
                parameter.grad._replace(new, tracked=False)

    def _mean(self, given: Sequence[Handle], numel: int) -> Handle:
        if self.active is None:
            return collective("all_reduce", given, self.group, (numel,), "avg")
        total = wrap(collective("all_reduce", given, self.group, (numel,), "sum"), None, 0)
        return (total * (1 / self.active))._current()

    def _lowered(self, gradient: Handle) -> Handle:
        dtype = self._how.dtype
        if dtype is None or not gradient.type.dtype.is_floating_point:
            return gradient
        return cast(wrap(gradient, None, 0), dtype)._current()

    def _reduce_sparse(self, positions: Sequence[int]) -> None:
        if self.hook is not None:
            raise RuntimeError(
                "DistributedDataParallel: communication hooks are not given sparse gradients, but "
                f"{', '.join(self.names[i] for i in positions)} has one"
            )
        parameters = [self.parameters[i] for i in positions]
        given: list[SparseTensor | None] = []
        for position, parameter in zip(positions, parameters, strict=True):
            gradient = parameter.grad
            if gradient is not None and not isinstance(gradient, SparseTensor):
                raise RuntimeError(
                    "Expected variable to have sparse gradient: DistributedDataParallel was given "
                    f"{self.names[position]} in an embedding with sparse=True, and its gradient is "
                    "dense"
                )
            given.append(gradient)
        factor = 1 / (self.group.size() if self.active is None else self.active)
        for parameter, total in zip(
            parameters, sums(given, parameters, self.group, self._messages()), strict=True
        ):
            own = total._handle
            parameter.grad = make(own.indices, own.values * factor, own.type.shape)


class Delayed:
    """Gradients that are reduced together, once another parameter has its own.

    Args:
        trigger: that parameter.
    """

    def __init__(self, reducer: Reducer, trigger: Tensor) -> None:
        self._reducer = reducer
        self._trigger = trigger
        self._before: Any = None
        self._is_waiting = False

    def expect(self) -> None:
        """A forward pass whose backward pass gives gradients."""
        self._before = mark_of(self._trigger)
        if not self._is_waiting:
            self._is_waiting = True
            own = weakref.ref(self)
            tracer().after_backward.append(lambda: _delayed_arrived(own))

    def arrived(self) -> bool:
        """A backward pass is over. Whether more is expected."""
        if mark_of(self._trigger) == self._before:
            return True
        self._is_waiting = False
        self._reducer.reduce()
        return False


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


def _arrived(reference: weakref.ref[Reducer]) -> bool:
    reducer = reference()
    return reducer is not None and reducer.arrived()


def _delayed_arrived(reference: weakref.ref[Delayed]) -> bool:
    delayed = reference()
    return delayed is not None and delayed.arrived()


def mark_of(parameter: Tensor) -> Any:
    """What changes when something is added to a parameter's gradient."""
    gradient = parameter.grad
    if gradient is None:
        return None
    # Sums of sparse gradients are new ones in the same tensor.
    entries = gradient._handle if gradient.is_sparse else None
    return id(gradient), getattr(gradient, "_writes", 0), entries


def _gradient(parameter: Tensor) -> Handle:
    if parameter.grad is None:
        own = parameter._current().type
        zeros = wrap(_BUILDER.full(shape=own.shape, value=0.0, dtype=own.dtype), None, 0)
        return moved(zeros, own.device)._current()
    if parameter.grad.is_sparse:
        raise RuntimeError(
            "DistributedDataParallel: a parameter has a sparse gradient, but is in no Embedding or "
            "EmbeddingBag with sparse=True, where it would be expected"
        )
    return parameter.grad._current()


def buckets_of(parameters: Sequence[Tensor], caps: Sequence[int]) -> list[list[int]]:
    """Positions of parameters whose gradients go together: in reverse order, of one dtype, and each
    bucket full once it has as many bytes as its cap. The last cap is for all further buckets."""
    found: list[list[int]] = []
    room, dtype = 0, None
    for position in reversed(range(len(parameters))):
        own = parameters[position]._current().type
        if not found or own.dtype is not dtype or room <= 0:
            room = caps[min(len(found), len(caps) - 1)]
            dtype = own.dtype
            found.append([])
        found[-1].append(position)
        room -= own.nbytes
    return found
