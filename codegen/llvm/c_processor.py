"""Whether a processor can run code for a target, asked without Python and before the code runs.

In: a `Target`'s features.  Out: LLVM IR of ``i1 has(ptr feature)``, and where each feature is
found, as numbers.

x86 tells by the instruction CPUID, and XGETBV says whether the system keeps the wide registers.
Neither has an intrinsic that any processor could run, and inline assembly could not be assembled
for another machine than the compiler's own, so they stand as bytes before a function's body.
aarch64's features are what the kernel says they are (`getauxval(3)`).

Sources: Intel's manual, volume 2, "CPUID", and volume 1, 13.3; AMD's, volume 3, appendix E; Linux,
arch/arm64/include/uapi/asm/hwcap.h.
"""

from __future__ import annotations

from dataclasses import dataclass

from braze.ir.errors import BrazeError
from braze.ir.target import Target


class FeatureError(BrazeError, ValueError):
    """Nothing is known of a feature, so that no program can ask for it."""


@dataclass(frozen=True, slots=True)
class Feature:
    """Where a feature is found.

    leaf, part: of CPUID, or the number of an auxiliary value and 0.
    register: EAX, EBX, ECX or EDX, by number. bit: in it.
    state: the bits of XCR0 that have to be set.
    """

    leaf: int
    part: int
    register: int
    bit: int
    state: int = 0


_EAX, _EBX, _ECX, _EDX = range(4)
_YMM, _ZMM = 0x6, 0xE6  # the registers that the system keeps, as bits of XCR0

_X86 = {
    **{
        name: Feature(1, 0, _ECX, bit, state)
        for name, bit, state in (
            ("sse3", 0, 0), ("ssse3", 9, 0), ("fma", 12, _YMM), ("cx16", 13, 0), ("sse4.1", 19, 0),
            ("sse4.2", 20, 0), ("movbe", 22, 0), ("popcnt", 23, 0), ("xsave", 26, 0),
            ("avx", 28, _YMM), ("f16c", 29, _YMM),
        )
    },
    **{
        name: Feature(7, 0, register, bit, state)
        for name, register, bit, state in (
            ("bmi", _EBX, 3, 0), ("avx2", _EBX, 5, _YMM), ("bmi2", _EBX, 8, 0),
            ("avx512f", _EBX, 16, _ZMM), ("avx512dq", _EBX, 17, _ZMM),
            ("avx512ifma", _EBX, 21, _ZMM), ("avx512cd", _EBX, 28, _ZMM),
            ("avx512bw", _EBX, 30, _ZMM), ("avx512vl", _EBX, 31, _ZMM),
            ("avx512vbmi", _ECX, 1, _ZMM), ("avx512vbmi2", _ECX, 6, _ZMM),
            ("gfni", _ECX, 8, 0), ("avx512vnni", _ECX, 11, _ZMM),
            ("avx512bitalg", _ECX, 12, _ZMM), ("avx512vpopcntdq", _ECX, 14, _ZMM),
            ("avx512fp16", _EDX, 23, _ZMM),
        )
    },
    "avxvnni": Feature(7, 1, _EAX, 4, _YMM),
    "avx512bf16": Feature(7, 1, _EAX, 5, _ZMM),
    "sahf": Feature(0x80000001, 0, _ECX, 0),
    "lzcnt": Feature(0x80000001, 0, _ECX, 5),
}  # fmt: skip
_AT_HWCAP, _AT_HWCAP2 = 16, 26
_AARCH64 = {
    **{
        name: Feature(_AT_HWCAP, 0, 0, bit)
        for name, bit in (
            ("fp-armv8", 0), ("neon", 1), ("lse", 8), ("fullfp16", 10), ("rdm", 12),
            ("complxnum", 14), ("rcpc", 15), ("dotprod", 20), ("fp16fml", 23),
        )
    },
    "i8mm": Feature(_AT_HWCAP2, 0, 0, 13),
    "bf16": Feature(_AT_HWCAP2, 0, 0, 14),
}  # fmt: skip
FEATURES = {"x86_64": _X86, "aarch64": _AARCH64}


def features_of(target: Target) -> list[tuple[str, Feature]]:
    """What code for `target` needs, by name.  Raises: FeatureError."""
    known = FEATURES.get(target.architecture)
    if known is None:
        raise FeatureError(f"[export] no way to ask a processor of {target.architecture}")
    for name in target.features:
        if name not in known:
            raise FeatureError(f"[export] no way to ask a processor for {name}")
    return [(name, known[name]) for name in target.features]


def processor_text(architecture: str) -> str:
    """``i1 has(ptr feature)`` of `%feature`: leaf, part, register, mask, state, name."""
    return _FIELDS + (_ASK_X86 if architecture == "x86_64" else _ASK_AARCH64)


_FIELDS = """
%feature = type { i32, i32, i32, i32, i64, ptr }
"""

# push rbx; mov eax, edi; mov ecx, esi; mov r8, rdx; cpuid; mov [r8], eax; mov [r8+4], ebx;
# mov [r8+8], ecx; mov [r8+12], edx; pop rbx; ret
_CPUID = bytes.fromhex("53 89f8 89f1 4989d0 0fa2 418900 41895804 41894808 4189500c 5b c3")
# xor ecx, ecx; xgetbv; ret
_XGETBV = bytes.fromhex("31c9 0f01d0 c3")


def _before_body(code: bytes) -> str:
    text = "".join("\\" + f"{byte:02X}" for byte in code)
    return f'prologue [{len(code)} x i8] c"{text}"'


_ASK_X86 = f"""
define internal void @cpuid(i32 %leaf, i32 %part, ptr %registers) #1 {_before_body(_CPUID)} {{
  unreachable
}}

define internal i64 @xgetbv() #1 {_before_body(_XGETBV)} {{
  unreachable
}}

define internal i1 @has(ptr %asked) #1 {{
entry:
  %registers = alloca [4 x i32], align 16
  %leaf = load i32, ptr %asked
  %part_at = getelementptr %feature, ptr %asked, i32 0, i32 1
  %part = load i32, ptr %part_at
  %register_at = getelementptr %feature, ptr %asked, i32 0, i32 2
  %register = load i32, ptr %register_at
  %mask_at = getelementptr %feature, ptr %asked, i32 0, i32 3
  %mask = load i32, ptr %mask_at
  %state_at = getelementptr %feature, ptr %asked, i32 0, i32 4
  %state = load i64, ptr %state_at
  %range = and i32 %leaf, -2147483648
  call void @cpuid(i32 %range, i32 0, ptr %registers)
  %last = load i32, ptr %registers
  %known = icmp uge i32 %last, %leaf
  br i1 %known, label %ask, label %no
ask:
  call void @cpuid(i32 %leaf, i32 %part, ptr %registers)
  %word_at = getelementptr i32, ptr %registers, i32 %register
  %word = load i32, ptr %word_at
  %bits = and i32 %word, %mask
  %there = icmp eq i32 %bits, %mask
  br i1 %there, label %kept, label %no
kept:
  %stateless = icmp eq i64 %state, 0
  br i1 %stateless, label %yes, label %ask_system
ask_system:
  call void @cpuid(i32 1, i32 0, ptr %registers)
  %flags_at = getelementptr i32, ptr %registers, i32 2
  %flags = load i32, ptr %flags_at
  %osxsave = and i32 %flags, 134217728
  %says = icmp ne i32 %osxsave, 0
  br i1 %says, label %ask_state, label %no
ask_state:
  %enabled = call i64 @xgetbv()
  %own = and i64 %enabled, %state
  %keeps = icmp eq i64 %own, %state
  ret i1 %keeps
yes:
  ret i1 true
no:
  ret i1 false
}}
"""

_ASK_AARCH64 = """
declare i64 @getauxval(i64)

define internal i1 @has(ptr %asked) #1 {
  %leaf = load i32, ptr %asked
  %mask_at = getelementptr %feature, ptr %asked, i32 0, i32 3
  %mask = load i32, ptr %mask_at
  %number = zext i32 %leaf to i64
  %word = call i64 @getauxval(i64 %number)
  %wide = zext i32 %mask to i64
  %bits = and i64 %word, %wide
  %there = icmp eq i64 %bits, %wide
  ret i1 %there
}
"""
