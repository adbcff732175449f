"""Making and ending a C model, as LLVM IR.

In: names in `string.Template`'s form.  Out: ``NAME_create``, which chooses the code that the
processor can run, starts the threads and takes the memory of the first call, and ``NAME_destroy``.
"""

from __future__ import annotations

from braze.codegen.llvm.c_reports import report

CREATE = (
    """
; How many processors this process may use.
define internal i64 @available() #1 {
entry:
  %mask = alloca [128 x i64], align 8
  call void @llvm.memset.p0.i64(ptr %mask, i8 0, i64 1024, i1 false)
  %failed = call i32 @sched_getaffinity(i32 0, i64 1024, ptr %mask)
  br label %count
count:
  %i = phi i64 [ 0, %entry ], [ %i_next, %count ]
  %sum = phi i64 [ 0, %entry ], [ %sum_next, %count ]
  %at = getelementptr i64, ptr %mask, i64 %i
  %word = load i64, ptr %at
  %bits = call i64 @llvm.ctpop.i64(i64 %word)
  %sum_next = add i64 %sum, %bits
  %i_next = add i64 %i, 1
  %again = icmp ult i64 %i_next, 128
  br i1 %again, label %count, label %done
done:
  %none = icmp eq i64 %sum_next, 0
  %found = select i1 %none, i64 1, i64 %sum_next
  %fine = icmp eq i32 %failed, 0
  %result = select i1 %fine, i64 %found, i64 1
  %capped = call i64 @llvm.umin.i64(i64 %result, i64 $MOST_THREADS)
  ret i64 %capped
}

define internal i64 @nanoseconds() #1 {
  %time = alloca [2 x i64], align 8
  call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %rest_at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest_at
  %all = mul i64 %seconds, 1000000000
  %sum = add i64 %all, %rest
  ret i64 %sum
}

; How many ticks of the pool's clock an idle thread waits before it sleeps.
define internal i64 @patience(i64 %threads) #1 {
entry:
  %one = icmp ule i64 %threads, 1
  br i1 %one, label %nobody, label %measure
nobody:
  ret i64 0
measure:
  %processors = call i64 @available()
  %crowded = icmp ugt i64 %threads, %processors
  %wanted = select i1 %crowded, i64 $CROWDED, i64 $PATIENCE
  %begin = call i64 @nanoseconds()
  %first = call i64 @braze_ticks()
  br label %spin
spin:
  %now = call i64 @nanoseconds()
  %passed = sub i64 %now, %begin
  %short = icmp ult i64 %passed, $MEASURED
  br i1 %short, label %spin, label %over
over:
  %last = call i64 @braze_ticks()
  %ticks = sub i64 %last, %first
  %product = mul i64 %ticks, %wanted
  %measured = udiv i64 %product, %passed
  %most = mul i64 %wanted, $MOST_TICKS
  %result = call i64 @llvm.umin.i64(i64 %measured, i64 %most)
  ret i64 %result
}

; The first feature of a code from number `from` on that the processor lacks, or their number.
define internal i64 @lacking(ptr %variant, i64 %from) #1 {
entry:
  %count_at = getelementptr %variant, ptr %variant, i32 0, i32 1
  %count = load i64, ptr %count_at
  %features_at = getelementptr %variant, ptr %variant, i32 0, i32 2
  %features = load ptr, ptr %features_at
  br label %look
look:
  %i = phi i64 [ %from, %entry ], [ %i_next, %ask ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %ask, label %done
ask:
  %feature = getelementptr %feature, ptr %features, i64 %i
  %there = call i1 @has(ptr %feature)
  %i_next = add i64 %i, 1
  br i1 %there, label %look, label %done
done:
  ret i64 %i
}

; The best code for this processor, or null after an error.
define internal ptr @choose(ptr %error) #1 {
entry:
  %count_at = getelementptr %model, ptr @model, i32 0, i32 4
  %variants = load ptr, ptr %count_at
  %number_at = getelementptr %model, ptr @model, i32 0, i32 5
  %number = load i64, ptr %number_at
  br label %look
look:
  %v = phi i64 [ 0, %entry ], [ %v_next, %other ]
  %more = icmp ult i64 %v, %number
  br i1 %more, label %ask, label %none
ask:
  %variant = getelementptr %variant, ptr %variants, i64 %v
  %needs_at = getelementptr %variant, ptr %variant, i32 0, i32 1
  %needs = load i64, ptr %needs_at
  %missing = call i64 @lacking(ptr %variant, i64 0)
  %runs = icmp eq i64 %missing, %needs
  br i1 %runs, label %found, label %other
other:
  %v_next = add i64 %v, 1
  br label %look
found:
  ret ptr %variant
none:
  %text = call ptr @message(ptr %error, i32 $WRONG_PROCESSOR)
  %unwanted = icmp eq ptr %text, null
  br i1 %unwanted, label %away, label %say
say:
  %begun = call i64 @append(ptr %text, i64 0, ptr @text_processor, ptr null)
  br label %say_variant
say_variant:
  %w = phi i64 [ 0, %say ], [ %w_next, %say_end ]
  %at = phi i64 [ %begun, %say ], [ %at_next, %say_end ]
  %left = icmp ult i64 %w, %number
  br i1 %left, label %say_name, label %away
say_name:
  %told = getelementptr %variant, ptr %variants, i64 %w
  %name = load ptr, ptr %told
  %form = icmp eq i64 %w, 0
  %between = select i1 %form, ptr @text_first, ptr @text_other
  %named = call i64 @append(ptr %text, i64 %at, ptr %between, ptr %name)
  %told_needs_at = getelementptr %variant, ptr %told, i32 0, i32 1
  %told_needs = load i64, ptr %told_needs_at
  %list_at = getelementptr %variant, ptr %told, i32 0, i32 2
  %list = load ptr, ptr %list_at
  br label %say_feature
say_feature:
  %from = phi i64 [ 0, %say_name ], [ %from_next, %say_one ]
  %until = phi i64 [ %named, %say_name ], [ %until_next, %say_one ]
  %lacked = call i64 @lacking(ptr %told, i64 %from)
  %any = icmp ult i64 %lacked, %told_needs
  br i1 %any, label %say_one, label %say_end
say_one:
  %feature = getelementptr %feature, ptr %list, i64 %lacked
  %feature_name_at = getelementptr %feature, ptr %feature, i32 0, i32 5
  %feature_name = load ptr, ptr %feature_name_at
  %until_next = call i64 @append(ptr %text, i64 %until, ptr @text_lacks, ptr %feature_name)
  %from_next = add i64 %lacked, 1
  br label %say_feature
say_end:
  %at_next = phi i64 [ %until, %say_feature ]
  %w_next = add i64 %w, 1
  br label %say_variant
away:
  ret ptr null
}

define ptr @${NAME}_create(i32 %wanted, ptr %error) #0 {
entry:
  %thread_error = alloca i32
  store i32 0, ptr %thread_error
  %all_signals = alloca [128 x i8], align 8
  %old_signals = alloca [128 x i8], align 8
  %variant = call ptr @choose(ptr %error)
  %runs = icmp ne ptr %variant, null
  br i1 %runs, label %look_number, label %failed
look_number:
  %outside = icmp ugt i32 %wanted, $MOST_THREADS
  br i1 %outside, label %bad_number, label %number
bad_number:
"""
    + report("BAD_ARGUMENT", "threads", "i32 %wanted")
    + """
  br label %failed
number:
  %given = zext i32 %wanted to i64
  %usual = icmp eq i32 %wanted, 0
  br i1 %usual, label %all_processors, label %counted
all_processors:
  %processors = call i64 @available()
  br label %counted
counted:
  %threads = phi i64 [ %given, %number ], [ %processors, %all_processors ]
  ; The fields, the workers' words, and the pool, each on lines of its own.
  %pool_bytes = call i64 @braze_pool_size(i64 %threads)
  %words = mul i64 %threads, 8
  %words_more = add i64 %words, 127
  %words_rounded = and i64 %words_more, -128
  %pool_from = add i64 %words_rounded, 128
  %bytes = add i64 %pool_from, %pool_bytes
  %model = call ptr @allocate(i64 128, i64 %bytes, ptr %error)
  %granted = icmp ne ptr %model, null
  br i1 %granted, label %fill, label %failed
fill:
  call void @llvm.memset.p0.i64(ptr %model, i8 0, i64 %bytes, i1 false)
  store ptr %variant, ptr %model
  %threads_at = getelementptr i8, ptr %model, i64 8
  store i64 %threads, ptr %threads_at
  %pool = getelementptr i8, ptr %model, i64 %pool_from
  %pool_at = getelementptr i8, ptr %model, i64 16
  store ptr %pool, ptr %pool_at
  %process = call i32 @getpid()
  %process_at = getelementptr i8, ptr %model, i64 24
  store i32 %process, ptr %process_at
  %workers = getelementptr i8, ptr %model, i64 128
  %workers_at = getelementptr i8, ptr %model, i64 40
  store ptr %workers, ptr %workers_at
  %started_at = getelementptr i8, ptr %model, i64 48
  %patience = call i64 @patience(i64 %threads)
  call void @braze_pool_initialise(ptr %pool, i64 %threads, ptr @syscall, i64 %patience)
  ; Signals are for the program's own threads.
  call i32 @sigfillset(ptr %all_signals)
  call i32 @pthread_sigmask(i32 2, ptr %all_signals, ptr %old_signals)
  br label %start
start:
  %index = phi i64 [ 1, %fill ], [ %index_next, %started ]
  %more = icmp ult i64 %index, %threads
  br i1 %more, label %start_one, label %all_started
start_one:
  %slot = call ptr @braze_pool_slot(ptr %pool, i64 %index)
  %before = sub i64 %index, 1
  %worker = getelementptr i64, ptr %workers, i64 %before
  %start_error = call i32 @pthread_create(
      ptr %worker, ptr null, ptr @braze_worker, ptr %slot)
  store i32 %start_error, ptr %thread_error
  %fine = icmp eq i32 %start_error, 0
  br i1 %fine, label %started, label %all_started
started:
  store i64 %index, ptr %started_at
  %index_next = add i64 %index, 1
  br label %start
all_started:
  call i32 @pthread_sigmask(i32 2, ptr %old_signals, ptr null)
  %why = load i32, ptr %thread_error
  %every = icmp eq i32 %why, 0
  br i1 %every, label %reserve, label %no_thread
no_thread:
"""
    + report("NO_THREAD", "thread", "i32 %why")
    + """
  br label %undo
reserve:
  ; What one call at a time needs is there from the beginning, unless it depends on sizes.
  %context = call ptr @acquire(ptr %model, ptr %error)
  %has_context = icmp ne ptr %context, null
  br i1 %has_context, label %look_fixed, label %undo
look_fixed:
  %fixed = icmp eq i64 $SIZE_COUNT, 0
  br i1 %fixed, label %reserve_fixed, label %give
reserve_fixed:
  %codes_at = getelementptr %variant, ptr %variant, i32 0, i32 4
  %codes = load ptr, ptr %codes_at
  %no_memory = call i32 @prepare(${NO_SIZES}ptr %model, ptr %context, ptr %codes, ptr %error)
  %reserved = icmp eq i32 %no_memory, 0
  br i1 %reserved, label %give, label %undo
give:
  %flag = getelementptr i8, ptr %context, i64 8
  store atomic i32 0, ptr %flag release, align 4
  ret ptr %model
undo:
  call void @${NAME}_destroy(ptr %model)
  br label %failed
failed:
  ret ptr null
}
"""
)

DESTROY = """
define void @${NAME}_destroy(ptr %model) #0 {
entry:
  %nothing = icmp eq ptr %model, null
  br i1 %nothing, label %done, label %look_process
look_process:
  %process_at = getelementptr i8, ptr %model, i64 24
  %process = load i32, ptr %process_at
  %own = call i32 @getpid()
  %same = icmp eq i32 %process, %own
  br i1 %same, label %stop, label %release
stop:
  %pool_at = getelementptr i8, ptr %model, i64 16
  %pool = load ptr, ptr %pool_at
  %workers_at = getelementptr i8, ptr %model, i64 40
  %workers = load ptr, ptr %workers_at
  %started_at = getelementptr i8, ptr %model, i64 48
  %started = load i64, ptr %started_at
  call void @braze_pool_stop(ptr %pool)
  br label %join
join:
  %i = phi i64 [ 0, %stop ], [ %i_next, %join_one ]
  %more = icmp ult i64 %i, %started
  br i1 %more, label %join_one, label %release
join_one:
  %worker_at = getelementptr i64, ptr %workers, i64 %i
  %worker = load i64, ptr %worker_at
  call i32 @pthread_join(i64 %worker, ptr null)
  %i_next = add i64 %i, 1
  br label %join
release:
  %head = getelementptr i8, ptr %model, i64 32
  %first = load ptr, ptr %head
  br label %contexts
contexts:
  %context = phi ptr [ %first, %release ], [ %next, %context_one ]
  %any = icmp ne ptr %context, null
  br i1 %any, label %context_one, label %last
context_one:
  %next = load ptr, ptr %context
  %block_at = getelementptr i8, ptr %context, i64 32
  %block = load ptr, ptr %block_at
  call void @free(ptr %block)
  call void @free(ptr %context)
  br label %contexts
last:
  call void @free(ptr %model)
  br label %done
done:
  ret void
}
"""
