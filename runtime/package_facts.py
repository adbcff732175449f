"""Whether what a manifest says can be true, before anything is computed from it.

In: a manifest, or the facts of one code, already of the right form.  Out: nothing, or a ValueError
that says which is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from braze.ir.dtypes import dtype_named
from braze.ir.graph import ROLES
from braze.runtime.artifact import Artifact, Slot

if TYPE_CHECKING:
    from braze.runtime.cuda.code import CudaCode

# What a process can address on the processors and GPUs that there are.
MOST_BYTES = 1 << 47


def require_manifest(manifest: dict[str, Any]) -> None:
    """Raise ValueError unless a manifest has names, arguments and targets."""
    for key in ("name", "braze", "structure"):
        if not isinstance(manifest.get(key), str):
            raise ValueError(f"{key} is no text: {manifest.get(key)!r}")
    names = manifest.get("inputs")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"inputs are no names: {names!r}")
    _require_distinct("argument", names)
    targets = manifest.get("targets")
    if not isinstance(targets, list) or not targets:
        raise ValueError("there are no targets")


def require_code(code: Artifact | CudaCode, names: Sequence[str], weights: Iterable[str]) -> None:
    """Raise ValueError unless the numbers of code for some sizes are those of memory.

    Args:
        names: what a call's arguments are called. weights: the inputs that are not arguments.
    """
    for slot in (*code.inputs, *code.outputs):
        _require_slot(slot)
    inputs = [slot.name for slot in code.inputs]
    _require_distinct("input", inputs)
    missing = sorted(set(weights) - set(inputs))
    if missing:
        raise ValueError(f"the code reads no weight {missing[0]!r}")
    count = len(inputs) - len(set(weights))
    if count != len(names):
        raise ValueError(f"the code takes {count} arguments, the package {len(names)}")
    _require_bytes("the arena", code.arena_bytes)
    if isinstance(code, Artifact):
        _require_bytes("a thread's workspace", code.scratch_bytes)
        for word in code.words:
            if not 0 <= word < MOST_BYTES:
                raise ValueError(f"the code is given the number {word}")
    elif not code.cubin and any(True for _ in code.program.launches()):
        raise ValueError("functions are launched, of which there is no machine code")


def require_same(codes: Sequence[tuple[Sequence[Slot], Sequence[Slot]]]) -> None:
    """Raise ValueError unless all codes of a package take and give arrays of the same kinds."""

    def kinds(slots: Sequence[Slot]) -> list[tuple[str, int, str]]:
        return [(slot.dtype, len(slot.shape), slot.role) for slot in slots]

    first = list(map(kinds, codes[0])) if codes else []
    if any(list(map(kinds, code)) != first for code in codes):
        raise ValueError("code for some sizes takes or gives other arrays than for others")


def require_structure(structure: Any, outputs: int) -> None:
    """Raise ValueError unless results can be arranged so; see `write_package` for the form."""
    match structure:
        case None:
            return
        case {"dict": list(pairs), **others} if not others:
            for pair in pairs:
                if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
                    raise ValueError(f"structure: {pair!r} is no [key, value]")
                require_structure(pair[1], outputs)
        case {"tuple": list(items), **others} | {"list": list(items), **others} if not others:
            for part in items:
                require_structure(part, outputs)
        case int(number) if not isinstance(number, bool) and 0 <= number < outputs:
            return
        case _:
            raise ValueError(
                f"structure: {structure!r} is neither a container nor the number of an output "
                f"(0 to {outputs - 1})"
            )


def _require_slot(slot: Slot) -> None:
    if not all(isinstance(text, str) for text in (slot.name, slot.dtype, slot.role)):
        raise ValueError(f"an array's name, dtype or role is no text: {slot!r}")
    if slot.role not in ROLES:
        raise ValueError(f"array {slot.name!r} has the unknown role {slot.role!r}")
    try:
        itemsize = dtype_named(slot.dtype).itemsize
    except KeyError:
        raise ValueError(f"array {slot.name!r} has the unknown dtype {slot.dtype!r}") from None
    if any(extent < 0 for extent in slot.shape):
        raise ValueError(f"array {slot.name!r} has the shape {list(slot.shape)}")
    # As NumPy counts: an array without elements has strides of the other extents too.
    nbytes = prod(max(1, extent) for extent in slot.shape) * itemsize
    _require_bytes(f"array {slot.name!r}", nbytes)


def _require_bytes(what: str, nbytes: int) -> None:
    if not 0 <= nbytes < MOST_BYTES:
        raise ValueError(f"{what} has {nbytes} bytes")


def _require_distinct(what: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{what} names are not distinct: {', '.join(names)}")
