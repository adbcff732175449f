"""`autocast`: matrix products and convolutions in 16 bits, losses in 32, without touching the
model."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from braze.casting import DEFAULT_DTYPES, cast_tree, enable, state
from braze.devices import has_gpus
from braze.ir.dtypes import DType, bf16, f16

_SUPPORTED = (bf16, f16)


def is_autocast_available(device_type: str) -> bool:
    """Whether `autocast` takes this type of device.

    Raises:
        TypeError: it is no string.
    """
    if not isinstance(device_type, str):
        raise TypeError(
            "is_autocast_available(): argument 'device_type' (position 1) must be str, not "
            f"{type(device_type).__name__}"
        )
    return device_type in DEFAULT_DTYPES


def _check_text(device_type: Any) -> None:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")


def _check(device_type: str) -> str:
    if not is_autocast_available(device_type):
        raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
    return device_type


# The thread's settings ----------------------------------------------------------------------------


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether operations on this type of device are cast now."""
    return _check(device_type) in state().enabled


def set_autocast_enabled(device_type: str | bool, enabled: bool | None = None) -> None:
    """Switch the casts on or off; with one argument, PyTorch's older form, for "cuda"."""
    if enabled is None:
        device_type, enabled = "cuda", bool(device_type)
    if not isinstance(device_type, str):
        raise TypeError(
            "set_autocast_enabled(): argument 'device_type' (position 1) must be str, not "
            f"{type(device_type).__name__}"
        )
    enable(_check(device_type), enabled)


def get_autocast_dtype(device_type: str) -> DType:
    """What matrix products and convolutions are cast to."""
    return state().dtypes[_check(device_type)]


def set_autocast_dtype(device_type: str, dtype: DType) -> None:
    """Set what matrix products and convolutions are cast to."""
    state().dtypes[_check(device_type)] = dtype


def is_autocast_cpu_enabled() -> bool:
    """`is_autocast_enabled("cpu")`."""
    return is_autocast_enabled("cpu")


def set_autocast_cpu_enabled(enabled: bool) -> None:
    """`set_autocast_enabled("cpu", enabled)`."""
    enable("cpu", enabled)


def get_autocast_cpu_dtype() -> DType:
    """`get_autocast_dtype("cpu")`."""
    return get_autocast_dtype("cpu")


def set_autocast_cpu_dtype(dtype: DType) -> None:
    """`set_autocast_dtype("cpu", dtype)`."""
    set_autocast_dtype("cpu", dtype)


def get_autocast_gpu_dtype() -> DType:
    """`get_autocast_dtype("cuda")`."""
    return get_autocast_dtype("cuda")


def set_autocast_gpu_dtype(dtype: DType) -> None:
    """`set_autocast_dtype("cuda", dtype)`."""
    set_autocast_dtype("cuda", dtype)


def is_autocast_cache_enabled() -> bool:
    """The setting; a parameter is cast once in an iteration whatever it is."""
    return state().cache


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Change the setting."""
    state().cache = bool(enabled)


def clear_autocast_cache() -> None:
    """Nothing is kept from one iteration to the next."""


def autocast_increment_nesting() -> int:
    """Count one more block around; returns how many there are."""
    own = state()
    own.nesting += 1
    return own.nesting


def autocast_decrement_nesting() -> int:
    """Count one block less; returns how many there are."""
    own = state()
    own.nesting -= 1
    return own.nesting


# The block ----------------------------------------------------------------------------------------


class autocast:
    """A `with` block, or decorator, in which operations choose the dtype they compute in: matrix
    products and convolutions bfloat16 (or `dtype`), losses and what needs range float32. Everything
    else computes in what it is given.

    Args:
        device_type: "cpu" or "cuda", of the operands; "cuda" does nothing without a GPU.
        dtype: bfloat16 or float16.
        enabled: False switches it off inside another block.
        cache_enabled: accepted; equal casts are merged by the compiler.

    Raises:
        ValueError: the device type is no string. RuntimeError: there is none of that name.

    Example:
        >>> import braze
        >>> x = braze.ones(2, 2)
        >>> with braze.autocast("cpu"):
        ...     print((x @ x).dtype, (x + x).dtype)
        braze.bfloat16 braze.float32
    """

    def __init__(
        self,
        device_type: str,
        dtype: DType | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        _check_text(device_type)
        self.device = _check(device_type)
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else dtype
        self._cache_enabled = (
            is_autocast_cache_enabled() if cache_enabled is None else cache_enabled
        )
        if enabled and device_type == "cuda" and not has_gpus():
            warnings.warn("CUDA is not available. Disabling autocast.", UserWarning, stacklevel=2)
            enabled = False
        if enabled and self.fast_dtype not in _SUPPORTED:
            warnings.warn(
                f"In {device_type.upper()} autocast, but the target dtype is not supported. "
                f"Disabling autocast.\n{device_type.upper()} Autocast only supports dtypes of "
                f"{', '.join(map(repr, _SUPPORTED))} currently.",
                UserWarning,
                stacklevel=2,
            )
            enabled = False
        self._enabled = enabled
        self._before: list[tuple[bool, DType, bool]] = []

    def __enter__(self) -> autocast:
        own, device = state(), self.device
        self._before.append((device in own.enabled, own.dtypes[device], own.cache))
        enable(device, self._enabled)
        own.dtypes[device] = self.fast_dtype
        own.cache = self._cache_enabled
        own.nesting += 1
        return self

    def __exit__(self, *error: object) -> None:
        own, device = state(), self.device
        own.nesting -= 1
        enabled, own.dtypes[device], own.cache = self._before.pop()
        enable(device, enabled)

    def __call__(self, func: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(func):
            raise TypeError(
                f"autocast()(func) requires a callable, but got {type(func).__name__}. Did you "
                "mean to use autocast as a context manager?"
            )

        @functools.wraps(func)
        def decorated(*args: Any, **kwargs: Any) -> Any:
            with self:
                return func(*args, **kwargs)

        return decorated


# Functions with a gradient of their own -----------------------------------------------------------


def custom_fwd(
    fwd: Callable[..., Any] | None = None, *, device_type: str, cast_inputs: DType | None = None
) -> Callable[..., Any]:
    """Decorate the `forward` of an `autograd.Function` for use inside `autocast`.

    Args:
        cast_inputs: inside `autocast`, cast the floating-point tensors given to this dtype, and run
            `forward` without it. None leaves it on.
    """
    _check_text(device_type)
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        on = is_autocast_enabled(device_type)
        ctx._dtype = get_autocast_dtype(device_type)
        ctx._fwd_used_autocast = on and cast_inputs is None
        if cast_inputs is None or not on:
            return fwd(ctx, *args, **kwargs)
        with autocast(device_type, enabled=False):
            return fwd(ctx, *cast_tree(args, cast_inputs), **cast_tree(kwargs, cast_inputs))

    return decorated


def custom_bwd(bwd: Callable[..., Any] | None = None, *, device_type: str) -> Callable[..., Any]:
    """Decorate the `backward` that belongs to a `custom_fwd`: it runs in `autocast` if that did."""
    _check_text(device_type)
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        with autocast(device_type, ctx._dtype, ctx._fwd_used_autocast):
            return bwd(ctx, *args, **kwargs)

    return decorated


NAMES = (
    "autocast_decrement_nesting autocast_increment_nesting clear_autocast_cache "
    "get_autocast_cpu_dtype get_autocast_dtype get_autocast_gpu_dtype "
    "is_autocast_cache_enabled is_autocast_cpu_enabled is_autocast_enabled "
    "set_autocast_cache_enabled set_autocast_cpu_dtype set_autocast_cpu_enabled "
    "set_autocast_dtype set_autocast_enabled set_autocast_gpu_dtype"
).split()
FUNCTIONS: dict[str, Any] = {name: globals()[name] for name in NAMES} | {"autocast": autocast}
