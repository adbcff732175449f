"""A call on a C model, as LLVM IR.

In: names in `string.Template`'s form.  Out: ``NAME_run``, which checks what it is given, chooses
the code for the sizes, takes a context, calls the graph and says what a check found.
"""

from __future__ import annotations

from braze.codegen.llvm.c_reports import report

RUN = (
    """
; Whether `count` pointers can be used. %kind: what they are called in a message.
define internal i1 @usable(ptr %given, ptr %slots, i64 %count, ptr %kind, ptr %error) #1 {
entry:
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %i_next, %next ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %one, label %yes
one:
  %at = getelementptr ptr, ptr %given, i64 %i
  %pointer = load ptr, ptr %at
  %slot = getelementptr %slot, ptr %slots, i64 %i
  %alignment_at = getelementptr %slot, ptr %slot, i32 0, i32 1
  %alignment = load i64, ptr %alignment_at
  %address = ptrtoint ptr %pointer to i64
  %below = sub i64 %alignment, 1
  %rest = and i64 %address, %below
  %aligned = icmp eq i64 %rest, 0
  %name = load ptr, ptr %slot
  br i1 %aligned, label %look_null, label %unaligned
look_null:
  %null = icmp eq ptr %pointer, null
  br i1 %null, label %look_empty, label %next
look_empty:
  %empty_at = getelementptr %slot, ptr %slot, i32 0, i32 2
  %empty = load i64, ptr %empty_at
  %has_none = icmp ne i64 %empty, 0
  br i1 %has_none, label %next, label %missing
next:
  %i_next = add i64 %i, 1
  br label %look
yes:
  ret i1 true
unaligned:
"""
    + report(
        "BAD_ARGUMENT", "unaligned", "ptr %kind", "ptr %name", "ptr %pointer", "i64 %alignment"
    )
    + """
  ret i1 false
missing:
"""
    + report("BAD_ARGUMENT", "null", "ptr %kind", "ptr %name")
    + """
  ret i1 false
}

; The code that serves the fewest sizes beside these, as it was made for them. There is one.
define internal ptr @code_for(${SIZES}ptr %variant) #1 {
entry:
  %count_at = getelementptr %variant, ptr %variant, i32 0, i32 3
  %count = load i64, ptr %count_at
  %codes_at = getelementptr %variant, ptr %variant, i32 0, i32 4
  %codes = load ptr, ptr %codes_at
  br label %look
look:
  %i = phi i64 [ 0, %entry ], [ %i_next, %one ]
  %best = phi ptr [ null, %entry ], [ %better, %one ]
  %least = phi i64 [ -1, %entry ], [ %fewest, %one ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %one, label %done
one:
  %code = getelementptr %code, ptr %codes, i64 %i
$SERVES
  %fewer = icmp ult i64 %choices$SIZE_COUNT, %least
  %takes = and i1 %serves$SIZE_COUNT, %fewer
  %better = select i1 %takes, ptr %code, ptr %best
  %fewest = select i1 %takes, i64 %choices$SIZE_COUNT, i64 %least
  %i_next = add i64 %i, 1
  br label %look
done:
  ret ptr %best
}

; Say what a check found.
define internal void @explain(ptr %context, ptr %code, i64 %number, ptr %error) #2 {
  %index = sub i64 %number, 1
  %failures_at = getelementptr %code, ptr %code, i32 0, i32 6
  %failures = load ptr, ptr %failures_at
  %failure = getelementptr %failure, ptr %failures, i64 %index
  %fixed = load ptr, ptr %failure
  %name_at = getelementptr %failure, ptr %failure, i32 0, i32 1
  %name = load ptr, ptr %name_at
  %place_at = getelementptr %failure, ptr %failure, i32 0, i32 2
  %place = load ptr, ptr %place_at
  %has_text = icmp ne ptr %fixed, null
  br i1 %has_text, label %say, label %say_range
say:
"""
    + report("FAILED_CHECK", "said", "ptr %fixed", "ptr %place")
    + """
  ret void
say_range:
  %value_at = getelementptr i8, ptr %context, i64 $VALUE
  %value = load i64, ptr %value_at
  %facts = getelementptr i8, ptr %context, i64 $FACTS
  %double = shl i64 %index, 1
  %first = add i64 %double, 2
  %low_at = getelementptr i64, ptr %facts, i64 %first
  %low = load i64, ptr %low_at
  %high_at = getelementptr i64, ptr %low_at, i64 1
  %high = load i64, ptr %high_at
"""
    + report(
        "FAILED_CHECK", "range", "ptr %name", "i64 %value", "i64 %low", "i64 %high", "ptr %place"
    )
    + """
  ret void
}

define i32 @${NAME}_run(ptr %model, ${SIZES}ptr %inputs, ptr %outputs, ptr %error) #0 {
entry:
  %counts_in = load i64, ptr getelementptr (%model, ptr @model, i32 0, i32 1)
  %slots_in = load ptr, ptr getelementptr (%model, ptr @model, i32 0, i32 0)
  %slots_out = load ptr, ptr getelementptr (%model, ptr @model, i32 0, i32 2)
  %counts_out = load i64, ptr getelementptr (%model, ptr @model, i32 0, i32 3)
  %no_model = icmp eq ptr %model, null
  br i1 %no_model, label %say_no_model, label %look_inputs
say_no_model:
"""
    + report("BAD_ARGUMENT", "no_model")
    + """
  br label %bad_argument
look_inputs:
  %inputs_null = icmp eq ptr %inputs, null
  %takes_any = icmp ne i64 %counts_in, 0
  %no_inputs = and i1 %inputs_null, %takes_any
  br i1 %no_inputs, label %say_no_inputs, label %look_outputs
say_no_inputs:
"""
    + report("BAD_ARGUMENT", "no_inputs")
    + """
  br label %bad_argument
look_outputs:
  %outputs_null = icmp eq ptr %outputs, null
  %gives_any = icmp ne i64 %counts_out, 0
  %no_outputs = and i1 %outputs_null, %gives_any
  br i1 %no_outputs, label %say_no_outputs, label %look_pointers
say_no_outputs:
"""
    + report("BAD_ARGUMENT", "no_outputs")
    + """
  br label %bad_argument
look_pointers:
  %inputs_usable = call i1 @usable(
      ptr %inputs, ptr %slots_in, i64 %counts_in, ptr @text_input, ptr %error)
  br i1 %inputs_usable, label %look_pointers_out, label %bad_argument
look_pointers_out:
  %outputs_usable = call i1 @usable(
      ptr %outputs, ptr %slots_out, i64 %counts_out, ptr @text_output, ptr %error)
  br i1 %outputs_usable, label %look_size0, label %bad_argument
$LOOK_SIZES
  %variant = load ptr, ptr %model
  %code = call ptr @code_for(${SIZES}ptr %variant)
  br label %begin
bad_argument:
  ret i32 $BAD_ARGUMENT

begin:
  %context = call ptr @acquire(ptr %model, ptr %error)
  %has_context = icmp ne ptr %context, null
  br i1 %has_context, label %look_context, label %out_of_memory
out_of_memory:
  ret i32 $OUT_OF_MEMORY
look_context:
  %flag = getelementptr i8, ptr %context, i64 8
  %code_at = getelementptr i8, ptr %context, i64 16
  %last_code = load ptr, ptr %code_at
$SAME_SIZES
  br i1 %same$SIZE_COUNT, label %fill, label %make_ready
make_ready:
  %unready = call i32 @prepare(
      ${SIZES}ptr %model, ptr %context, ptr %code, ptr %error)
  %is_ready = icmp eq i32 %unready, 0
  br i1 %is_ready, label %fill, label %end

fill:
  %pointers = getelementptr i8, ptr %context, i64 $POINTERS
  %count_at = getelementptr %code, ptr %code, i32 0, i32 4
  %count = load i64, ptr %count_at
  %sources_at = getelementptr %code, ptr %code, i32 0, i32 5
  %sources = load ptr, ptr %sources_at
  br label %fill_inputs
fill_inputs:
  %i = phi i64 [ 0, %fill ], [ %i_next, %fill_next ]
  %more_inputs = icmp ult i64 %i, %count
  br i1 %more_inputs, label %fill_input, label %fill_outputs
fill_input:
  %source_at = getelementptr i64, ptr %sources, i64 %i
  %source = load i64, ptr %source_at
  %is_weight = icmp slt i64 %source, 0
  br i1 %is_weight, label %fill_next, label %fill_given
fill_given:
  %given_at = getelementptr ptr, ptr %inputs, i64 %source
  %given = load ptr, ptr %given_at
  %to = getelementptr ptr, ptr %pointers, i64 %i
  store ptr %given, ptr %to
  br label %fill_next
fill_next:
  %i_next = add i64 %i, 1
  br label %fill_inputs
fill_outputs:
  %o = phi i64 [ 0, %fill_inputs ], [ %o_next, %fill_output ]
  %more_outputs = icmp ult i64 %o, %counts_out
  br i1 %more_outputs, label %fill_output, label %call
fill_output:
  %made_at = getelementptr ptr, ptr %outputs, i64 %o
  %made = load ptr, ptr %made_at
  %behind = add i64 %count, %o
  %made_to = getelementptr ptr, ptr %pointers, i64 %behind
  store ptr %made, ptr %made_to
  %o_next = add i64 %o, 1
  br label %fill_outputs

call:
  %failed_at = getelementptr i8, ptr %context, i64 $FAILED
  store i64 0, ptr %failed_at
  %finished_at = getelementptr i8, ptr %context, i64 $FINISHED
  store i64 0, ptr %finished_at
  %main_at = getelementptr %code, ptr %code, i32 0, i32 2
  %main = load ptr, ptr %main_at
  %pool_at = getelementptr i8, ptr %model, i64 16
  %pool = load ptr, ptr %pool_at
  call i64 %main(ptr %pointers, ptr %pool)
  %failed = load i64, ptr %failed_at
  %fine = icmp eq i64 %failed, 0
  br i1 %fine, label %end, label %failure
failure:
  call void @explain(ptr %context, ptr %code, i64 %failed, ptr %error)
  br label %end
end:
  %result = phi i32 [ %unready, %make_ready ], [ $OK, %call ], [ $FAILED_CHECK, %failure ]
  store atomic i32 0, ptr %flag release, align 4
  ret i32 %result
}
"""
)
