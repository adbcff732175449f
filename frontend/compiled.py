"""`braze.compile`: skip Python altogether where that is sound.

Eager code is compiled anyway; what remains is the cost of running the user's Python to capture it
again. For a module called without gradients, `compile` keeps the graph of each signature (shapes
and dtypes of the arguments, training mode, `autocast`, other arguments' values) and later calls run
it directly on the module's current parameters. Everything else runs eagerly, with graphs compiled
at their first run instead of interpreted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from braze import engine
from braze.capture import flush, materialise, tracer
from braze.casting import settings_now
from braze.handle import Handle, SparseHandle, concrete
from braze.ir.types import TensorType
from braze.structure import rebuild, tensors_in
from braze.tensors import Tensor, wrap
from braze.tracing import Traced, trace


class Replay:
    """One traced signature of a module: run it again without running Python."""

    def __init__(self, traced: Traced) -> None:
        self.entry = engine.prepare(traced.graph, tier="compile")
        self.arguments = traced.arguments
        self.captured = traced.captured
        self.types = [value.type for value in traced.graph.outputs]
        self.structure = rebuild(traced.result, lambda tensor: _Slot)

    def run(self, arguments: list[Tensor]) -> Any:
        """Results for new arguments of the same types, with the captured tensors as they are
        now."""
        sources = [*arguments, *self.captured]
        inputs = [
            materialise(source._current()) if isinstance(source, Tensor) else source
            for source in sources
        ]
        outputs = [engine.Storage(type.nbytes) for type in self.types]
        self.entry.run(inputs, outputs)
        results = iter(
            [
                wrap(concrete(type, storage), None, 0)
                for type, storage in zip(self.types, outputs, strict=True)
            ]
        )
        return _fill(self.structure, results)


class _Slot:
    """Stands for a tensor in the structure of a result."""


def _fill(structure: Any, results: Any) -> Any:
    if structure is _Slot:
        return next(results)
    if isinstance(structure, dict):
        return type(structure)((key, _fill(item, results)) for key, item in structure.items())
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(_fill(item, results) for item in structure))
    if isinstance(structure, (tuple, list)):
        return type(structure)(_fill(item, results) for item in structure)
    return structure


def _handles(tensor: Tensor) -> list[Handle]:
    """A tensor's value; of a sparse one, its parts."""
    handle = tensor._current()
    if isinstance(handle, SparseHandle):
        return [handle.indices._current(), handle.values._current()]
    return [handle]


class CompiledModule:
    """A module (or function) that `braze.compile` wrapped. Attributes are the wrapped object's."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._orig_mod: Any = function
        self._replays: dict[Any, Replay | None] = {}
        functools.update_wrapper(self, function, updated=())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._orig_mod, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = self._orig_mod
        arguments = list(tensors_in((list(args), kwargs)))
        if not hasattr(function, "named_parameters") or self._needs_tape(arguments):
            return self._eagerly(args, kwargs)
        key = self._signature(args, kwargs, arguments)
        if key not in self._replays:
            self._replays[key] = self._trace(args, kwargs)
        replay = self._replays[key]
        return self._eagerly(args, kwargs) if replay is None else replay.run(arguments)

    def _needs_tape(self, arguments: list[Tensor]) -> bool:
        if not tracer().grad_enabled:
            return False
        module = self._orig_mod
        return any(t.requires_grad for t in (*arguments, *module.parameters()))

    def _signature(self, args: Any, kwargs: Any, arguments: list[Tensor]) -> Any:
        types: list[TensorType] = [t._handle.type for t in arguments]
        layouts = tuple(t.layout for t in arguments)
        plain = rebuild((list(args), kwargs), lambda tensor: None)
        modes = tuple(module.training for module in self._orig_mod.modules())
        return (tuple(types), layouts, repr(plain), modes, settings_now())

    def _trace(self, args: Any, kwargs: Any) -> Replay | None:
        """The signature's replay; None where the module does more than compute a result from its
        arguments."""
        module = self._orig_mod
        if any(buffer.is_sparse for buffer in module.buffers()):
            return None  # whose parts may be others in the next call
        try:
            traced = trace(module, args, kwargs, name=type(module).__name__)
        except RuntimeError:
            return None
        return None if traced.effect else Replay(traced)

    def _eagerly(self, args: Any, kwargs: Any) -> Any:
        flush()
        state = tracer()
        previous, state.tier = state.tier, "compile"
        try:
            result = self._orig_mod(*args, **kwargs)
            for tensor in tensors_in(result):
                if not tensor.requires_grad:
                    for handle in _handles(tensor):
                        materialise(handle)
            return result
        finally:
            state.tier = previous


def compile(model: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a module or function: ``model = braze.compile(model)`` or ``@braze.compile``.

    Args:
        model: a module or a function of tensors.
        options: PyTorch's options (`mode`, `fullgraph`, `dynamic`, `backend`) are accepted; there
            is nothing to choose.

    Returns:
        A callable with the same results. Calls of a module without gradients run its compiled graph
        directly.

    Raises:
        TypeError: an unknown option, or something that cannot be called.
    """
    unknown = set(options) - {"mode", "fullgraph", "dynamic", "backend", "options", "disable"}
    if unknown:
        raise TypeError(f"compile() got an unexpected keyword argument {sorted(unknown)[0]!r}")
    if model is None:
        return functools.partial(compile, **options)
    if not callable(model):
        raise TypeError(f"compile() needs a module or a function, given {type(model).__name__}")
    return model if options.get("disable") else CompiledModule(model)
