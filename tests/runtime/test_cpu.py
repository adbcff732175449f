"""Targets: text form, comparison, and reading a processor's description."""

import platform

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braze.ir.errors import ParseError
from braze.ir.target import GPU_NAMES, TARGET_NAMES, Target, TargetError, can_run, named_target
from braze.runtime.cpu import host_target, parse_flags, read_caches, target_from_flags

HASWELL = (
    "fpu sse sse2 cx16 popcnt lahf_lm pni ssse3 sse4_1 sse4_2 avx avx2 bmi1 bmi2 f16c fma abm"
    " movbe xsave"
)
SKYLAKE_SERVER = HASWELL + " avx512f avx512bw avx512cd avx512dq avx512vl"

words = st.text("abcxyz0189.-_", min_size=2, max_size=12).filter(lambda s: s.strip("-"))
numbers = st.integers(0, 1 << 40)


@given(
    st.builds(
        Target, words, words, words, st.lists(words, max_size=5).map(tuple),
        numbers, numbers, numbers, numbers,
    )
)  # fmt: skip
def test_text_round_trip(target):
    assert Target.from_text(target.to_text()) == target
    assert Target.from_text(str(target)).features == tuple(sorted(set(target.features)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "goal x86-64-v3",
        "target x",
        str(named_target("x86-64-v3")) + " l3=1",
        str(named_target("x86-64-v3")) + " l1=1",
        str(named_target("x86-64-v3")).replace("vector=256x16", "vector=256"),
        str(named_target("x86-64-v3")).replace("l1=32768", "l1=-1"),
        str(named_target("x86-64-v3")).replace("avx,", "avx,,"),
    ],
)
def test_bad_text_is_refused(text):
    with pytest.raises(ParseError):
        Target.from_text(text)


def test_named_targets():
    assert TARGET_NAMES == ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64")
    assert [named_target(n).vector_bits for n in TARGET_NAMES] == [128, 256, 512, 128]
    assert named_target("x86-64-v4").vector_lanes(4) == 16
    assert named_target("aarch64").architecture == "aarch64"
    with pytest.raises(TargetError, match="no target is called 'z80'"):
        named_target("z80")


def test_gpu_targets():
    assert {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"} == set(GPU_NAMES)
    ampere = named_target("sm_80")
    assert ampere.is_gpu and ampere.capability == 80 and not named_target("aarch64").is_gpu
    assert Target.from_text(str(ampere)) == ampere
    reason = can_run(ampere, named_target("x86-64-v3"))
    assert reason == "made for nvptx64, this CPU is x86_64"


def test_can_run():
    v2, v3, v4, arm = (named_target(name) for name in TARGET_NAMES)
    assert can_run(v2, v3) is None and can_run(v3, v3) is None and can_run(v3, v4) is None
    assert can_run(arm, v3) == "made for aarch64, this CPU is x86_64"
    reason = can_run(v4, v3)
    assert reason is not None and reason.startswith("needs avx512bw, ")
    almost = Target("t", v3.triple, "x86-64-v3", (*v3.features, "avx512f"), 256, 16, 1, 1)
    assert can_run(almost, v3) == "needs avx512f, this CPU lacks it"
    windows = Target("t", "x86_64-pc-windows-msvc", "x86-64", (), 128, 16, 1, 1)
    assert can_run(windows, v3) == "made for pc-windows-msvc, this system is unknown-linux-gnu"


def test_vector_width_follows_the_flags():
    def target(flags: str) -> Target:
        return target_from_flags("x86_64", frozenset(flags.split()), 1, 2)

    server = target(SKYLAKE_SERVER)
    assert (server.vector_bits, server.vector_registers, server.cpu) == (512, 32, "x86-64-v4")
    assert can_run(named_target("x86-64-v4"), server) is None
    partial = target(SKYLAKE_SERVER.replace(" avx512vl", ""))
    assert partial.vector_bits == 256
    assert not any(feature.startswith("avx512") for feature in partial.features)
    desktop = target(HASWELL)
    assert (desktop.vector_bits, desktop.vector_registers, desktop.cpu) == (256, 16, "x86-64-v3")
    assert desktop.features == named_target("x86-64-v3").features
    assert target(HASWELL.replace(" fma", "")).vector_bits == 128
    assert target("sse sse2").cpu == "x86-64" and target("sse sse2").features == ()


def test_other_machines():
    arm = target_from_flags("aarch64", frozenset("fp asimd atomics asimddp".split()), 1, 2)
    assert arm.features == ("dotprod", "fp-armv8", "lse", "neon")
    assert can_run(named_target("aarch64"), arm) is None
    with pytest.raises(TargetError, match="riscv64"):
        target_from_flags("riscv64", frozenset(), 1, 2)


def test_parse_flags_keeps_what_all_processors_have():
    text = "processor : 0\nflags\t\t: fpu avx avx2\n\nprocessor : 1\nflags\t\t: fpu avx\n"
    assert parse_flags(text) == {"fpu", "avx"}
    assert parse_flags("Features\t: fp asimd\n") == {"fp", "asimd"}
    with pytest.raises(TargetError):
        parse_flags("processor : 0\n")


def test_read_caches(tmp_path):
    levels = [("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "2M")]
    for i, (kind, level, size) in enumerate([*levels, ("Unified", 3, "30720K")]):
        index = tmp_path / f"index{i}"
        index.mkdir()
        (index / "type").write_text(kind + "\n")
        (index / "level").write_text(f"{level}\n")
        (index / "size").write_text(size + "\n")
    assert read_caches(tmp_path) == (48 << 10, 2 << 20)
    assert read_caches(tmp_path / "nowhere") == (32 << 10, 256 << 10)


def test_host_target_and_override(monkeypatch):
    monkeypatch.delenv("BRAZE_TARGET", raising=False)
    host = host_target()
    assert can_run(host, host) is None
    assert host.architecture == platform.machine()
    monkeypatch.setenv("BRAZE_TARGET", "z80")
    with pytest.raises(TargetError, match="z80"):
        host_target()
    x86 = host.architecture == "x86_64"
    monkeypatch.setenv("BRAZE_TARGET", "aarch64" if x86 else "x86-64-v2")
    with pytest.raises(TargetError, match="made for"):
        host_target()
    own = next(n for n in TARGET_NAMES if can_run(named_target(n), host) is None)
    monkeypatch.setenv("BRAZE_TARGET", own)
    assert host_target() == named_target(own)
