"""The thread pool that compiled graphs call, as LLVM IR.

In: a `Target`.  Out: the text of a module that depends on nothing, libc included: the one system
call it makes goes through a pointer in the pool (`syscall(2)`), since inline assembly could not be
assembled for another machine than the compiler's own.

    braze_pool_size(i64 threads) -> i64        bytes of zeroed, 64-byte aligned memory for a pool
    braze_pool_initialise(pool, i64 threads, syscall, i64 patience)    in ticks
    braze_pool_slot(pool, i64 index) -> ptr    the argument of worker `index` (1 <= index < threads)
    braze_worker(slot) -> null                 a worker's whole life, for pthread_create
    braze_parallel(pool, fn, buffers, i64 chunks)
    braze_pool_stop(pool)                      tell every worker to return, as soon as it is idle
    braze_ticks() -> i64                       the clock that patience is measured by

The pool's first word is the address of braze_parallel, which calls ``fn(buffers, chunk, thread)``
once for every chunk, on the calling thread as thread 0 and on workers, and returns when all are
done.  A call made while the pool is busy (by another thread, or from inside a chunk) runs its
chunks itself, in order, as thread 0: it never waits for the pool.

How a region runs.  `next` is negative exactly while chunks are unclaimed: its upper half is minus
their number, its lower half how many were handed out from the end. The caller adds 1 to the upper
half and takes the first of what is left; a worker adds 1 to both and takes the last. So a thread
works in region after region on the same end of the data, which its own caches may still hold. A
claim is valid or not by itself, whatever job a late worker had in mind, and whoever holds a valid
claim reads the job's fields afterwards: its chunk is still pending, so the caller cannot have moved
on.  `pending` counts chunks that are not finished; each thread subtracts its share once.  Idle
workers spin, then sleep on `epoch` (a futex).  Going to sleep (count oneself in `sleepers`, then
look at `next`) and publishing (store `next`, then look at `sleepers`) are sequentially consistent,
so one sees the other; no system call is made while nobody sleeps.
"""

from braze.codegen.llvm.compile import compile_object
from braze.ir.target import Target

# Byte offsets in the pool.  Words that different threads write lie on different cache lines, two
# lines apart because processors fetch lines in pairs.  The job's fields share `next`'s line: who
# claims a chunk has just fetched it.
_PARALLEL, _THREADS, _SYSCALL, _PATIENCE = 0, 8, 16, 24
_NEXT, _FUNCTION, _BUFFERS, _CHUNKS = 128, 136, 144, 152
_PENDING = 256
_BUSY = 384
_SLEEPERS, _EPOCH, _STOP = 512, 516, 520
_SLOTS, _SLOT_BYTES = 640, 16

# What other code calls by name.
POOL_SYMBOLS = (
    "braze_pool_size", "braze_pool_initialise", "braze_pool_slot", "braze_pool_stop",
    "braze_worker", "braze_ticks",
)  # fmt: skip

# x86's time stamps and aarch64's virtual counter: both run at one rate all the time.
CLOCK = "llvm.readcyclecounter"
_TICKS = f"call i64 @{CLOCK}()"

# What a claim adds to `next`, the mask of its lower half, and the least value with one chunk left.
_FROM_START, _FROM_END = 1 << 32, (1 << 32) + 1
_LOWER = (1 << 32) - 1
_LAST = -(1 << 32)

_FUTEX_WAIT_PRIVATE, _FUTEX_WAKE_PRIVATE = 128, 129

# Per architecture: the pause instruction, ticks between pauses, and the numbers of futex(2) and
# sched_yield(2). How long x86's pause takes depends on the processor and on what its core's other
# thread does, so that pauses are no measure of time. Pauses less than 128 cycles apart are counted
# by virtual machines, which after some thousand cycles of them take the processor away (Intel's
# manual, volume 3, "PAUSE-loop exiting"). aarch64's `isb` waits some tens of cycles, whereas its
# `yield` is most often no wait at all.
_MACHINES = {
    "x86_64": ("llvm.x86.sse2.pause", "", 200, 202, 24),
    "aarch64": ("llvm.aarch64.isb", "i32 15", 0, 98, 124),
}


def pool_object(target: Target) -> bytes:
    """The pool's module, compiled.  Raises: ValueError for an architecture without a pool."""
    return compile_object(pool_module(target), target)


def pool_module(target: Target) -> str:
    """The pool's LLVM IR.  Raises: ValueError for an architecture without a pool."""
    if target.architecture not in _MACHINES:
        raise ValueError(f"[pool] no thread pool for {target.architecture}")
    intrinsic, argument, apart, futex, sched_yield = _MACHINES[target.architecture]
    pause = f"call void @{intrinsic}({argument})"
    return "\n".join(
        [
            f"declare void @{intrinsic}({argument.split(' ')[0]})",
            f"declare i64 @{CLOCK}()",
            _system_calls(futex, sched_yield),
            _parallel(pause, apart),
            _worker(pause, apart),
            _administration(),
            "attributes #0 = { nounwind }",
            "attributes #1 = { nounwind noinline cold }",
            "",
        ]
    )


def _field(name: str, offset: int, pool: str = "%pool") -> str:
    return f"  %{name} = getelementptr i8, ptr {pool}, i64 {offset}"


def _system_calls(futex: int, sched_yield: int) -> str:
    return f"""
define internal void @wake(ptr %pool, i64 %count) #1 {{
{_field("epoch", _EPOCH)}
{_field("syscall_at", _SYSCALL)}
  %old = atomicrmw add ptr %epoch, i32 1 seq_cst
  %syscall = load ptr, ptr %syscall_at
  %r = call i64 (i64, ...) %syscall(i64 {futex}, ptr %epoch, i64 {_FUTEX_WAKE_PRIVATE}, i64 %count)
  ret void
}}

define internal void @sleep(ptr %pool, i32 %seen) #1 {{
{_field("epoch", _EPOCH)}
{_field("syscall_at", _SYSCALL)}
  %syscall = load ptr, ptr %syscall_at
  %wide = zext i32 %seen to i64
  %r = call i64 (i64, ...) %syscall(
      i64 {futex}, ptr %epoch, i64 {_FUTEX_WAIT_PRIVATE}, i64 %wide, ptr null)
  ret void
}}

define internal void @give_way(ptr %pool) #1 {{
{_field("syscall_at", _SYSCALL)}
  %syscall = load ptr, ptr %syscall_at
  %r = call i64 (i64, ...) %syscall(i64 {sched_yield})
  ret void
}}"""


def _look_again(label: str, loop: str, over: str, pause: str, apart: int) -> str:
    """Blocks from `label` on that go back to `loop`, whose %paused says when there was a pause, or
    to `over` once more than %patience has passed since %since."""
    return f"""{label}:
  %now = {_TICKS}
  %waited = sub i64 %now, %since
  %patient = icmp ult i64 %waited, %patience
  br i1 %patient, label %look_pause, label %{over}
look_pause:
  %unpaused = sub i64 %now, %paused
  %pauses = icmp uge i64 %unpaused, {apart}
  br i1 %pauses, label %pause, label %{loop}
pause:
  {pause}
  br label %{loop}"""


def _parallel(pause: str, apart: int) -> str:
    return f"""
define void @braze_parallel(ptr %pool, ptr %fn, ptr %buffers, i64 %chunks) #0 {{
entry:
{_field("threads_at", _THREADS)}
{_field("next", _NEXT)}
{_field("fn_at", _FUNCTION)}
{_field("buffers_at", _BUFFERS)}
{_field("chunks_at", _CHUNKS)}
{_field("pending", _PENDING)}
{_field("busy", _BUSY)}
{_field("sleepers", _SLEEPERS)}
{_field("patience_at", _PATIENCE)}
  %threads = load i64, ptr %threads_at
  %one_thread = icmp sle i64 %threads, 1
  %fewer = sub i64 %chunks, 2
  %uncountable = icmp ugt i64 %fewer, 2147483645
  %alone = or i1 %one_thread, %uncountable
  br i1 %alone, label %serial_entry, label %enter
enter:
  %swap = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic
  %entered = extractvalue {{ i32, i1 }} %swap, 1
  br i1 %entered, label %publish, label %serial_entry

publish:
  store ptr %fn, ptr %fn_at
  store ptr %buffers, ptr %buffers_at
  store i64 %chunks, ptr %chunks_at
  store atomic i64 %chunks, ptr %pending monotonic, align 8
  %shifted = shl i64 %chunks, 32
  %first = sub i64 0, %shifted
  store atomic i64 %first, ptr %next seq_cst, align 8
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %anyone_asleep = icmp ne i32 %asleep, 0
  br i1 %anyone_asleep, label %rouse, label %work
rouse:
  %others = sub i64 %chunks, 1
  %capped = call i64 @llvm.smin.i64(i64 %others, i64 2147483647)
  call void @wake(ptr %pool, i64 %capped)
  br label %work

work:
  %done = phi i64 [ 0, %publish ], [ 0, %rouse ], [ %done_more, %claimed ]
  %claim = atomicrmw add ptr %next, i64 {_FROM_START} acq_rel
  %valid = icmp slt i64 %claim, 0
  br i1 %valid, label %claimed, label %finish
claimed:
  %unclaimed = ashr i64 %claim, 32
  %from_end = and i64 %claim, {_LOWER}
  %not_at_end = sub i64 %chunks, %from_end
  %chunk = add i64 %not_at_end, %unclaimed
  call void %fn(ptr %buffers, i64 %chunk, i64 0)
  %done_more = add i64 %done, 1
  %was_last = icmp eq i64 %unclaimed, -1
  br i1 %was_last, label %finish, label %work
finish:
  %mine = phi i64 [ %done, %work ], [ %done_more, %claimed ]
  %before = atomicrmw sub ptr %pending, i64 %mine acq_rel
  %nothing_left = icmp eq i64 %before, %mine
  br i1 %nothing_left, label %leave, label %wait_first

wait_first:
  %patience = load i64, ptr %patience_at
  %since = {_TICKS}
  br label %wait
wait:
  %paused = phi i64 [ %since, %wait_first ], [ %paused, %look_pause ], [ %now, %pause ],
                [ %paused, %wait_yield ]
  %left = load atomic i64, ptr %pending acquire, align 8
  %complete = icmp eq i64 %left, 0
  br i1 %complete, label %leave, label %wait_longer
{_look_again("wait_longer", "wait", "wait_yield", pause, apart)}
wait_yield:
  call void @give_way(ptr %pool)
  br label %wait
leave:
  store atomic i32 0, ptr %busy release, align 4
  ret void

serial_entry:
  %any = icmp sgt i64 %chunks, 0
  br i1 %any, label %serial, label %return
serial:
  %i = phi i64 [ 0, %serial_entry ], [ %i_more, %serial ]
  call void %fn(ptr %buffers, i64 %i, i64 0)
  %i_more = add i64 %i, 1
  %again = icmp slt i64 %i_more, %chunks
  br i1 %again, label %serial, label %return
return:
  ret void
}}
declare i64 @llvm.smin.i64(i64, i64)"""


def _worker(pause: str, apart: int) -> str:
    return f"""
define ptr @braze_worker(ptr %slot) #0 {{
entry:
  %pool = load ptr, ptr %slot
  %index_at = getelementptr i8, ptr %slot, i64 8
  %index = load i64, ptr %index_at
{_field("next", _NEXT)}
{_field("fn_at", _FUNCTION)}
{_field("buffers_at", _BUFFERS)}
{_field("chunks_at", _CHUNKS)}
{_field("pending", _PENDING)}
{_field("sleepers", _SLEEPERS)}
{_field("epoch", _EPOCH)}
{_field("stop", _STOP)}
{_field("patience_at", _PATIENCE)}
  %patience = load i64, ptr %patience_at
  br label %rest

rest:
  %since = {_TICKS}
  br label %idle
idle:
  %paused = phi i64 [ %since, %rest ], [ %paused, %look_pause ], [ %now, %pause ]
  %seen = load atomic i64, ptr %next monotonic, align 8
  %available = icmp slt i64 %seen, 0
  br i1 %available, label %claim_first, label %look_stop
look_stop:
  %stopping = load atomic i32, ptr %stop monotonic, align 4
  %stopped = icmp ne i32 %stopping, 0
  br i1 %stopped, label %return, label %look_clock
{_look_again("look_clock", "idle", "drowsy", pause, apart)}

drowsy:
  %s0 = atomicrmw add ptr %sleepers, i32 1 seq_cst
  %slept_at = load atomic i32, ptr %epoch seq_cst, align 4
  %last_look = load atomic i64, ptr %next seq_cst, align 8
  %last_stop = load atomic i32, ptr %stop seq_cst, align 4
  %no_work = icmp sge i64 %last_look, 0
  %no_stop = icmp eq i32 %last_stop, 0
  %may_sleep = and i1 %no_work, %no_stop
  br i1 %may_sleep, label %asleep, label %woken
asleep:
  call void @sleep(ptr %pool, i32 %slept_at)
  br label %woken
woken:
  %s1 = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %rest

claim_first:
  %claim = atomicrmw add ptr %next, i64 {_FROM_END} acq_rel
  %valid = icmp slt i64 %claim, 0
  br i1 %valid, label %job, label %too_late
too_late:
  br label %rest
job:
  %fn = load ptr, ptr %fn_at
  %buffers = load ptr, ptr %buffers_at
  %chunks = load i64, ptr %chunks_at
  %last = sub i64 %chunks, 1
  br label %chunk_body
chunk_body:
  %held = phi i64 [ %claim, %job ], [ %claim_next, %claim_more ]
  %done = phi i64 [ 1, %job ], [ %done_more, %claim_more ]
  %from_end = and i64 %held, {_LOWER}
  %chunk = sub i64 %last, %from_end
  call void %fn(ptr %buffers, i64 %chunk, i64 %index)
  %was_last = icmp uge i64 %held, {_LAST}
  br i1 %was_last, label %report, label %claim_more
claim_more:
  %done_more = add i64 %done, 1
  %claim_next = atomicrmw add ptr %next, i64 {_FROM_END} acq_rel
  %valid_next = icmp slt i64 %claim_next, 0
  br i1 %valid_next, label %chunk_body, label %report
report:
  %p = atomicrmw sub ptr %pending, i64 %done acq_rel
  br label %rest

return:
  ret ptr null
}}"""


def _administration() -> str:
    return f"""
define i64 @braze_pool_size(i64 %threads) #0 {{
  %slots = mul i64 %threads, {_SLOT_BYTES}
  %size = add i64 %slots, {_SLOTS}
  ret i64 %size
}}

define void @braze_pool_initialise(ptr %pool, i64 %threads, ptr %syscall, i64 %patience) #0 {{
entry:
{_field("threads_at", _THREADS)}
{_field("syscall_at", _SYSCALL)}
{_field("patience_at", _PATIENCE)}
{_field("stop", _STOP)}
  store ptr @braze_parallel, ptr %pool
  store i64 %threads, ptr %threads_at
  store ptr %syscall, ptr %syscall_at
  store i64 %patience, ptr %patience_at
  store atomic i32 0, ptr %stop seq_cst, align 4
  ret void
}}

define ptr @braze_pool_slot(ptr %pool, i64 %index) #0 {{
  %offset = mul i64 %index, {_SLOT_BYTES}
  %from = add i64 %offset, {_SLOTS}
  %slot = getelementptr i8, ptr %pool, i64 %from
  %index_at = getelementptr i8, ptr %slot, i64 8
  store ptr %pool, ptr %slot
  store i64 %index, ptr %index_at
  ret ptr %slot
}}

define void @braze_pool_stop(ptr %pool) #0 {{
{_field("stop", _STOP)}
  store atomic i32 1, ptr %stop seq_cst, align 4
  call void @wake(ptr %pool, i64 2147483647)
  ret void
}}

define i64 @braze_ticks() #0 {{
  %ticks = {_TICKS}
  ret i64 %ticks
}}"""
