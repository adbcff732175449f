"""`braze.compile`: skip Python altogether where that is sound.

Eager code is compiled anyway; what remains is the cost of running the user's Python to capture it
again. For a module called without gradients, `compile` keeps the graph of each signature (shapes
and dtypes of the arguments, training mode, `autocast`, other arguments' values) and later calls run
it directly on the module's current parameters. Everything else runs eagerly, with graphs compiled
at their first run instead of interpreted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from braze import engine
from braze.capture import flush, materialise, tracer
from braze.casting import settings_now
from braze.handle import Handle, SparseHandle, concrete
from braze.ir.devices import HOST
from braze.ir.types import TensorType
from braze.module_changes import Changes
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
        self.sizes = [type.nbytes for type in self.types]
        self.on_host = all(type.device == HOST for type in self.types)
        self.structure = rebuild(traced.result, lambda tensor: _Slot)
        self.inputs = traced.graph.inputs[traced.arguments :]
        # No views and no numbers: where the memory is what it was, nothing else is to be asked.
        self.plain = all(isinstance(s, Tensor) and s._base is None for s in self.captured)
        self.known: list[Any] = []
        self.resident: engine.Resident | None = None  # the known memory, if `plain`

    def fits(self) -> bool:
        """Whether the captured tensors are of the types that they were traced with."""
        return all(
            source._handle.type is value.type
            for source, value in zip(self.captured, self.inputs, strict=True)
            if isinstance(source, Tensor)
        )

    def run(self, arguments: Sequence[Tensor]) -> Any:
        """Results for new arguments of the same types, with the captured tensors as they are now;
        NotImplemented if they are of other types now."""
        own: list[Any] | None = None
        if self.plain:
            own = [s._handle.storage for s in self.captured]  # type: ignore[union-attr]
        if own is None or own != self.known:
            if not self.fits():
                return NotImplemented
            own = [_memory(s) if isinstance(s, Tensor) else s for s in self.captured]
            self.known = own
            self.resident = engine.Resident(own) if self.plain else None
        inputs = [_memory(argument) for argument in arguments]
        if self.resident is None:
            inputs += own
        if self.on_host:
            outputs = [engine.Storage(size) for size in self.sizes]
        else:
            outputs = [_new_memory(type) for type in self.types]
        self.entry.run(inputs, outputs, None, self.resident)
        if self.structure is _Slot:
            return wrap(concrete(self.types[0], outputs[0]), None, 0)
        results = iter(
            [
                wrap(concrete(type, storage), None, 0)
                for type, storage in zip(self.types, outputs, strict=True)
            ]
        )
        return _fill(self.structure, results)


def _memory(tensor: Tensor) -> engine.Storage:
    return materialise(tensor._current())


def _new_memory(type: TensorType) -> engine.Storage:
    if type.device == HOST:
        return engine.Storage(type.nbytes)
    made: engine.Storage = engine.cuda().new_storage(type.device, type.nbytes, str(type))
    return made


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


class _Latest:
    """The replay that the last call used, and for which calls it is the one without further
    questions: dense tensors of the same types, and no module has changed since."""

    __slots__ = ("changes", "parameters", "replay", "settings", "types")

    def __init__(self, replay: Replay, args: Sequence[Tensor], parameters: list[Tensor]) -> None:
        self.replay = replay
        self.types = [argument._handle.type for argument in args]
        self.parameters = parameters
        self.changes = Changes.count
        self.settings = settings_now()

    def serves(self, args: Sequence[Any]) -> bool:
        """Whether a call with these arguments may use the replay."""
        types = self.types
        if self.changes != Changes.count or len(args) != len(types):
            return False
        for argument, type in zip(args, types, strict=True):
            if not isinstance(argument, Tensor):
                return False
            handle = argument._handle
            if handle.type is not type or handle.__class__ is not Handle:
                return False
        state = tracer()
        if state.autocast is not None and settings_now() != self.settings:
            return False
        if state.grad_enabled:
            return not any(t.requires_grad for t in (*args, *self.parameters))
        return True


class CompiledModule:
    """A module (or function) that `braze.compile` wrapped. Attributes are the wrapped object's."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._orig_mod: Any = function
        self._replays: dict[Any, Replay | None] = {}
        self._latest: _Latest | None = None
        self._looked_up: tuple[int, list[Tensor]] = (-1, [])  # and when they were looked up
        functools.update_wrapper(self, function, updated=())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._orig_mod, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        latest = self._latest
        if latest is not None and not kwargs and latest.serves(args):
            result = latest.replay.run(args)
            if result is not NotImplemented:
                return result
        function = self._orig_mod
        arguments = list(tensors_in((list(args), kwargs)))
        if not hasattr(function, "named_parameters") or self._needs_tape(arguments):
            return self._eagerly(args, kwargs)
        key = self._signature(args, kwargs, arguments)
        if key not in self._replays:
            self._replays[key] = self._trace(args, kwargs)
        replay = self._replays[key]
        if replay is None:
            return self._eagerly(args, kwargs)
        if not kwargs and len(arguments) == len(args):  # all are tensors, and no structures of them
            self._latest = _Latest(replay, args, [*function.parameters()])
        return replay.run(arguments)

    def _needs_tape(self, arguments: list[Tensor]) -> bool:
        if not tracer().grad_enabled:
            return False
        # Walking a module for its parameters takes longer than a small one's forward pass.
        changes, parameters = self._looked_up
        if changes != Changes.count:
            changes, parameters = Changes.count, [*self._orig_mod.parameters()]
            self._looked_up = changes, parameters
        return any(t.requires_grad for t in parameters) or any(t.requires_grad for t in arguments)

    def _signature(self, args: Any, kwargs: Any, arguments: list[Tensor]) -> Any:
        types: list[TensorType] = [t._handle.type for t in arguments]
        layouts = tuple(t.layout for t in arguments)
        plain = rebuild((list(args), kwargs), lambda tensor: None)
        module = self._orig_mod
        modes = tuple([m.training for m in module.modules()])
        # Their replay keeps the tensors alive, so that no others have these numbers.
        members = (*module.parameters(), *module.buffers())
        known = tuple([(id(tensor), tensor._handle.type) for tensor in members])
        return (tuple(types), layouts, repr(plain), modes, known, settings_now())

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
