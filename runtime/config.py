"""How to run: one `config` object, and the environment variables that it starts from.

In: ``BRAZE_*`` variables, read once, and assignments at any time.  Out: attributes that are always
valid; a wrong name or value raises and says what is allowed.

    tier             BRAZE_TIER             "auto": a graph is interpreted at first and compiled
                                            when it comes back; "compile"; "interpret"
    background       BRAZE_BACKGROUND       with tier "auto": "auto": what takes long is compiled in
                                            another process while the graph is interpreted;
                                            "always"; "never": the program waits for the compiler
    eager            BRAZE_EAGER            run each operation at once, for debugging
    check            BRAZE_CHECK            compile every graph at once, and compare each of its
                                            kernels with the interpreter whenever it runs
    num_threads      BRAZE_NUM_THREADS      threads of compiled graphs and of the compiler
    cache_dir        BRAZE_CACHE_DIR        where compiled graphs are kept; "" keeps none
    cache_entries    BRAZE_CACHE_ENTRIES    graphs kept in memory
    cache_bytes      BRAZE_CACHE_BYTES      size of cache_dir; the least recently used go first
    dump_dir         BRAZE_DUMP             write every stage of every compile there; "" writes none
    debug            BRAZE_DEBUG            to stderr: 1 pipeline times, 2 graphs, 3 kernels,
                                            4 LLVM source, 5 assembly, each with those before
    trace_limit      BRAZE_TRACE_LIMIT      operations captured before they run unasked
    recompile_limit  BRAZE_RECOMPILE_LIMIT  warn at this many recompiles of one line; 0 never
    dynamic_shapes   BRAZE_DYNAMIC_SHAPES   the third size of a dimension is compiled for all others
    cuda_graphs      BRAZE_CUDA_GRAPHS      on GPUs, launch what runs often as one CUDA graph
    matmul_precision BRAZE_MATMUL_PRECISION on GPUs, products of float32: "highest": as they are;
                                            "high", "medium": rounded to TF32 on tensor cores
    convolution_tf32 BRAZE_CONVOLUTION_TF32 whether that may be done to convolutions, too
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Tier = Literal["auto", "compile", "interpret"]
TIERS: tuple[Tier, ...] = ("auto", "compile", "interpret")
Background = Literal["auto", "always", "never"]
Precision = Literal["highest", "high", "medium"]
PRECISIONS: tuple[Precision, ...] = ("highest", "high", "medium")

SettingValue = str | int | bool


@dataclass(frozen=True, slots=True)
class _Setting:
    """One attribute: its variable, its default, its type, and what values it may have."""

    variable: str
    default: Callable[[], SettingValue]
    kind: type
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int | None = None

    @property
    def allowed(self) -> str:
        """The values it may have, in words."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        if self.kind is bool:
            return "True or False"
        if self.kind is str:
            return "a path, or '' for none"
        if self.most is not None:
            return f"a whole number from {self.least} to {self.most}"
        return f"a whole number, at least {self.least}"

    def check(self, label: str, value: object) -> SettingValue:
        """The value as it is stored.  Raises: ValueError."""
        if self.kind is str and isinstance(value, os.PathLike):
            value = os.fspath(value)
        fits = type(value) is self.kind
        if fits and self.choices:
            fits = value in self.choices
        if fits and isinstance(value, int) and self.kind is int:
            fits = value >= self.least and (self.most is None or value <= self.most)
        if not fits:
            raise ValueError(f"[config] {label} must be {self.allowed}, given {value!r}")
        assert isinstance(value, (str, int))
        return os.path.expanduser(value) if isinstance(value, str) and value else value

    def from_environment(self) -> SettingValue:
        """The variable's value, or the default where it is not set.  Raises: ValueError."""
        text = os.environ.get(self.variable)
        if text is None or (text == "" and self.kind is not str):
            return self.default()
        value: SettingValue = text
        if self.kind is bool and text in ("0", "1"):
            value = text == "1"
        elif self.kind is int and text.isascii() and text.isdigit():
            value = int(text)
        elif self.kind is bool:
            raise ValueError(f"[config] {self.variable} must be 0 or 1, given {text!r}")
        return self.check(self.variable, value)


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _cache_home() -> str:
    base = os.environ.get("XDG_CACHE_HOME")
    return str(Path(base) / "braze" if base else Path("~/.cache/braze").expanduser())


_SETTINGS: dict[str, _Setting] = {
    "tier": _Setting("BRAZE_TIER", lambda: "auto", str, choices=TIERS),
    "background": _Setting(
        "BRAZE_BACKGROUND", lambda: "auto", str, choices=("auto", "always", "never")
    ),
    "eager": _Setting("BRAZE_EAGER", lambda: False, bool),
    "check": _Setting("BRAZE_CHECK", lambda: False, bool),
    "num_threads": _Setting("BRAZE_NUM_THREADS", _processors, int, least=1, most=4096),
    "cache_dir": _Setting("BRAZE_CACHE_DIR", _cache_home, str),
    "cache_entries": _Setting("BRAZE_CACHE_ENTRIES", lambda: 1024, int, least=1),
    "cache_bytes": _Setting("BRAZE_CACHE_BYTES", lambda: 1 << 30, int),
    "dump_dir": _Setting("BRAZE_DUMP", lambda: "", str),
    "debug": _Setting("BRAZE_DEBUG", lambda: 0, int, most=5),
    "trace_limit": _Setting("BRAZE_TRACE_LIMIT", lambda: 20_000, int, least=1),
    "recompile_limit": _Setting("BRAZE_RECOMPILE_LIMIT", lambda: 8, int),
    "dynamic_shapes": _Setting("BRAZE_DYNAMIC_SHAPES", lambda: True, bool),
    "cuda_graphs": _Setting("BRAZE_CUDA_GRAPHS", lambda: False, bool),
    "matmul_precision": _Setting(
        "BRAZE_MATMUL_PRECISION", lambda: "highest", str, choices=PRECISIONS
    ),
    "convolution_tf32": _Setting("BRAZE_CONVOLUTION_TF32", lambda: True, bool),
}


class Config:
    """The settings; see the module's table.

    Example:
        >>> config = Config()
        >>> config.tier = "fast"
        Traceback (most recent call last):
        ValueError: [config] tier must be one of 'auto', 'compile', 'interpret', given 'fast'
        >>> with config.using(debug=2):
        ...     config.debug
        2
    """

    # Slots, since the front end reads some of them for every operation.
    __slots__ = tuple(name for name in _SETTINGS if name != "num_threads")

    tier: Tier
    background: Background
    eager: bool
    check: bool
    cache_dir: str
    cache_entries: int
    cache_bytes: int
    dump_dir: str
    debug: int
    trace_limit: int
    recompile_limit: int
    dynamic_shapes: bool
    cuda_graphs: bool
    matmul_precision: Precision
    convolution_tf32: bool

    def __init__(self) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, _SETTINGS[name].from_environment())

    @property
    def num_threads(self) -> int:
        """Threads of compiled graphs: the pool's own figure."""
        from braze.runtime.pool import get_num_threads

        return get_num_threads()

    @num_threads.setter
    def num_threads(self, threads: int) -> None:
        from braze.runtime.pool import set_num_threads

        set_num_threads(threads)

    def __setattr__(self, name: str, value: object) -> None:
        setting = _SETTINGS.get(name)
        if setting is None:
            raise AttributeError(f"[config] no setting {name!r}; known: {', '.join(_SETTINGS)}")
        object.__setattr__(self, name, setting.check(name, value))

    def __getattr__(self, name: str) -> object:
        raise AttributeError(f"[config] no setting {name!r}; known: {', '.join(_SETTINGS)}")

    @contextmanager
    def using(self, **settings: SettingValue) -> Iterator[Config]:
        """Other settings for a while, in all threads."""
        before = {name: getattr(self, name) for name in settings}
        try:
            for name, value in settings.items():
                setattr(self, name, value)
            yield self
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    def __repr__(self) -> str:
        lines = [f"{name} = {getattr(self, name)!r}" for name in _SETTINGS]
        return "\n".join(lines)


def default_num_threads() -> int:
    """``BRAZE_NUM_THREADS``, else the number of processors that this process may use."""
    return int(_SETTINGS["num_threads"].from_environment())


def default_storage_cache_bytes() -> int:
    """``BRAZE_STORAGE_CACHE_BYTES``, else an eighth of the machine's memory."""
    eighth = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8
    return int(_Setting("BRAZE_STORAGE_CACHE_BYTES", lambda: eighth, int).from_environment())


config = Config()
