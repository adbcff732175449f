"""Matrix products as users call them: matmul, linear and their relatives, all one `contract`.

Batch dimensions that only one operand has, or that one has with size 1, become free letters of the
other operand: nothing is expanded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import Autocast, Op, declare
from braze.ir.ops.composite import reshaped, summed_to
from braze.ir.ops.rules import common_dtype
from braze.ir.types import Shape, TensorType, tensor_type

LETTERS = "abcdefghijlopqrstuvwxyz"  # for batch dimensions; k, m and n are the matrices' own


@dataclass(frozen=True, slots=True)
class Product:
    """How a product becomes a contraction.

    Attributes:
        left, right: shapes to give the operands (their broadcast dimensions dropped).
        left_letters, right_letters, letters: the equation's terms.
        contracted: the contraction's shape.
        shape: the result's shape, broadcast dimensions of size 1 included.
    """

    left: Shape
    right: Shape
    left_letters: str
    right_letters: str
    letters: str
    contracted: Shape
    shape: Shape

    @property
    def equation(self) -> str:
        return f"{self.left_letters},{self.right_letters}->{self.letters}"


def _differ(name: str, x: TensorType, y: TensorType, left: int, right: int) -> ShapeError:
    return ShapeError(f"[{name}] inner sizes differ: {x} @ {y} ({left} != {right})")


@lru_cache(maxsize=4096)
def product(name: str, x: TensorType, y: TensorType) -> Product:
    """Plan `x @ y` by torch.matmul's rules.

    Raises:
        ShapeError: inner sizes differ, batch sizes do not broadcast, or an operand is 0-d.
    """
    if x.rank == 0 or y.rank == 0:
        raise ShapeError(f"[{name}] both operands need at least 1 dimension: {x} @ {y}")
    inner = y.shape[-2] if y.rank > 1 else y.shape[0]
    if x.shape[-1] != inner:
        raise _differ(name, x, y, x.shape[-1], inner)
    count = max(x.rank, y.rank, 2) - 2
    batches = []
    for shape in (x.shape[:-2], y.shape[:-2]):
        batches.append((1,) * (count - len(shape)) + shape)
    left: list[tuple[str, int]] = []
    right: list[tuple[str, int]] = []
    out: list[tuple[str, int]] = []
    shape_out: list[int] = []
    for axis, (a, b) in enumerate(zip(*batches, strict=True)):
        if a != b and 1 not in (a, b):
            raise ShapeError(
                f"[{name}] batch sizes do not broadcast: {x} @ {y} "
                f"({a} != {b} at dimension {axis - count - 2})"
            )
        size = b if a == 1 else a
        shape_out.append(size)
        if size == 1:
            continue
        for mine, terms in ((a, left), (b, right)):
            if mine != 1:
                terms.append((LETTERS[axis], size))
        out.append((LETTERS[axis], size))
    rows = [("m", x.shape[-2])] if x.rank > 1 else []
    columns = [("n", y.shape[-1])] if y.rank > 1 else []
    left += [*rows, ("k", inner)]
    right += [("k", inner), *columns]
    out += rows + columns
    sizes = [tuple(size for _, size in term) for term in (left, right, out)]
    words = ["".join(letter for letter, _ in term) for term in (left, right, out)]
    shape = (*shape_out, *(size for _, size in rows + columns))
    return Product(sizes[0], sizes[1], words[0], words[1], words[2], sizes[2], shape)


def _result(name: str, x: TensorType, y: TensorType, shape: Shape) -> tuple[TensorType, ...]:
    dtype = common_dtype(name, x, y)
    if dtype.kind == "bool":
        raise DTypeError(f"[{name}] needs numeric operands, given {x} and {y}")
    return (tensor_type(dtype, shape),)


def multiply(b: Any, x: Any, y: Any, name: str = "matmul") -> Any:
    """`x @ y` as a contraction."""
    plan = product(name, x.type, y.type)
    left, right = reshaped(b, x, plan.left), reshaped(b, y, plan.right)
    return reshaped(b, b.contract(left, right, equation=plan.equation), plan.shape)


def left_gradient(b: Any, g: Any, y: Any, x_type: TensorType, name: str = "matmul") -> Any:
    """Gradient of `x @ y` for x: letters that x lacks are summed by the contraction."""
    plan = product(name, x_type, y.type)
    upstream, right = reshaped(b, g, plan.contracted), reshaped(b, y, plan.right)
    equation = f"{plan.letters},{plan.right_letters}->{plan.left_letters}"
    return reshaped(b, b.contract(upstream, right, equation=equation), x_type.shape)


def right_gradient(b: Any, g: Any, x: Any, y_type: TensorType, name: str = "matmul") -> Any:
    """Gradient of `x @ y` for y."""
    plan = product(name, x.type, y_type)
    upstream, left = reshaped(b, g, plan.contracted), reshaped(b, x, plan.left)
    equation = f"{plan.letters},{plan.left_letters}->{plan.right_letters}"
    return reshaped(b, b.contract(upstream, left, equation=equation), y_type.shape)


def _declare_product(
    name: str, ranks: tuple[int, int] | None, doc: str, autocast: Autocast | None = "lower"
) -> Op:
    """A product; with `ranks`, for operands of just these ranks and without broadcasting."""

    def infer(x: TensorType, y: TensorType) -> tuple[TensorType, ...]:
        if ranks is not None and (x.rank, y.rank) != ranks:
            raise ShapeError(
                f"[{name}] operands must have {ranks[0]} and {ranks[1]} dimensions: {x} @ {y}"
            )
        if ranks == (3, 3) and x.shape[0] != y.shape[0]:
            raise ShapeError(
                f"[{name}] batch sizes differ: {x} @ {y} ({x.shape[0]} != {y.shape[0]})"
            )
        return _result(name, x, y, product(name, x, y).shape)

    return declare(
        name,
        "composite",
        "x y",
        infer=infer,
        decompose=lambda b, x, y: multiply(b, x, y, name),
        gradients={
            "x": lambda b, g, y, x_type: left_gradient(b, g, y, x_type, name),
            "y": lambda b, g, x, y_type: right_gradient(b, g, x, y_type, name),
        },
        complex=True,
        autocast=autocast,
        doc=doc,
    )


matmul = _declare_product(
    "matmul",
    None,
    """The matrix product with torch.matmul's rules: vectors are rows or columns, further leading
dimensions are a batch and broadcast.""",
)
mm = _declare_product("mm", (2, 2), "The product of two matrices.")
bmm = _declare_product("bmm", (3, 3), "The products of two batches of matrices.")
mv = _declare_product("mv", (2, 1), "Matrix times vector.", None)
dot = _declare_product("dot", (1, 1), "The inner product of two vectors.", None)


def _outer_types(x: TensorType, y: TensorType) -> tuple[TensorType, ...]:
    if (x.rank, y.rank) != (1, 1):
        raise ShapeError(f"[outer] operands must have 1 dimension: {x} and {y}")
    return _result("outer", x, y, (*x.shape, *y.shape))


outer = declare(
    "outer",
    "composite",
    "x y",
    infer=_outer_types,
    decompose=lambda b, x, y: b.mul(b.reshape(x, shape=(*x.type.shape, 1)), y),
    gradients={
        "x": lambda b, g, y: b.contract(g, y, equation="mn,n->m"),
        "y": lambda b, g, x: b.contract(g, x, equation="mn,m->n"),
    },
    doc="out[i, j] = x[i] * y[j].",
    complex=True,
)


def _addmm_types(bias: TensorType, x: TensorType, y: TensorType) -> tuple[TensorType, ...]:
    if (x.rank, y.rank) != (2, 2):
        raise ShapeError(f"[addmm] operands must have 2 dimensions: {x} @ {y}")
    shape = product("addmm", x, y).shape
    common_dtype("addmm", bias, x, y)
    lead = len(shape) - bias.rank
    if lead < 0 or any(a not in (1, n) for a, n in zip(bias.shape, shape[lead:], strict=True)):
        raise ShapeError(f"[addmm] {bias} does not expand to {list(shape)}: {x} @ {y}")
    return _result("addmm", x, y, shape)


addmm = declare(
    "addmm",
    "composite",
    "bias x y",
    infer=_addmm_types,
    decompose=lambda b, bias, x, y: b.add(multiply(b, x, y, "addmm"), bias),
    gradients={
        "bias": lambda b, g, bias_type: summed_to(b, g, bias_type.shape),
        "x": lambda b, g, y, x_type: left_gradient(b, g, y, x_type, "addmm"),
        "y": lambda b, g, x, y_type: right_gradient(b, g, x, y_type, "addmm"),
    },
    autocast="lower",
    doc="bias + x @ y for matrices; the bias broadcasts.",
    complex=True,
)

# linear -------------------------------------------------------------------------------------------


def _linear_types(x: TensorType, weight: TensorType) -> tuple[TensorType, ...]:
    if weight.rank != 2:
        raise ShapeError(f"[linear] the weight must be [out, in], given {weight}")
    if x.rank == 0:
        raise ShapeError(f"[linear] the input needs at least 1 dimension, given {x}")
    if x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"[linear] input features differ: input {x}, weight {weight} "
            f"({x.shape[-1]} != {weight.shape[1]})"
        )
    return _result("linear", x, weight, (*x.shape[:-1], weight.shape[0]))


def _biased_types(x: TensorType, weight: TensorType, bias: TensorType) -> tuple[TensorType, ...]:
    (out,) = _linear_types(x, weight)
    common_dtype("linear", x, weight, bias)
    if bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"[linear] the bias must be [{weight.shape[0]}] for weight {weight}, given {bias}"
        )
    return (out,)


def _lead(x: TensorType) -> str:
    return LETTERS[: x.rank - 1]


def _linear(b: Any, x: Any, weight: Any) -> Any:
    lead = _lead(x.type)
    return b.contract(x, weight, equation=f"{lead}k,nk->{lead}n")


def _linear_input_gradient(b: Any, g: Any, weight: Any) -> Any:
    lead = _lead(g.type)
    return b.contract(g, weight, equation=f"{lead}n,nk->{lead}k")


def _linear_weight_gradient(b: Any, g: Any, x: Any) -> Any:
    if x.type.rank == 1:
        return b.contract(g, x, equation="n,k->nk")
    rows = math.prod(x.type.shape[:-1])
    upstream = reshaped(b, g, (rows, g.type.shape[-1]))
    return b.contract(upstream, reshaped(b, x, (rows, x.type.shape[-1])), equation="mn,mk->nk")


def _bias_gradient(b: Any, g: Any) -> Any:
    return summed_to(b, g, g.type.shape[-1:])


linear_no_bias = declare(
    "linear_no_bias",
    "composite",
    "x weight",
    infer=_linear_types,
    decompose=_linear,
    gradients={"x": _linear_input_gradient, "weight": _linear_weight_gradient},
    autocast="lower",
    doc="x @ weight.T with weight [out, in]; x may have any number of leading dimensions.",
    complex=True,
)
linear = declare(
    "linear",
    "composite",
    "x weight bias",
    infer=_biased_types,
    decompose=lambda b, x, weight, bias: b.add(_linear(b, x, weight), bias),
    gradients={
        "x": _linear_input_gradient,
        "weight": _linear_weight_gradient,
        "bias": _bias_gradient,
    },
    autocast="lower",
    doc="x @ weight.T + bias with weight [out, in] and bias [out].",
    complex=True,
)
