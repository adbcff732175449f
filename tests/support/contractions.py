"""Contractions made from an equation and NumPy views, and a way to run one kernel natively.

`Problem` holds everything for one test: the operands' flat memory, the contraction and NumPy's
answer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from braze.codegen.llvm.compile import compile_object
from braze.codegen.llvm.contractions import emit_contraction
from braze.ir.dtypes import DType, bf16, f16, f32, from_numpy
from braze.ir.index import Index, LoopVar
from braze.ir.loops import (
    Access,
    Bound,
    Buffer,
    Contraction,
    Expr,
    Placement,
    Program,
    Ref,
    Store,
)
from braze.ir.loops_expressions_parser import ExpressionParser
from braze.ir.parser import Scanner
from braze.ir.target import Target
from braze.runtime.object_loader import LoadedObject

GUARD = 64

# (acc, index of a point in the result, variable of each letter) -> stores' values
Epilogue = Callable[["Problem", Expr], list[tuple[str, Expr]]]


def base_and_view(view: np.ndarray) -> tuple[np.ndarray, int, tuple[int, ...]]:
    """The flat array that a view looks into, and the view's offset and strides in elements."""
    base: object = view
    while getattr(base, "base", None) is not None:
        base = base.base  # `as_strided` puts an object that is no array between
    assert isinstance(base, np.ndarray)
    flat = base.reshape(-1)
    item = view.dtype.itemsize
    begin = view.__array_interface__["data"][0] - flat.__array_interface__["data"][0]
    return flat, begin // item, tuple(s // item for s in view.strides)


@dataclass
class Problem:
    """One contraction of two views.

    equation: as in the `contract` operation. out_order: letters in the order of the result's memory
    (default: the result's own), so that a result may be stored transposed.
    guards: bounds, as text in the equation's letters, of "lhs" and "rhs"; `clear` are the operands
    with zeros where these fail (their own elements there are never read).
    extra: further inputs, by name, for the epilogue. epilogue: makes (buffer name, value) pairs;
    buffers other than `out` are results of the same shape.
    """

    equation: str
    lhs: np.ndarray
    rhs: np.ndarray
    out_order: str = ""
    guards: dict[str, str] = field(default_factory=dict)
    clear: dict[str, np.ndarray] = field(default_factory=dict)
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    epilogue: Epilogue | None = None

    def __post_init__(self) -> None:
        terms, self.out = self.equation.split("->")
        self.left, self.right = terms.split(",")
        self.out_order = self.out_order or self.out
        sizes = dict(zip(self.left + self.right, self.lhs.shape + self.rhs.shape, strict=True))
        inner = [letter for letter in self.left if letter not in self.out]
        self.variables = {letter: LoopVar(letter, sizes[letter]) for letter in [*self.out, *inner]}
        self.inner = len(inner)
        self.dtype = from_numpy(self.lhs.dtype)
        self.sum_dtype = f32 if self.dtype in (f16, bf16) else self.dtype
        self.memory = {"lhs": base_and_view(self.lhs)[0], "rhs": base_and_view(self.rhs)[0]}
        self.memory |= {name: array.reshape(-1) for name, array in self.extra.items()}
        self.buffers = {
            name: Buffer(name, from_numpy(flat.dtype), flat.size, "in")
            for name, flat in self.memory.items()
        }
        self.results = ["out"]
        self.contraction = self._contraction()

    def index(self, letters: str) -> Index:
        """Row-major index over some of the result's letters."""
        total = Index()
        for letter in letters:
            variable = self.variables[letter]
            total = total * variable.extent + Index.of(variable)
        return total

    def _access(self, name: str, view: np.ndarray, letters: str) -> Access:
        _, offset, strides = base_and_view(view)
        by_letter = dict(zip(letters, strides, strict=True))
        wanted = tuple(
            0 if variable.extent == 1 else by_letter.get(letter, 0)
            for letter, variable in self.variables.items()
        )
        return Access(self.buffers[name], wanted, offset, self._guard(name))

    def _guard(self, name: str) -> tuple[Bound, ...]:
        text = self.guards.get(name)
        if text is None:
            return ()
        parser = ExpressionParser(Scanner(text))
        parser.variables = dict(self.variables)
        return parser.bounds()

    def _contraction(self) -> Contraction:
        numel = 1
        for letter in self.out:
            numel *= self.variables[letter].extent
        acc = Ref("acc", self.sum_dtype)
        values = [("out", acc)] if self.epilogue is None else self.epilogue(self, acc)
        stores = []
        self.results = [name for name, _ in values]
        for name, value in values:
            self.buffers[name] = Buffer(name, value.dtype, numel, "out")
            stores.append(Store(self.buffers[name], self.index(self.out_order), value))
        return Contraction(
            "test",
            tuple(self.buffers.values()),
            tuple(self.variables.values()),
            self.inner,
            self._access("lhs", self.lhs, self.left),
            self._access("rhs", self.rhs, self.right),
            stores,
            self.sum_dtype,
        )

    def program(self) -> Program:
        read = [name for name, b in self.buffers.items() if b.access == "in"]
        written = [name for name, b in self.buffers.items() if b.access != "in"]
        placements = {name: Placement("input", i) for i, name in enumerate(read)}
        placements |= {name: Placement("output", i) for i, name in enumerate(written)}
        return Program("test", len(read), len(written), [[self.contraction]], placements, 0)

    def reference(self) -> np.ndarray:
        """The plain sum, by NumPy in double precision (integers: in their own), in `out_order`."""
        wide = np.float64 if self.dtype.is_floating_point else self.lhs.dtype
        answer = np.einsum(
            f"{self.left},{self.right}->{self.out_order}",
            self.clear.get("lhs", self.lhs).astype(wide),
            self.clear.get("rhs", self.rhs).astype(wide), optimize=True,
        )  # fmt: skip
        return answer.astype(self.lhs.dtype) if not self.dtype.is_floating_point else answer


@dataclass
class Native:
    """A compiled kernel, its memory and how to run it."""

    problem: Problem
    target: Target
    chunks: int
    ir_text: str
    loaded: LoadedObject
    symbol: str
    arrays: dict[str, np.ndarray]
    pointers: ctypes.Array[ctypes.c_void_p]

    def run(self) -> dict[str, np.ndarray]:
        """Run all chunks, the last one first, and give the results in `out_order`."""
        signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        kernel = signature(self.loaded.address(self.symbol))
        for chunk in reversed(range(self.chunks)):
            kernel(ctypes.addressof(self.pointers), chunk, chunk % 2)
        shape = tuple(self.problem.variables[c].extent for c in self.problem.out_order)
        results = {}
        for name in self.problem.results:
            whole = self.arrays[name]
            sentinel = whole.view(np.uint8)
            edge = GUARD * whole.itemsize
            assert (sentinel[:edge] == 0xA5).all(), f"{name}: written before its begin"
            assert (sentinel[-edge:] == 0xA5).all(), f"{name}: written beyond its end"
            results[name] = whole[GUARD:-GUARD].reshape(shape)
        return results


def compile_problem(problem: Problem, target: Target) -> Native:
    """Generate, compile and load the kernel, with results between guard bytes."""
    program = problem.program()
    emitted = emit_contraction(problem.contraction, program.placements, program, target)
    loaded = LoadedObject(compile_object(emitted.ir_text, target))
    arrays: dict[str, np.ndarray] = {}
    addresses: list[int] = []
    for name, buffer in problem.buffers.items():
        if buffer.access == "in":
            arrays[name] = problem.memory[name]
            addresses.append(arrays[name].ctypes.data)
        else:
            raw = np.full((buffer.numel + 2 * GUARD) * buffer.dtype.itemsize, 0xA5, np.uint8)
            arrays[name] = raw.view(buffer.dtype.numpy)
            addresses.append(arrays[name].ctypes.data + GUARD * buffer.dtype.itemsize)
    scratch = np.full(2 * emitted.scratch_bytes + 64, 0xFF, np.uint8)  # NaN where it is not written
    arrays["scratch"] = scratch
    aligned = -(-scratch.ctypes.data // 64) * 64
    status = np.zeros(4, np.int64)
    arrays["status"] = status
    table = [*addresses, 0, aligned, status.ctypes.data]
    pointers = (ctypes.c_void_p * len(table))(*table)
    return Native(
        problem, target, emitted.chunks, emitted.ir_text, loaded, emitted.symbol, arrays, pointers
    )


def run_problem(problem: Problem, target: Target) -> dict[str, np.ndarray]:
    """Compile, run and return the results by name."""
    return compile_problem(problem, target).run()


def random_array(shape: tuple[int, ...], dtype: DType = f32, seed: int = 0) -> np.ndarray:
    """Numbers around zero, of a magnitude that keeps sums small."""
    generator = np.random.default_rng(seed)
    if dtype.is_floating_point:
        return generator.uniform(-1, 1, shape).astype(dtype.numpy)
    return generator.integers(-9 if dtype.is_signed else 0, 10, shape).astype(dtype.numpy)


def window2d(x: np.ndarray, size: int, stride: int = 1, dilation: int = 1) -> np.ndarray:
    """[n,h,w,c] as [n,oh,ow,k,l,c] without a copy."""
    n, h, w, c = x.shape
    reach = dilation * (size - 1)
    oh, ow = (h - reach - 1) // stride + 1, (w - reach - 1) // stride + 1
    sn, sh, sw, sc = x.strides
    return np.lib.stride_tricks.as_strided(
        x, (n, oh, ow, size, size, c),
        (sn, sh * stride, sw * stride, sh * dilation, sw * dilation, sc), writeable=False,
    )  # fmt: skip
