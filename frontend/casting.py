"""What `autocast` does to operands.

Which operations take part is a property of the operation table, `Op.autocast`, and `apply` asks
here while some thread is inside `autocast`. Functions that are made of several operations but have
one rule for all of it are decorated with `casting`. The casts are captured operations like any
others: passes fuse them, and of the casts of one parameter in an iteration one is left.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from braze import tensors as _tensors
from braze.capture import Tracer, call_of, tracer
from braze.devices import Used
from braze.ir.dtypes import DType, bf16, f16, f32
from braze.ir.op import Op, op_named
from braze.tensors import Tensor, apply

_CAST = op_named("cast")
_CASTABLE = frozenset((bf16, f16, f32))
DEFAULT_DTYPES = {"cpu": bf16, "cuda": f16}


class State:
    """A thread's settings.

    Attributes:
        enabled: the types of devices for which it is on.
        dtypes: for each type, what "lower" casts to.
        cache: kept for `is_autocast_cache_enabled`; the compiler merges equal casts anyway.
        nesting: how many `autocast` blocks there are around.
    """

    __slots__ = ("cache", "dtypes", "enabled", "nesting")

    def __init__(self) -> None:
        self.enabled: set[str] = set()
        self.dtypes: dict[str, DType] = dict(DEFAULT_DTYPES)
        self.cache = True
        self.nesting = 0


_lock = threading.Lock()
_threads: set[int] = set()  # ids of the states for which it is on


def state() -> State:
    """The calling thread's settings."""
    own = tracer()
    if own.autocast is None:
        own.autocast = State()
    found: State = own.autocast
    return found


def enable(device_type: str, enabled: bool) -> None:
    """Switch it on or off for the calling thread."""
    own = state()
    (own.enabled.add if enabled else own.enabled.discard)(device_type)
    with _lock:
        (_threads.add if own.enabled else _threads.discard)(id(own))
        _tensors.autocast_hook = with_casts if _threads else None


def _device_of(tensors: Iterable[Tensor]) -> str:
    """The type of device on which an operation on these runs."""
    return "cuda" if Used.devices and any(tensor.is_cuda for tensor in tensors) else "cpu"


def _target(own: Tracer, policy: str, operands: Iterable[Tensor]) -> DType | None:
    """The dtype to cast to, or None where there is nothing to cast: outside `autocast`, and in the
    gradients of operations."""
    settings = own.autocast
    if settings is None or not settings.enabled or own.site is not None:
        return None
    device = _device_of(operands)
    if device not in settings.enabled:
        return None
    return settings.dtypes[device] if policy == "lower" else f32


def _cast(tensor: Tensor, dtype: DType) -> Tensor:
    own = tensor._handle.type.dtype
    if own is dtype or own not in _CASTABLE or tensor.is_sparse:
        return tensor
    return apply(call_of(_CAST, dtype=dtype), tensor)  # type: ignore[no-any-return]


def with_casts(op: Op, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The operands of an operation as `autocast` wants them."""
    policy = op.autocast
    if policy is None:
        return operands
    dtype = _target(tracer(), policy, operands)
    if dtype is None:
        return operands
    return tuple([_cast(operand, dtype) for operand in operands])


def casts_now(*operands: Tensor) -> bool:
    """Whether operands of different dtypes may be about to be made equal."""
    return _tensors.autocast_hook is not None and _target(tracer(), "lower", operands) is not None


def lowered(*operands: Tensor) -> tuple[Tensor, ...]:
    """The operands in `autocast`'s dtype, inside of it."""
    if _tensors.autocast_hook is None:
        return operands
    dtype = _target(tracer(), "lower", operands)
    return operands if dtype is None else tuple(_cast(operand, dtype) for operand in operands)


Settings = tuple[tuple[str, bool, DType], ...]
_OFF: Settings = tuple((kind, False, dtype) for kind, dtype in DEFAULT_DTYPES.items())


def settings_now() -> Settings:
    """For each type of device whether the calling thread is inside `autocast`, and the dtype."""
    own = tracer().autocast
    if own is None:
        return _OFF
    return tuple([(kind, kind in own.enabled, dtype) for kind, dtype in own.dtypes.items()])


@contextmanager
def with_settings(settings: Settings) -> Iterator[None]:
    """A block with what `settings_now` gave elsewhere."""
    before = settings_now()
    if before == settings:
        yield
        return
    _set(settings)
    try:
        yield
    finally:
        _set(before)


def _set(settings: Settings) -> None:
    for kind, enabled, dtype in settings:
        enable(kind, enabled)
        state().dtypes[kind] = dtype


def cast_tree(tree: Any, dtype: DType) -> Any:
    """A structure of lists, tuples and dicts with its tensors cast."""
    if isinstance(tree, Tensor):
        return _cast(tree, dtype)
    if isinstance(tree, dict):
        return {key: cast_tree(value, dtype) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(cast_tree(item, dtype) for item in tree)
    return tree


def casting(
    policy: str, when: Callable[..., bool] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a function made of several operations: within `autocast` its tensors are cast at the
    start, and nothing else is.

    Args:
        policy: "lower" or "f32", as `Op.autocast`; "widest": f32 if dtypes differ; or "first": a
            first tensor of fewer bits than the others is computed with in f32, and the result has
            its dtype again.
        when: given the arguments, whether there is anything to cast.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if _tensors.autocast_hook is None or not (when is None or when(*args, **kwargs)):
                return function(*args, **kwargs)
            own = tracer()
            given = _given(args, kwargs)
            dtype = _target(own, policy, given)
            if dtype is None:
                return function(*args, **kwargs)
            if policy == "first":
                return _in_f32(function, args, kwargs)
            if policy == "widest" and len({t.dtype for t in given} & _CASTABLE) < 2:
                return function(*args, **kwargs)
            device = _device_of(given)
            own.autocast.enabled.discard(device)
            try:
                return function(*cast_tree(args, dtype), **cast_tree(kwargs, dtype))
            finally:
                own.autocast.enabled.add(device)

        return wrapped

    return decorate


def _given(args: Any, kwargs: Any) -> list[Tensor]:
    return [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]


def _in_f32(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    given = _given(args, kwargs)
    dtype = given[0].dtype if given else f32
    if dtype not in (bf16, f16) or all(tensor.dtype is dtype for tensor in given):
        return function(*args, **kwargs)
    return cast_tree(function(*cast_tree(args, f32), **cast_tree(kwargs, f32)), dtype)


# Functions of `braze.nn.functional` that are made of several operations.
_IN_F32 = """
adaptive_avg_pool3d adaptive_max_pool3d adaptive_max_pool3d_with_indices avg_pool3d
binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy ctc_loss
fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d
fractional_max_pool3d_with_indices grid_sample hinge_embedding_loss huber_loss kl_div
margin_ranking_loss max_pool3d max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d
multi_margin_loss multilabel_margin_loss nll_loss poisson_nll_loss soft_margin_loss
triplet_margin_loss
""".split()
_LOWER = "affine_grid conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d prelu".split()
_FIRST = "batch_norm group_norm instance_norm layer_norm rms_norm".split()


def _by_values(input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> bool:
    return mode in ("reflect", "replicate")


def cast_functions(functions: dict[str, Any]) -> None:
    """Decorate those functions of `braze.nn.functional` that need it, in its namespace."""
    policies = [(_IN_F32, "f32"), (_LOWER, "lower"), (_FIRST, "first")]
    for names, policy in policies:
        for name in names:
            functions[name] = casting(policy)(functions[name])
    functions["pad"] = casting("f32", _by_values)(functions["pad"])
