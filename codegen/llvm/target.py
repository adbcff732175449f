"""A `Target` as LLVM's target machine.

In: a `braze.ir.target.Target`.  Out: an llvmlite `TargetMachine` for position-independent code, and
the header that gives IR text the target's triple and data layout.
"""

import os
import threading
from functools import cache

import llvmlite.binding as llvm
from llvmlite.binding import ffi

from braze.ir.target import Target

_initialising = threading.Lock()


def _after_fork() -> None:
    # Another thread of the parent may have been compiling.
    global _initialising
    _initialising = threading.Lock()
    ffi.lib._lock._lock = threading.RLock()  # llvmlite's own, which it does not renew


os.register_at_fork(after_in_child=_after_fork)


@cache
def _initialise_targets() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    # Only the native assembly parser is offered, so IR for another target holds no inline assembly.
    llvm.initialize_native_asmparser()


def create_target_machine(target: Target, level: int = 2) -> llvm.TargetMachine:
    """A new target machine (it is used by one thread at a time); `level` is LLVM's -O level.

    Raises: RuntimeError if LLVM was built without this architecture.
    """
    with _initialising:
        _initialise_targets()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=",".join(f"+{name}" for name in target.features),
        opt=level,
        reloc="pic",
        codemodel="small",
    )


@cache
def _data_layout(target: Target) -> str:
    return str(create_target_machine(target).target_data)


def module_header(target: Target) -> str:
    """``target datalayout = ... target triple = ...`` on one line, to stand before IR text.

    The parser needs the layout first: it fixes the alignment of loads and stores that name none.
    """
    layout = _data_layout(target)
    return f'target datalayout = "{layout}" target triple = "{target.triple}" '
