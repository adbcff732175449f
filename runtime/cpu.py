"""The processor that this process runs on, as a `Target`.

In: /proc/cpuinfo, sysfs cache sizes, the machine's name and ``BRAZE_TARGET``.
Out: `host_target()`.  LLVM is not consulted, so a package runs where LLVM is not installed.
"""

import os
import platform
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from braze.ir.target import (
    AARCH64_TRIPLE,
    X86_64_TRIPLE,
    X86_64_V2_FEATURES,
    X86_64_V3_FEATURES,
    X86_64_V4_FEATURES,
    Target,
    TargetError,
    can_run,
    named_target,
)

# The kernel's flag -> LLVM's feature, for the extensions that change generated numeric code.
# Anything else would only make packages narrower and cache keys less stable.
_X86_FEATURES = {
    "cx16": "cx16", "popcnt": "popcnt", "lahf_lm": "sahf", "pni": "sse3", "ssse3": "ssse3",
    "sse4_1": "sse4.1", "sse4_2": "sse4.2", "avx": "avx", "avx2": "avx2", "bmi1": "bmi",
    "bmi2": "bmi2", "f16c": "f16c", "fma": "fma", "abm": "lzcnt", "movbe": "movbe",
    "xsave": "xsave", "avx_vnni": "avxvnni", "avx512f": "avx512f", "avx512bw": "avx512bw",
    "avx512cd": "avx512cd", "avx512dq": "avx512dq", "avx512vl": "avx512vl",
    "avx512_vnni": "avx512vnni", "avx512_bf16": "avx512bf16", "avx512_fp16": "avx512fp16",
    "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512_vbmi2": "avx512vbmi2",
    "avx512_vpopcntdq": "avx512vpopcntdq", "avx512_bitalg": "avx512bitalg", "gfni": "gfni",
}  # fmt: skip
_ARM_FEATURES = {
    "fp": "fp-armv8", "asimd": "neon", "atomics": "lse", "asimdrdm": "rdm",
    "fphp": "fullfp16", "asimddp": "dotprod", "asimdfhm": "fp16fml", "bf16": "bf16",
    "i8mm": "i8mm", "fcma": "complxnum", "lrcpc": "rcpc",
}  # fmt: skip

# Where sysfs tells nothing (some containers and ARM boards): the smallest caches in common use.
_FALLBACK_CACHES = {1: 32 << 10, 2: 256 << 10}

_FLAGS = re.compile(r"^(?:flags|Features)[ \t]*:(.*)$", re.MULTILINE)
_SYSFS_CACHE = Path("/sys/devices/system/cpu/cpu0/cache")


def parse_flags(cpuinfo: str) -> frozenset[str]:
    """The flags that every processor listed in the text of /proc/cpuinfo has."""
    # Most machines have as many equal lines as processors.
    lines = set(_FLAGS.findall(cpuinfo))
    if not lines:
        raise TargetError("[target] /proc/cpuinfo lists no processor flags")
    return frozenset.intersection(*(frozenset(line.split()) for line in lines))


def read_caches(directory: Path = _SYSFS_CACHE) -> tuple[int, int]:
    """Bytes of the first- and second-level data cache, from a sysfs cache directory."""
    sizes = dict(_FALLBACK_CACHES)
    # Without `Path`, whose patterns take longer than all the rest: loading any package pays it.
    names = os.listdir(directory) if os.path.isdir(directory) else []
    for index in sorted(name for name in names if name.startswith("index")):
        try:
            kind, level_text, size = (
                _word(f"{directory}/{index}/{fact}") for fact in ("type", "level", "size")
            )
            level = int(level_text)
        except (OSError, ValueError):
            continue
        unit = {"K": 10, "M": 20}.get(size[-1:])
        if kind in ("Data", "Unified") and level in sizes and unit and size[:-1].isdigit():
            sizes[level] = int(size[:-1]) << unit
    return sizes[1], sizes[2]


def _word(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def target_from_flags(machine: str, flags: frozenset[str], l1_bytes: int, l2_bytes: int) -> Target:
    """The target for a machine (``x86_64``, ``aarch64``) whose processor has the kernel's `flags`.

    Vectors are 512 bits only with the whole of AVX-512 F, VL, DQ, BW and CD, 256 with the whole of
    x86-64-v3 (AVX2 and FMA), 128 otherwise.  Raises: TargetError for another machine.
    """
    if machine in ("aarch64", "arm64"):
        features = tuple(sorted(llvm for flag, llvm in _ARM_FEATURES.items() if flag in flags))
        if "neon" not in features:
            raise TargetError("[target] this aarch64 processor has no NEON")
        return Target("host", AARCH64_TRIPLE, "generic", features, 128, 32, l1_bytes, l2_bytes)
    if machine not in ("x86_64", "AMD64"):
        raise TargetError(f"[target] no code generator for machine {machine!r}")
    features = tuple(sorted(llvm for flag, llvm in _X86_FEATURES.items() if flag in flags))
    has = set(features).issuperset
    # The level as LLVM's processor name gives instruction costs and implies nothing more.
    if has(X86_64_V4_FEATURES):
        cpu, bits, registers = "x86-64-v4", 512, 32
    elif has(X86_64_V3_FEATURES):
        cpu, bits, registers = "x86-64-v3", 256, 16
    elif has(X86_64_V2_FEATURES):
        cpu, bits, registers = "x86-64-v2", 128, 16
    else:
        cpu, bits, registers = "x86-64", 128, 16
    if bits < 512:
        # Half an AVX-512 is of no use to us, and code for it would run on fewer machines.
        features = tuple(f for f in features if not f.startswith("avx512"))
    return Target("host", X86_64_TRIPLE, cpu, features, bits, registers, l1_bytes, l2_bytes)


@cache
def _processor() -> Target:
    """The processor itself, whatever ``BRAZE_TARGET`` says, to know what it can run: the sizes of
    its caches are not asked for, since that takes longer than all the rest.

    Raises: TargetError if this machine is of an unknown kind.
    """
    try:
        with open("/proc/cpuinfo") as file:
            cpuinfo = file.read()
    except OSError as error:
        raise TargetError(f"[target] cannot read /proc/cpuinfo: {error}") from None
    l1_bytes, l2_bytes = _FALLBACK_CACHES.values()
    return target_from_flags(platform.machine(), parse_flags(cpuinfo), l1_bytes, l2_bytes)


@cache
def _host_target(override: str | None) -> Target:
    if not override:
        l1_bytes, l2_bytes = read_caches()
        return replace(_processor(), l1_bytes=l1_bytes, l2_bytes=l2_bytes)
    target = named_target(override)
    reason = can_run(target, _processor())
    if reason is not None:
        raise TargetError(f"[target] BRAZE_TARGET={override}: {reason}")
    return target


def host_runner() -> Target:
    """What decides which code runs on this machine: `host_target`, or the processor itself.

    Raises: TargetError, as `host_target`.
    """
    override = os.environ.get("BRAZE_TARGET")
    return _host_target(override) if override else _processor()


def host_target() -> Target:
    """The target to compile for on this machine.

    ``BRAZE_TARGET=x86-64-v2`` (any name in `TARGET_NAMES`) chooses another feature set.
    Raises: TargetError if this machine cannot run it, or is of an unknown kind.
    """
    return _host_target(os.environ.get("BRAZE_TARGET"))
