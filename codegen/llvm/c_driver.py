"""What calls a compiled graph where there is no Python: the functions behind a model's C header.

In: a model's name, how many sizes calls choose, and the place of a call's pointers.  Out: LLVM IR,
which needs the C library and threads, and next to it the tables of `braze.codegen.llvm.c_tables`.

    NAME_create(i32 threads, ptr error) -> model       null after an error
    NAME_run(model, [i64 size, ...] inputs, outputs, error) -> i32
    NAME_destroy(model)

A model is one block: its fields, a word for each worker's thread, and the pool. Each call needs
memory of its own, a *context*: the status block, the pointers that the code is given, and a block
with the arena and the threads' workspaces. Contexts form a list that only grows, at its head, by
compare-and-exchange; a call takes the first that is free, or adds one. So calls on one model run
side by side without a lock, and a child of `fork` finds nothing that another thread holds for good,
but a context that it was using. Nor does it find workers; a parallel region then runs on its caller
(`braze.codegen.llvm.pool`), and `destroy` leaves out to wait for them.

A context remembers the code and the sizes that it was last used for: addresses of weights, places
in the arena and the ranges of checks are written once.

    model:    variant, threads, pool, process, head of contexts, workers, started
    context:  0 next, 8 busy, 16 code, 24 size, 32 block, 40 its bytes, 48 other size, 64 status,
              128 facts (arena bytes, bytes of scratch, low and high of each check), pointers
"""

from __future__ import annotations

from string import Template

from braze.codegen.llvm.c_create import CREATE, DESTROY
from braze.codegen.llvm.c_memory import MEMORY
from braze.codegen.llvm.c_processor import processor_text
from braze.codegen.llvm.c_reports import CODES, MESSAGE_BYTES, REPORTS, TEXTS, constant_text
from braze.codegen.llvm.c_run import RUN
from braze.codegen.llvm.c_sizes import SAY_SIZE, size_texts
from braze.ir.target import AARCH64_TRIPLE, FAILED, FINISHED, VALUE, X86_64_TRIPLE, Target

MOST_THREADS = 4096
FACTS, FACTS_FIRST = 128, 2  # where a context's facts lie, and how many precede those of checks

# What the object may leave for the linker to find.
LIBRARY = (
    "clock_gettime", "free", "getauxval", "getpid", "madvise", "memcpy", "memmove", "memset",
    "posix_memalign", "pthread_create", "pthread_join", "pthread_sigmask", "sched_getaffinity",
    "sigfillset", "snprintf", "syscall",
)  # fmt: skip

# An idle thread looks for work so long, in nanoseconds, before it sleeps; the second where there
# are more threads than processors. The same as in Python (`braze.runtime.pool`).
_PATIENCE, _CROWDED_PATIENCE = 100_000, 1_000
_MEASURED = 20_000
# Processors' clocks tick more slowly than this. If the system runs something else in the middle of
# the measurement, patience is no longer than by so much.
_MOST_TICKS = 8

_BASELINES = {
    "x86_64": Target("x86-64", X86_64_TRIPLE, "x86-64", (), 128, 16, 32 << 10, 256 << 10),
    "aarch64": Target(
        "aarch64", AARCH64_TRIPLE, "generic", ("fp-armv8", "neon"), 128, 32, 64 << 10, 512 << 10
    ),
}


def baseline(architecture: str) -> Target:
    """What any processor can run: it has to say whether it can run more."""
    return _BASELINES[architecture]


def driver_text(
    name: str, architecture: str, *, sizes: int, pointers: int, context_bytes: int
) -> str:
    """The functions.

    Args:
        sizes: how many of them a call chooses.
        pointers: where in a context they lie. context_bytes: the size of one.
    """
    values = {
        "NAME": name,
        "FACTS": FACTS,
        "POINTERS": pointers,
        "CONTEXT_BYTES": context_bytes,
        "MOST_THREADS": MOST_THREADS,
        "MESSAGE_BYTES": MESSAGE_BYTES,
        "PATIENCE": _PATIENCE,
        "CROWDED": _CROWDED_PATIENCE,
        "MEASURED": _MEASURED,
        "MOST_TICKS": _MOST_TICKS,
        "FAILED": 64 + 8 * FAILED,
        "VALUE": 64 + 8 * VALUE,
        "FINISHED": 64 + 8 * FINISHED,
        **size_texts(sizes),
        **{code: number for number, code in enumerate(CODES)},
    }
    parts = (_DECLARATIONS, REPORTS, SAY_SIZE, MEMORY, CREATE, DESTROY, RUN)
    texts = "".join(constant_text(f"text_{label}", text) for label, text in TEXTS.items())
    return texts + processor_text(architecture) + Template("".join(parts)).substitute(values)


_DECLARATIONS = """
declare i32 @clock_gettime(i32, ptr)
declare void @free(ptr)
declare i32 @getpid()
declare i32 @madvise(ptr, i64, i32)
declare i32 @posix_memalign(ptr, i64, i64)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sigfillset(ptr)
declare i32 @snprintf(ptr, i64, ptr, ...)
declare i64 @syscall(i64, ...)
declare i64 @llvm.ctpop.i64(i64)
declare i64 @llvm.umin.i64(i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

declare hidden i64 @braze_pool_size(i64)
declare hidden void @braze_pool_initialise(ptr, i64, ptr, i64)
declare hidden ptr @braze_pool_slot(ptr, i64)
declare hidden ptr @braze_worker(ptr)
declare hidden void @braze_pool_stop(ptr)
declare hidden i64 @braze_ticks()

%slot = type { ptr, i64, i64 }
%failure = type { ptr, ptr, ptr }
%code = type { [$SIZE_COUNT x i64], [$SIZE_COUNT x i64], ptr, ptr, i64, ptr, ptr }
%variant = type { ptr, i64, ptr, i64, ptr }
%model = type { ptr, i64, ptr, i64, ptr, i64 }

attributes #0 = { nounwind }
attributes #1 = { nounwind noinline }
attributes #2 = { nounwind noinline cold }
"""
