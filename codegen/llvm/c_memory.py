"""The memory of calls on a C model, as LLVM IR: contexts, which `braze.codegen.llvm.c_driver`
describes.

In: names in `string.Template`'s form.  Out: ``acquire``, which takes a context for a call, and
``prepare``, which has it ready for a code and sizes.
"""

from __future__ import annotations

from braze.codegen.llvm.c_reports import report

MEMORY = (
    """
define internal ptr @allocate(i64 %alignment, i64 %bytes, ptr %error) #1 {
  %place = alloca ptr
  %failed = call i32 @posix_memalign(ptr %place, i64 %alignment, i64 %bytes)
  %granted = icmp eq i32 %failed, 0
  br i1 %granted, label %done, label %none
done:
  %block = load ptr, ptr %place
  ret ptr %block
none:
"""
    + report("OUT_OF_MEMORY", "memory", "i64 %bytes")
    + """
  ret ptr null
}

; A context that nobody else uses: a free one, or a new one. Null after an error.
define internal ptr @acquire(ptr %model, ptr %error) #1 {
entry:
  %head = getelementptr i8, ptr %model, i64 32
  %first = load atomic ptr, ptr %head acquire, align 8
  br label %look
look:
  %context = phi ptr [ %first, %entry ], [ %next, %busy ]
  %at_end = icmp eq ptr %context, null
  br i1 %at_end, label %add, label %try
try:
  %flag = getelementptr i8, ptr %context, i64 8
  %swap = cmpxchg ptr %flag, i32 0, i32 1 acquire monotonic
  %taken = extractvalue { i32, i1 } %swap, 1
  br i1 %taken, label %found, label %busy
busy:
  %next = load ptr, ptr %context
  br label %look
found:
  ret ptr %context
add:
  %new = call ptr @allocate(i64 64, i64 $CONTEXT_BYTES, ptr %error)
  %failed = icmp eq ptr %new, null
  br i1 %failed, label %none, label %fill
fill:
  call void @llvm.memset.p0.i64(ptr %new, i8 0, i64 $CONTEXT_BYTES, i1 false)
  %new_flag = getelementptr i8, ptr %new, i64 8
  store i32 1, ptr %new_flag
  br label %push
push:
  %before = load atomic ptr, ptr %head monotonic, align 8
  store ptr %before, ptr %new
  %pushed = cmpxchg ptr %head, ptr %before, ptr %new release monotonic
  %done = extractvalue { ptr, i1 } %pushed, 1
  br i1 %done, label %added, label %push
added:
  ret ptr %new
none:
  ret ptr null
}

; Have a context ready for a code and its sizes.
define internal i32 @prepare(${SIZES}ptr %model, ptr %context, ptr %code, ptr %error) #1 {
entry:
  %code_at = getelementptr i8, ptr %context, i64 16
  %block_at = getelementptr i8, ptr %context, i64 32
  %capacity_at = getelementptr i8, ptr %context, i64 40
  %status = getelementptr i8, ptr %context, i64 64
  %facts = getelementptr i8, ptr %context, i64 $FACTS
  %pointers = getelementptr i8, ptr %context, i64 $POINTERS
  store ptr null, ptr %code_at
  %inputs_at = getelementptr %code, ptr %code, i32 0, i32 4
  %inputs = load i64, ptr %inputs_at
  %outputs_at = getelementptr %model, ptr @model, i32 0, i32 3
  %outputs = load i64, ptr %outputs_at
  %memory = add i64 %inputs, %outputs
  %words_from = add i64 %memory, 3
  %words = getelementptr ptr, ptr %pointers, i64 %words_from
  %plan_at = getelementptr %code, ptr %code, i32 0, i32 3
  %plan = load ptr, ptr %plan_at
  call void %plan(${SIZES}ptr %words, ptr %facts)
  %arena = load i64, ptr %facts
  %each_at = getelementptr i64, ptr %facts, i64 1
  %each = load i64, ptr %each_at
  %threads_at = getelementptr i8, ptr %model, i64 8
  %threads = load i64, ptr %threads_at
  %scratch = mul i64 %each, %threads
  %more = add i64 %arena, 127
  %rounded = and i64 %more, -64
  %needed = add i64 %rounded, %scratch
  %capacity = load i64, ptr %capacity_at
  %suffices = icmp ule i64 %needed, %capacity
  br i1 %suffices, label %ready, label %grow
grow:
  %old = load ptr, ptr %block_at
  call void @free(ptr %old)
  store ptr null, ptr %block_at
  store i64 0, ptr %capacity_at
  ; Large blocks on huge pages, if the system has some.
  %large = icmp uge i64 %needed, 4194304
  %alignment = select i1 %large, i64 2097152, i64 64
  %block = call ptr @allocate(i64 %alignment, i64 %needed, ptr %error)
  %failed = icmp eq ptr %block, null
  br i1 %failed, label %none, label %keep
keep:
  store ptr %block, ptr %block_at
  store i64 %needed, ptr %capacity_at
  br i1 %large, label %advise, label %ready
advise:
  call i32 @madvise(ptr %block, i64 %needed, i32 14)
  br label %ready
ready:
  %own = load ptr, ptr %block_at
  %own_scratch = getelementptr i8, ptr %own, i64 %rounded
  %arena_slot = getelementptr ptr, ptr %pointers, i64 %memory
  %scratch_slot = getelementptr ptr, ptr %arena_slot, i64 1
  %status_slot = getelementptr ptr, ptr %arena_slot, i64 2
  store ptr %own, ptr %arena_slot
  store ptr %own_scratch, ptr %scratch_slot
  store ptr %status, ptr %status_slot
  %sources_at = getelementptr %code, ptr %code, i32 0, i32 5
  %sources = load ptr, ptr %sources_at
  br label %weights
weights:
  %i = phi i64 [ 0, %ready ], [ %i_next, %weights_next ]
  %more_inputs = icmp ult i64 %i, %inputs
  br i1 %more_inputs, label %weight, label %done
weight:
  %source_at = getelementptr i64, ptr %sources, i64 %i
  %source = load i64, ptr %source_at
  %is_weight = icmp slt i64 %source, 0
  br i1 %is_weight, label %point, label %weights_next
point:
  %offset = sub i64 -1, %source
  %place = getelementptr i8, ptr @weights, i64 %offset
  %slot = getelementptr ptr, ptr %pointers, i64 %i
  store ptr %place, ptr %slot
  br label %weights_next
weights_next:
  %i_next = add i64 %i, 1
  br label %weights
done:
  store ptr %code, ptr %code_at
$KEEP_SIZES
  ret i32 $OK
none:
  ret i32 $OUT_OF_MEMORY
}
"""
)
