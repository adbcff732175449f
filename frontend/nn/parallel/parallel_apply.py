"""Call several modules at once, each in a thread with its share of the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from braze.capture import Tracer, flush, tracer
from braze.devices import current_gpu, set_current_gpu
from braze.nn.modules.module import Module
from braze.nn.parallel.places import are_gpus, devices_of, places_of
from braze.structure import tensors_in
from braze.tensors import Tensor
from braze.wrapped_errors import ExceptionWrapper


def get_a_var(obj: Any) -> Tensor | None:
    """Some tensor in a structure, or None."""
    return next(tensors_in(obj), None)


def _same_mode(own: Tracer, caller: Tracer) -> None:
    """Let a thread capture as the one that waits for it does."""
    own.grad_enabled = caller.grad_enabled
    own.inference = caller.inference
    own.tier = caller.tier
    own.watch = None if caller.watch is None else []


def _in_turn(call: Callable[[int], Any], where: Sequence[Any]) -> list[Any]:
    """Capture the modules' work one after the other: what GPUs do runs side by side in any case."""
    results = []
    before = current_gpu()
    try:
        for i, device in enumerate(where):
            set_current_gpu(before if device.index is None else device.index)
            try:
                results.append(call(i))
            except Exception:
                ExceptionWrapper(where=f"in replica {i} on device {device}").reraise()
    finally:
        set_current_gpu(before)
    return results


def parallel_apply(
    modules: Sequence[Module],
    inputs: Sequence[Any],
    kwargs_tup: Sequence[dict[str, Any]] | None = None,
    devices: Sequence[Any] | None = None,
) -> list[Any]:
    """Call each module with its inputs, all at once.

    Args:
        inputs: for each module a tuple or list of arguments, or a single one.
        kwargs_tup: keyword arguments for each. devices: for each; by default shares of the CPU.

    Returns:
        The results in the order of the modules.

    Raises:
        AssertionError: the lists differ in length.
        What a module raised, with the replica's number and the original traceback.
    """
    count = len(modules)
    named: Sequence[dict[str, Any]] = [{}] * count if kwargs_tup is None else kwargs_tup
    where = devices_of([f"cpu:{i}" for i in range(count)] if devices is None else devices)
    for what, given in (("inputs", inputs), ("kwargs_tup", named), ("devices", where)):
        if len(given) != count:
            raise AssertionError(
                f"The number of modules {count} is not equal to the number of {what} {len(given)}"
            )

    def call(i: int) -> Any:
        arguments = inputs[i] if isinstance(inputs[i], (list, tuple)) else (inputs[i],)
        return modules[i](*arguments, **named[i])

    if count == 1:
        return [call(0)]
    if are_gpus(where):
        return _in_turn(call, where)
    flush()  # what the modules are given is there before their threads ask for it
    caller = tracer()
    results: list[Any] = [None] * count
    watched: list[list[Any]] = [[] for _ in range(count)]
    places = places_of(where)

    def work(i: int) -> None:
        try:
            own = tracer()
            _same_mode(own, caller)
            with places[i]:
                results[i] = call(i)
                own.flush()
            watched[i] = own.watch or []
        except BaseException:
            results[i] = ExceptionWrapper(where=f"in replica {i} on device {where[i]}")

    threads = [threading.Thread(target=work, args=(i,), name=f"replica {i}") for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, ExceptionWrapper):
            result.reraise()
    if caller.watch is not None:
        for nodes in watched:
            caller.watch.extend(nodes)
    return results
