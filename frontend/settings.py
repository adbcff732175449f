"""Settings that PyTorch programs make, answered for this library: results never depend on threads,
and matrix products have the precision of their dtype unless a lower one is allowed."""

from __future__ import annotations

import warnings

from braze import engine


class _Settings:
    before: tuple[engine.Background, bool] | None = None  # what deterministic algorithms replace
    deterministic = "default"
    interop_threads = 1
    warn_always = False


PRECISIONS = engine.PRECISIONS
DEBUG_MODES = ("default", "warn", "error")


def get_float32_matmul_precision() -> str:
    """`braze.config.matmul_precision`."""
    return engine.config.matmul_precision


def set_float32_matmul_precision(precision: str) -> None:
    """Allow a lower precision for products of float32 matrices: `braze.config.matmul_precision`.

    With "high" and "medium", GPUs of compute capability 8.0 on round factors to TF32, which has 10
    bits of mantissa, and multiply them on tensor cores; so does
    `backends.cuda.matmul.allow_tf32 = True`, which is the same setting. CPUs do not.

    Warns:
        UserWarning: it is none of "highest", "high" and "medium", and is not set.
    """
    if precision not in PRECISIONS:
        warnings.warn(f"{precision} is not one of {PRECISIONS}; it has no effect", stacklevel=2)
    else:
        engine.config.matmul_precision = precision  # type: ignore[assignment]


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Ask for results that repeat themselves.

    The algorithms always do. What is interpreted until compiled code is there rounds otherwise, so
    the program waits for the compiler from now on: `braze.config.background` becomes "never". So
    does code for one size and for many: `braze.config.dynamic_shapes` becomes False.
    """
    _Settings.deterministic = "default" if not mode else "warn" if warn_only else "error"
    config = engine.config
    if mode and _Settings.before is None:
        _Settings.before = config.background, config.dynamic_shapes
        config.background, config.dynamic_shapes = "never", False
    elif not mode and _Settings.before is not None:
        config.background, config.dynamic_shapes = _Settings.before
        _Settings.before = None


def are_deterministic_algorithms_enabled() -> bool:
    """Whether `use_deterministic_algorithms` asked for them."""
    return _Settings.deterministic != "default"


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether `use_deterministic_algorithms` was called with `warn_only`."""
    return _Settings.deterministic == "warn"


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """`use_deterministic_algorithms` by a word or number: "default" or 0, "warn" or 1, "error" or
    2.

    Raises:
        RuntimeError: another one. TypeError: neither a word nor a number.
    """
    if not isinstance(debug_mode, (int, str)):
        raise TypeError(f"debug_mode must be str or int, but got {type(debug_mode)}")
    if isinstance(debug_mode, int) and 0 <= debug_mode < len(DEBUG_MODES):
        debug_mode = DEBUG_MODES[debug_mode]
    if debug_mode not in DEBUG_MODES:
        raise RuntimeError(
            "invalid value of debug_mode, expected one of `default`, `warn`, `error` or 0, 1, 2, "
            f"but got {debug_mode}"
        )
    use_deterministic_algorithms(debug_mode != "default", warn_only=debug_mode == "warn")


def get_deterministic_debug_mode() -> int:
    """0, 1 or 2, as `set_deterministic_debug_mode` takes it."""
    return DEBUG_MODES.index(_Settings.deterministic)


def set_num_interop_threads(num: int) -> None:
    """How many graphs may run at once, in PyTorch; here it is one for each calling thread.

    Raises:
        RuntimeError: the number is not positive.
    """
    if num <= 0:
        raise RuntimeError("set_num_interop_threads expects a positive integer")
    _Settings.interop_threads = num


def get_num_interop_threads() -> int:
    """What was set; 1 by default."""
    return _Settings.interop_threads


def set_warn_always(b: bool) -> None:
    """Note whether warnings should come each time; Python's filters decide about that here."""
    _Settings.warn_always = bool(b)


def is_warn_always_enabled() -> bool:
    """What `set_warn_always` noted."""
    return _Settings.warn_always


def compiled_with_cxx11_abi() -> bool:
    """Whether the library was built with the C++11 ABI; True, as in any current PyTorch."""
    return True


def is_vulkan_available() -> bool:
    """Whether there is a Vulkan backend: False."""
    return False


FUNCTIONS = {
    function.__name__: function
    for function in (
        get_float32_matmul_precision, set_float32_matmul_precision, use_deterministic_algorithms,
        are_deterministic_algorithms_enabled, is_deterministic_algorithms_warn_only_enabled,
        set_deterministic_debug_mode, get_deterministic_debug_mode, set_num_interop_threads,
        get_num_interop_threads, set_warn_always, is_warn_always_enabled, compiled_with_cxx11_abi,
        is_vulkan_available,
    )
}  # fmt: skip
