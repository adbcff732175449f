"""The texts of a C model's errors, and LLVM IR that writes them.

In: the name of a text and what it is about.  Out: lines that write the message for whoever called,
if somebody wants it. An error is ``{ i32 code, [508 x i8] text }``.
"""

from __future__ import annotations

# What a call gives, in this order from 0 on; the header names them.
CODES = ("OK", "BAD_ARGUMENT", "OUT_OF_MEMORY", "NO_THREAD", "WRONG_PROCESSOR", "FAILED_CHECK")
MESSAGE_BYTES = 508

TEXTS = {
    "threads": "threads must be 0 to 4096, given %d",
    "thread": "no thread could be started: error %d of pthread_create",
    "memory": "no memory for %lld bytes",
    "processor": "this processor cannot run the model's code:",
    "first": " %s needs",
    "other": ", %s needs",
    "lacks": " %s",
    "no_model": "the model is NULL",
    "no_inputs": "inputs is NULL",
    "no_outputs": "outputs is NULL",
    "null": "%s %s is NULL",
    "unaligned": "%s %s is at %p, which is no multiple of %lld",
    "size": "%s must be %lld to %lld, given %lld",
    "range": "[%s] index %lld is out of range [%lld, %lld)%s",
    "said": "%s%s",
    "input": "input",
    "output": "output",
}


def constant_text(symbol: str, text: str) -> str:
    """A string of C under a name, as a line of LLVM IR."""
    content = text.encode() + b"\0"
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:02X}"
        for byte in content
    )
    return f'@{symbol} = internal constant [{len(content)} x i8] c"{escaped}"\n'


def report(code: str, text: str, *arguments: str) -> str:
    """Write an error's message, if somebody wants it."""
    given = "".join(f", {argument}" for argument in arguments)
    return f"""  %{text}.at = call ptr @message(ptr %error, i32 ${code})
  %{text}.room = call i64 @room(ptr %{text}.at)
  call i32 (ptr, i64, ptr, ...) @snprintf(
      ptr %{text}.at, i64 %{text}.room, ptr @text_{text}{given})"""


REPORTS = """
; Where an error's text goes: null where nobody wants it.
define internal ptr @message(ptr %error, i32 %code) #2 {
  %unwanted = icmp eq ptr %error, null
  br i1 %unwanted, label %nowhere, label %here
here:
  store i32 %code, ptr %error
  %text = getelementptr i8, ptr %error, i64 4
  ret ptr %text
nowhere:
  ret ptr null
}

define internal i64 @room(ptr %text) #2 {
  %unwanted = icmp eq ptr %text, null
  %room = select i1 %unwanted, i64 0, i64 $MESSAGE_BYTES
  ret i64 %room
}

; More of a text: where it ends then.
define internal i64 @append(ptr %text, i64 %at, ptr %format, ptr %word) #2 {
  %place = getelementptr i8, ptr %text, i64 %at
  %room = sub i64 $MESSAGE_BYTES, %at
  %count = call i32 (ptr, i64, ptr, ...) @snprintf(ptr %place, i64 %room, ptr %format, ptr %word)
  %wide = sext i32 %count to i64
  %next = add i64 %at, %wide
  %last = sub i64 $MESSAGE_BYTES, 1
  %end = call i64 @llvm.umin.i64(i64 %next, i64 %last)
  ret i64 %end
}
"""
