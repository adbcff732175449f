"""What machine code is made for: one frozen `Target`, its text form and the named feature levels.

In: a name such as ``x86-64-v3``, or a description of a processor.  Out: a `Target`, which code
generators read, which cache keys and packages hold as text, and which `can_run` compares.

    target      ::= "target" NAME field*
    field       ::= KEY "=" VALUE            # values hold no blanks; an empty list is "-"
    KEY         ::= "triple" | "cpu" | "features" | "vector" | "l1" | "l2"
    vector      ::= BITS "x" REGISTERS
"""

import re
from dataclasses import dataclass

from braze.ir.errors import BrazeError, ParseError

# What a line of `Target.to_text` can hold.
_USABLE_NAME = re.compile(r"(?!-$)[^\s,=]+")

# Words of the status block, by which a compiled program reports: the failed check's number (0: none
# failed), its value and bound, and whether the program came to its end. The last words are read:
# the address of the function that runs host calls, where a timed program writes its times, and the
# address of the function that a watched program calls between its waves.
FAILED, VALUE, BOUND, FINISHED, HOST, TIMES, WATCH = range(7)
STATUS_WORDS = 8


class TargetError(BrazeError, ValueError):
    """A target is unknown, or this machine cannot run it."""


@dataclass(frozen=True)
class Target:
    """A processor as the compiler sees it.

    name: for people; two targets of the same name may differ in features or cache sizes.
    triple: LLVM's target triple, e.g. ``x86_64-unknown-linux-gnu``.
    cpu: LLVM's processor name; it never implies a feature that `features` lacks.
    features: LLVM feature names without ``+``, sorted.
    vector_bits, vector_registers: the widest vector register to use, and how many there are.
    l1_bytes, l2_bytes: data caches of one core.
    """

    name: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    vector_bits: int
    vector_registers: int
    l1_bytes: int
    l2_bytes: int

    def __post_init__(self) -> None:
        features = tuple(sorted(set(self.features)))
        if features != self.features:
            object.__setattr__(self, "features", features)
        for text in (self.name, self.triple, self.cpu, *features):
            if not _USABLE_NAME.fullmatch(text):
                raise TargetError(f"[target] {text!r} is not a usable name")

    @property
    def is_gpu(self) -> bool:
        """Is it an NVIDIA GPU, named after its compute capability?"""
        return self.architecture == GPU_TRIPLE.split("-", 1)[0]

    @property
    def capability(self) -> int:
        """A GPU's compute capability: 80 for ``sm_80``."""
        assert self.is_gpu
        return int(self.cpu.removeprefix("sm_"))

    @property
    def architecture(self) -> str:
        """The triple's first part: ``x86_64`` or ``aarch64``."""
        return self.triple.split("-", 1)[0]

    def vector_lanes(self, item_bytes: int) -> int:
        """How many items of `item_bytes` bytes one vector register holds."""
        return self.vector_bits // (8 * item_bytes)

    def to_text(self) -> str:
        """One line that `Target.from_text` reads back to an equal target."""
        return (
            f"target {self.name} triple={self.triple} cpu={self.cpu}"
            f" features={','.join(self.features) or '-'}"
            f" vector={self.vector_bits}x{self.vector_registers}"
            f" l1={self.l1_bytes} l2={self.l2_bytes}"
        )

    def __str__(self) -> str:
        return self.to_text()

    @classmethod
    def from_text(cls, text: str) -> "Target":
        """The target that `to_text` wrote.  Raises: ParseError."""
        words = text.split()
        if len(words) < 2 or words[0] != "target":
            raise ParseError(f"[target] expected 'target NAME ...', found {text[:60]!r}")
        fields: dict[str, str] = {}
        for word in words[2:]:
            key, equals, value = word.partition("=")
            if not equals or key in fields:
                raise ParseError(f"[target] bad or repeated field {word!r}")
            fields[key] = value
        expected = {"triple", "cpu", "features", "vector", "l1", "l2"}
        if fields.keys() != expected:
            wrong = ", ".join(sorted(fields.keys() ^ expected))
            raise ParseError(f"[target] missing or unknown fields: {wrong}")
        bits, _, registers = fields["vector"].partition("x")
        numbers = {"bits": bits, "registers": registers, "l1": fields["l1"], "l2": fields["l2"]}
        for key, value in numbers.items():
            if not (value.isascii() and value.isdigit()):
                raise ParseError(f"[target] {key} must be a number, found {value!r}")
        features = () if fields["features"] == "-" else tuple(fields["features"].split(","))
        try:
            return cls(
                words[1], fields["triple"], fields["cpu"], features,
                int(bits), int(registers), int(fields["l1"]), int(fields["l2"]),
            )  # fmt: skip
        except TargetError as error:
            raise ParseError(str(error)) from None


# The psABI's micro-architecture levels (x86-64 psABI, section 3.1.1), in LLVM's feature names.
X86_64_V2_FEATURES = ("cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3")
X86_64_V3_FEATURES = (
    *X86_64_V2_FEATURES,
    "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave",
)  # fmt: skip
X86_64_V4_FEATURES = (
    *X86_64_V3_FEATURES,
    "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl",
)  # fmt: skip

X86_64_TRIPLE = "x86_64-unknown-linux-gnu"
AARCH64_TRIPLE = "aarch64-unknown-linux-gnu"

GPU_TRIPLE = "nvptx64-nvidia-cuda"
# The feature of a GPU target by which products of f32 may be rounded to TF32 on tensor cores.
TF32 = "tf32"
TF32_CAPABILITY = 80  # the first with such tensor cores


def gpu_target(capability: int) -> Target:
    """A GPU of any compute capability (103 for 10.3): accesses of 16 bytes, registers of a thread,
    shared memory that a block has without asking, and how much of a row can be read again without
    going to memory."""
    name = f"sm_{capability}"
    return Target(name, GPU_TRIPLE, name, (), 128, 255, 48 << 10, 512 << 10)


_NAMED = {
    target.name: target
    for target in (
        Target("x86-64-v2", X86_64_TRIPLE, "x86-64-v2", X86_64_V2_FEATURES,
               128, 16, 32 << 10, 256 << 10),
        Target("x86-64-v3", X86_64_TRIPLE, "x86-64-v3", X86_64_V3_FEATURES,
               256, 16, 32 << 10, 512 << 10),
        Target("x86-64-v4", X86_64_TRIPLE, "x86-64-v4", X86_64_V4_FEATURES,
               512, 32, 32 << 10, 1 << 20),
        Target("aarch64", AARCH64_TRIPLE, "generic", ("fp-armv8", "neon"),
               128, 32, 64 << 10, 512 << 10),
    )
}  # fmt: skip

TARGET_NAMES = tuple(_NAMED)  # of processors
_GPUS = {f"sm_{c}": gpu_target(c) for c in (75, 80, 86, 89, 90, 100, 120)}
GPU_NAMES = tuple(_GPUS)


def named_target(name: str) -> Target:
    """The target called `name`, of `TARGET_NAMES` or `GPU_NAMES`.  Raises: TargetError."""
    if name in _GPUS:
        return _GPUS[name]
    if name not in _NAMED:
        known = ", ".join(TARGET_NAMES + GPU_NAMES)
        raise TargetError(f"[target] no target is called {name!r}; known: {known}")
    return _NAMED[name]


def can_run(package_target: Target, host: Target) -> str | None:
    """None if `host` can run code made for `package_target`, else the reason why not.

    A GPU runs code for an equal or lower capability of the same major number (CUDA C programming
    guide, "Binary compatibility").
    """
    if package_target.is_gpu and host.is_gpu:
        ours, theirs = host.capability, package_target.capability
        fits = theirs <= ours and theirs // 10 == ours // 10
        return None if fits else f"made for {package_target.cpu}, this GPU is {host.cpu}"
    if package_target.architecture != host.architecture:
        return f"made for {package_target.architecture}, this CPU is {host.architecture}"
    system, its = (t.triple.split("-", 1)[-1] for t in (host, package_target))
    if system != its:
        return f"made for {its}, this system is {system}"
    missing = sorted(set(package_target.features) - set(host.features))
    if missing:
        return f"needs {', '.join(missing)}, this CPU lacks {'it' if len(missing) == 1 else 'them'}"
    return None
