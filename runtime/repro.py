"""Write a kernel or a graph, with what it is given, as a program that runs it alone.

In: a kernel with its operands, or a graph with its inputs.  Out: one Python file, which holds the
IR's text and the arrays, and needs nothing but Braze (`braze.runtime.reproducing` runs it). Arrays
that are too large to be written out are drawn anew when it runs, like the ones that they stand for.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from braze.ir.devices import HOST
from braze.ir.dtypes import from_numpy
from braze.ir.graph import Graph
from braze.ir.target import Target
from braze.runtime.config import config
from braze.runtime.cpu import host_target
from braze.runtime.files import replacing
from braze.runtime.kernel_cases import Array, KernelCase

if TYPE_CHECKING:
    from braze.codegen.llvm.panels import Order

# Bytes of one array, and of all of them, that are written out.
MOST_BYTES = 1 << 18
MOST_IN_ALL = 1 << 20
_LINE = 96

Given = Array | int | float

_KERNEL = '''"""Kernel @{name} by itself: compiled code against the interpreters,
on {data}.

    python {file}            status 1 if they differ
    python {file} --time     how long the compiled kernel takes
    python {file} --show     its loops, {code}

Written for {target}
{note}"""

import sys

from braze.runtime.reproducing import run_kernel

# What it computes: the body of its fusion node, in the graph IR.
BODY = {body}

# Its loops, in the loop IR.
LOOPS = {loops}

OPERANDS = {operands}  # the buffer of each of the body's inputs
RESULTS = {results}  # the buffer of each of its outputs
OVERWRITTEN = {overwritten}  # a result's buffer: the operand's that lies at the same place
{settings}
ARRAYS = {arrays}

if __name__ == "__main__":
    sys.exit(run_kernel(BODY, LOOPS, OPERANDS, RESULTS, OVERWRITTEN, ARRAYS, {given}))
'''

_GRAPH = '''"""Graph @{name} by itself: each stage of its compile against the interpreter,
on {data}.

    python {file}            status 1 if a stage changes a result
    python {file} --time     how long the compiled graph takes
    python {file} --show     every stage of the compiler

Written for {target}
{note}"""

import sys

from braze.runtime.reproducing import run_graph

GRAPH = {graph}

{settings}
ARRAYS = {arrays}  # of its inputs; numbers for those of role "scalar"

if __name__ == "__main__":
    sys.exit(run_graph(GRAPH, ARRAYS, {given}))
'''

_DRAWN = """
Arrays that were too large to be written out are drawn at random, with the mean and the deviation,
or the range, of those of the run that this comes from. If nothing differs, it may be for that.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the code of a reproducer runs.

    Attributes:
        device: "cpu", or a GPU as "cuda:0".
        target: what it is compiled for; None for the device that runs it.
        orders: of operands, or of the graph's inputs, those that it reads in another order (of
            `braze.codegen.llvm.panels`), by name.
        data: what the arrays are, for people.
    """

    device: str = HOST
    target: Target | None = None
    orders: Mapping[str, Order] = field(default_factory=dict)
    data: str = "the operands of a run"

    def described(self) -> str:
        """The target, for people.  Raises: CudaError."""
        if self.target is None and self.device != HOST:
            from braze.runtime.cuda.devices import device_named

            return device_named(self.device).target.to_text()
        return (self.target or host_target()).to_text()


HERE = Setting()


def _of_operands(setting: Setting, names: Sequence[str]) -> Setting:
    """Without the orders of what a kernel does not read."""
    orders = {name: order for name, order in setting.orders.items() if name in names}
    return replace(setting, orders=orders)


def write_kernel(
    path: str | Path, case: KernelCase, values: Mapping[str, Array], setting: Setting = HERE
) -> None:
    """Write a kernel's reproducer. The file appears when it is complete.

    Args:
        values: an array for each operand's buffer.
        setting: where its code runs.

    Raises:
        OSError: it cannot be written.
    """
    names = list(dict.fromkeys(case.operands))
    arrays = dict(zip(names, _described([np.asarray(values[n]) for n in names]), strict=True))
    text = _KERNEL.format(
        name=case.name,
        body=_quoted(str(case.body)),
        loops=_quoted(str(case.kernel)),
        operands=repr(list(case.operands)),
        results=repr(list(case.results)),
        overwritten=repr(dict(case.overwritten)),
        arrays=_entries((repr(name), entry) for name, entry in arrays.items()),
        code="LLVM IR and assembly" if setting.device == HOST else "CUDA C and launches",
        **_common(path, list(arrays.values()), _of_operands(setting, names)),
    )
    _write(path, text)


def write_graph(
    path: str | Path, graph: Graph, inputs: Sequence[Given], setting: Setting = HERE
) -> None:
    """Write a graph's reproducer. The file appears when it is complete.

    Args:
        graph: without devices.
        inputs: an array for each input, a Python number for those of role "scalar".
        setting: where its code runs.

    Raises:
        OSError: it cannot be written.
    """
    arrays = [item for item in inputs if not isinstance(item, (int, float))]
    described = iter(_described(arrays))
    entries = [item if isinstance(item, (int, float)) else next(described) for item in inputs]
    text = _GRAPH.format(
        name=graph.name,
        graph=_quoted(str(graph)),
        arrays=_entries((str(number), entry) for number, entry in enumerate(entries)),
        **_common(path, entries, setting),
    )
    _write(path, text)


def _common(path: str | Path, entries: Sequence[Any], setting: Setting) -> dict[str, Any]:
    drawn = any(isinstance(entry, dict) and "seed" in entry for entry in entries)
    settings = {"threads": repr(config.num_threads)}
    if setting.device != HOST:
        settings = {"device": repr(setting.device)}
    elif setting.target is not None:
        settings["target"] = repr(setting.target.to_text())
    if setting.orders:
        settings["orders"] = repr(dict(setting.orders))
    return {
        "file": Path(path).name,
        "target": setting.described(),
        "data": "operands that are drawn at random" if drawn else setting.data,
        "note": _DRAWN if drawn else "",
        "settings": "".join(f"{name.upper()} = {value}\n" for name, value in settings.items()),
        "given": ", ".join(f"{name}={name.upper()}" for name in settings),
    }


def _write(path: str | Path, text: str) -> None:
    with replacing(Path(path)) as file:
        file.write(text.encode())


def _quoted(text: str) -> str:
    """A string as a Python literal that can be read."""
    if "'''" in text or text.endswith(("'", "\\")):
        return repr(text)
    return f"r'''\n{text}\n'''"


def _entries(pairs: Any) -> str:
    lines = [f"    {name}: {_literal(entry)},\n" for name, entry in pairs]
    return "{\n" + "".join(lines) + "}"


def _literal(entry: Any) -> str:
    if not isinstance(entry, dict):
        return _number(entry)
    inside = []
    for name, value in entry.items():
        shown = repr(value)
        if name == "data" and len(value) > _LINE:
            pieces = [value[i : i + _LINE] for i in range(0, len(value), _LINE)]
            shown = "(\n" + "".join(f"        {piece!r}\n" for piece in pieces) + "    )"
        elif isinstance(value, float):
            shown = _number(value)
        inside.append(f"{name!r}: {shown}")
    return "{" + ", ".join(inside) + "}"


def _number(value: float) -> str:
    """A number as a Python expression: inf and nan have no literals."""
    return repr(value) if np.isfinite(value) else f"float({str(float(value))!r})"


# Arrays -------------------------------------------------------------------------------------------


def _described(arrays: Sequence[Array]) -> list[dict[str, Any]]:
    """Arrays as literals, the smaller ones whole."""
    left = MOST_IN_ALL
    found: dict[int, dict[str, Any]] = {}
    for at in sorted(range(len(arrays)), key=lambda at: arrays[at].nbytes):
        array = arrays[at]
        if array.nbytes <= min(left, MOST_BYTES):
            left -= array.nbytes
            packed = zlib.compress(np.ascontiguousarray(array).tobytes())
            found[at] = _type(array) | {"data": base64.b85encode(packed).decode()}
        else:
            found[at] = _type(array) | {"seed": at} | _likeness(array)
    return [found[at] for at in range(len(arrays))]


def _type(array: Array) -> dict[str, Any]:
    return {"dtype": from_numpy(array.dtype).name, "shape": tuple(array.shape)}


def _likeness(array: Array) -> dict[str, Any]:
    if array.dtype.kind == "b":
        return {"mean": float(array.mean())}
    if array.dtype.kind in "iu":
        return {"least": int(array.min()), "most": int(array.max())}
    parts = array.view(array.real.dtype) if array.dtype.kind == "c" else array
    wide = parts.astype(np.float64)
    wide = wide[np.isfinite(wide)]
    if not wide.size:
        return {"mean": 0.0, "deviation": 1.0}
    # Of one sign, what is drawn must be, too: roots and logarithms are taken of it.
    signs = {"least": float(wide.min())} if wide.min() >= 0 else {}
    return {"mean": float(wide.mean()), "deviation": float(wide.std()), **signs}


def drawn_for(
    graph: Graph, known: Mapping[str, Array] | None = None, seed: int = 0
) -> list[Given]:
    """Something to run a graph on: arrays drawn at random; integers, which may be indices, are
    zeros.

    Args:
        known: by name those inputs that are not drawn.
    """
    rng = np.random.default_rng(seed)
    found: list[Given] = []
    for value, role in zip(graph.inputs, graph.roles, strict=True):
        dtype = value.dtype.numpy
        array = (known or {}).get(value.name or "")
        if array is None and dtype.kind in "iu":
            array = np.zeros(value.shape, dtype)
        elif array is None and dtype.kind == "b":
            array = np.asarray(rng.random(value.shape) < 0.5)
        elif array is None:
            array = np.asarray(rng.standard_normal(value.shape)).astype(dtype)
        found.append(array.item() if role == "scalar" else array)
    return found


def array_from(entry: Any) -> Given:
    """The array, or the number, that a literal of a reproducer describes."""
    if not isinstance(entry, dict):
        number: float = entry
        return number
    from braze.ir.dtypes import dtype_named

    dtype, shape = dtype_named(entry["dtype"]).numpy, tuple(entry["shape"])
    if "data" in entry:
        packed = zlib.decompress(base64.b85decode(entry["data"]))
        whole: Array = np.frombuffer(packed, dtype).reshape(shape).copy()
        return whole
    rng = np.random.default_rng(entry["seed"])
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < entry["mean"])
    if dtype.kind in "iu":
        kind = np.uint64 if dtype.kind == "u" else np.int64
        drawn: Array = rng.integers(entry["least"], entry["most"], shape, kind, endpoint=True)
        return drawn.astype(dtype)
    drawn = rng.standard_normal(shape)
    if dtype.kind == "c":
        drawn = drawn + 1j * rng.standard_normal(shape)
    drawn = drawn * entry["deviation"] + entry["mean"]
    if "least" in entry:
        drawn = np.abs(drawn - entry["least"]) + entry["least"]
    return drawn.astype(dtype)
