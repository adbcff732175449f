"""What a program asks its processor is what the system says of it."""

import ctypes
import platform
from pathlib import Path

import pytest

from braze.codegen.llvm.c_driver import baseline
from braze.codegen.llvm.c_processor import FEATURES, FeatureError, features_of, processor_text
from braze.codegen.llvm.compile import compile_object
from braze.ir.target import TARGET_NAMES, X86_64_V4_FEATURES, Target, named_target
from braze.runtime import cpu
from braze.runtime.object_loader import LoadedObject

HERE = platform.machine()
# LLVM's name of a feature -> Linux's flag.
FLAGS = {
    "x86_64": {llvm: flag for flag, llvm in cpu._X86_FEATURES.items()},
    "aarch64": {llvm: flag for flag, llvm in cpu._ARM_FEATURES.items()},
}


def asked(changes):
    """Whether this processor has each feature, whose fields may be changed first."""
    lines = [processor_text(HERE), "attributes #1 = { nounwind noinline }"]
    for number, feature in enumerate(FEATURES[HERE].values()):
        fields = {"part": feature.part, "leaf": feature.leaf, "state": feature.state, **changes}
        lines.append(
            f"@f{number} = internal constant %feature {{ i32 {fields['leaf']}, i32 "
            f"{fields['part']}, i32 {feature.register}, i32 {1 << feature.bit}, "
            f"i64 {fields['state']}, ptr null }}\n"
            f"define i32 @ask{number}() {{\n  %b = call i1 @has(ptr @f{number})\n"
            f"  %i = zext i1 %b to i32\n  ret i32 %i\n}}"
        )
    symbols = {"getauxval": ctypes.cast(ctypes.CDLL(None).getauxval, ctypes.c_void_p).value}
    loaded = LoadedObject(compile_object("\n".join(lines), baseline(HERE)), symbols)
    call = ctypes.CFUNCTYPE(ctypes.c_int32)
    return {
        name: bool(call(loaded.address(f"ask{number}"))())
        for number, name in enumerate(FEATURES[HERE])
    }


@pytest.mark.skipif(HERE not in FEATURES, reason="another machine")
def test_the_processor_says_what_the_system_says():
    flags = cpu.parse_flags(Path("/proc/cpuinfo").read_text())
    told = {name for name in FEATURES[HERE] if FLAGS[HERE][name] in flags}
    found = {name for name, there in asked({}).items() if there}
    # An old system may not know of the newest ones.
    assert told <= found and not (found - told) & set(X86_64_V4_FEATURES)


@pytest.mark.skipif(HERE != "x86_64", reason="this is about x86")
def test_what_no_processor_has_is_missing():
    beyond_what_there_is = asked({"leaf": 0x7FFFFFFF})
    assert not any(beyond_what_there_is.values())
    registers_that_nobody_keeps = asked({"state": 1 << 62})
    assert not any(registers_that_nobody_keeps.values())


def test_every_feature_of_every_target_can_be_asked_for():
    for machine, flags in FLAGS.items():
        assert FEATURES[machine].keys() == flags.keys()
    for name in TARGET_NAMES:
        target = named_target(name)
        assert [found for found, _ in features_of(target)] == list(target.features)


def test_an_unknown_feature_is_an_error():
    base = named_target("x86-64-v2")
    odd = Target("odd", base.triple, base.cpu, ("amx-tile",), 128, 16, 1, 1)
    with pytest.raises(FeatureError, match="no way to ask a processor for amx-tile"):
        features_of(odd)
    other = Target("odd", "riscv64-linux", "generic", (), 128, 16, 1, 1)
    with pytest.raises(FeatureError, match="no way to ask a processor of riscv64"):
        features_of(other)
