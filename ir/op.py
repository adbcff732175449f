"""What an operation is: one declaration from which everything else follows.

An `Op` says how many operands it takes, its typed attributes, its result types (`infer`), what it
means (`evaluate`, on NumPy arrays), its derivative (`gradients`) and how it becomes primitives
(`decompose`). The tracer, printer, parser, verifier, interpreter, both code generators and the
tests read these declarations; none of them keeps a list of operations of its own.

All rules take the operands by position and the attributes by keyword:

    infer(x, *, dims, keepdim)       -> tuple of TensorType    (x: TensorType)
    evaluate(x, *, dims, keepdim)    -> ndarray or tuple       (x: ndarray)
    decompose(b, x, *, dims, keepdim)-> Value or tuple         (x: Value; b: Builder)

What an operation means for complex operands is its `complex`: False, it refuses them; True, a
primitive is applied to the real and to the imaginary part, a composite's decomposition holds for
them too; or a rule on pairs of parts, as `decompose` (see `braze.ir.parts`).

A gradient rule gives the gradient of ONE operand. It names what it needs, and so decides what the
tape keeps alive: `g` (the gradient of the result, `g_<result>` where there are several), an operand
or a result by its name (kept), `<operand>_type` (not kept, only its type), or an attribute. The one
rule of a variadic operand serves all its positions and may ask for `position` and `operand_types`
(the types of all operands):

    gradients={"x": lambda b, g, y: b.mul(g, y), "y": lambda b, g, x: b.mul(g, x)}

Of several results' gradients, those where nothing flows back are None for a recurrence and for
attention (`Op.shares_gradients`), and zeros for all others.

For complex operands a rule is the linear map of the differentials: with dL = Re(g dout) it gives
the c for which dL = Re(c dx), so that the rules of analytic functions are those of real ones. What
the user sees is conj(c), the direction of steepest ascent, as in PyTorch; `gradient_of` converts.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from braze.ir.devices import HOST, placed_types
from braze.ir.dtypes import DType
from braze.ir.errors import AttributeTypeError, UnsupportedDTypeError
from braze.ir.types import TensorType

if TYPE_CHECKING:
    from braze.ir.graph import Value

AttributeValue = bool | int | float | str | DType | tuple[int, ...]
AttributeKind = (
    type[bool] | type[int] | type[float] | type[str] | type[DType] | type[tuple[Any, ...]]
)

# What code is generated for, plus `composite`: everything that `decompose` turns into the others.
Category = Literal[
    "pointwise",
    "reduce",
    "contract",
    "movement",
    "gather",
    "scatter",
    "creation",
    "random",
    "scan",
    "sort",
    "check",
    "lattice",
    "host",
    "recurrence",
    "attention",
    "fusion",
    "complex",
    "transfer",
    "composite",
]

# What `autocast` does to 16-bit and f32 operands: casts all of them to its dtype, or to f32.
Autocast = Literal["lower", "f32"]

_ANY_ARGUMENTS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS

# Of these, every operation moves elements as they are.
_MOVES = ("movement", "gather")

# Of these, an operation is computed at the points of whatever loops its kernel has.
_ANYWHERE = ("pointwise", "movement", "gather", "creation", "check")

Rule = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Gradient:
    """The derivative with respect to one operand.

    Attributes:
        rule: called as ``rule(b, **{name: value for name in names})``.
        names: the rule's parameters after the builder.
        operands: positions of the operands whose values it reads.
        results: positions of the results whose values it reads.
    """

    rule: Rule
    names: tuple[str, ...]
    operands: tuple[int, ...]
    results: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """How an operation of category "recurrence" runs, one step after the other.

    Dimension 0 of its stacked operands, and of all its results, is time. `rule` makes the values
    of one step (a list of values for a result whose dimension 1 they share out), in the order of
    the results. It asks for what it needs by the names of its parameters after the builder: an
    operand (a stacked one: its values at this step), an attribute, `previous_<result>`: its values
    at the step before, or `before_<operand>`: those of the step that is earlier in time.

    Attributes:
        stacked: the operands that have a time dimension.
        starts: result or stacked operand -> the operand that stands for what is before its first
            step.
        backwards: the steps run from the last to the first, unless the attribute `reverse` is set.
            Other recurrences run this way only if it is.
    """

    rule: Rule
    stacked: tuple[str, ...]
    starts: Mapping[str, str]
    backwards: bool = False


@dataclass(eq=False, slots=True)
class Op:
    """A declared operation. See the module's docstring for the rules' signatures.

    Attributes:
        name: unique; also the builder's method name.
        category: which generator handles it.
        operands: names of the operands.
        variadic: the last operand name stands for any number of operands (at least one).
        attributes: attribute name -> type. Tuples hold integers.
        optional: the attributes that a node may lack; rules have defaults for them.
        results: names of the results.
        broadcasts: operands broadcast against each other (so gradients are summed back).
        gradients: operand name -> rule, for the operands that have one.
        differentiable: False for operations whose results carry no gradient (comparisons, ...).
        domain: interval in which tests sample float operands.
        cost: rough number of instructions for one result element.
        complex: what it means for complex operands; see the module's docstring.
        effect: must not be removed though nobody reads its results (`check`, collectives).
        autocast: what `autocast` casts floating-point operands to, or None.
        steps: of a recurrence.
    """

    name: str
    category: Category
    operands: tuple[str, ...]
    attributes: Mapping[str, AttributeKind]
    results: tuple[str, ...]
    infer: Callable[..., tuple[TensorType, ...]]
    evaluate: Rule | None
    decompose: Rule | None
    gradients: Mapping[str, Gradient]
    differentiable: bool
    broadcasts: bool
    variadic: bool
    complex: Rule | bool
    effect: bool
    domain: tuple[float, float]
    cost: int
    doc: str
    autocast: Autocast | None
    steps: Steps | None = None
    optional: frozenset[str] = frozenset()

    @property
    def is_primitive(self) -> bool:
        return self.category != "composite"

    @property
    def is_pointwise(self) -> bool:
        return self.category == "pointwise"

    @property
    def is_reduce(self) -> bool:
        return self.category == "reduce"

    @property
    def is_scan(self) -> bool:
        return self.category == "scan"

    @property
    def is_movement(self) -> bool:
        return self.category == "movement"

    @property
    def is_contract(self) -> bool:
        return self.category == "contract"

    @property
    def is_convolution(self) -> bool:
        """Is it a convolution or a gradient of one, before it is decomposed?"""
        return {"dilation", "groups"} <= self.attributes.keys()

    @property
    def is_host(self) -> bool:
        """Is it run by calling its `evaluate` from compiled code?"""
        return self.category == "host"

    @property
    def is_collective(self) -> bool:
        """Does it talk to other processes? Then it runs exactly once each time, in its order."""
        return self.is_host and self.effect

    @property
    def is_awaited(self) -> bool:
        """Is it where the result of a collective is waited for?"""
        return self.is_collective and self.operands == ("ticket",)

    @property
    def is_recurrence(self) -> bool:
        """Does it run step by step through time?"""
        return self.category == "recurrence"

    @property
    def is_attention(self) -> bool:
        """Is it attention or its gradient?"""
        return self.category == "attention"

    @property
    def is_transfer(self) -> bool:
        """Does it bring a value to another device? No program for one device holds any."""
        return self.category == "transfer"

    @property
    def is_alone(self) -> bool:
        """Is it a kernel of its own, with nothing fused, whose operands lie in memory in order?"""
        return self.is_host or self.is_recurrence

    @property
    def shares_gradients(self) -> bool:
        """Do the gradients of its operands have most in common, and does it matter to them whether
        something flows back to a result?"""
        return self.is_recurrence or self.is_attention

    @property
    def has_own_loops(self) -> bool:
        """Does its category decide which loops its kernel has?"""
        return self.category not in _ANYWHERE

    @property
    def may_fail(self) -> bool:
        """Can running it end the program with an error?"""
        return self.effect or self.is_host

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return op_named, (self.name,)

    def result_types(
        self, operands: Sequence[TensorType], attributes: Mapping[str, AttributeValue]
    ) -> tuple[TensorType, ...]:
        """Types of the results; ShapeError, DTypeError, DimensionError or DeviceError for bad
        operands. Rules know no devices: a result is where the operands are."""
        for operand in operands:
            if operand.device != HOST:
                return placed_types(self, operands, attributes)
        return self.infer(*operands, **attributes)

    def operand_name(self, position: int) -> str:
        """Name of the operand at a position (the last name repeats when variadic)."""
        return self.operands[min(position, len(self.operands) - 1)]

    def gradient(self, position: int) -> Gradient | None:
        """The rule for the operand at a position, or None where there is none."""
        return self.gradients.get(self.operand_name(position))


_TABLE: dict[str, Op] = {}


def _declare_all() -> None:
    import braze.ir.ops  # noqa: F401


def op_named(name: str) -> Op:
    """The declared op called `name`.

    Raises:
        KeyError: there is no such op.
    """
    op = _TABLE.get(name)
    if op is None:
        _declare_all()
        op = _TABLE[name]
    return op


def all_ops() -> tuple[Op, ...]:
    """Every declared op, in the order of declaration."""
    _declare_all()
    return tuple(_TABLE.values())


def declare(
    name: str,
    category: Category,
    operands: str,
    *,
    infer: Callable[..., tuple[TensorType, ...]],
    evaluate: Rule | None = None,
    decompose: Rule | None = None,
    gradients: Mapping[str, Rule] | None = None,
    differentiable: bool = True,
    attributes: Mapping[str, AttributeKind] | None = None,
    results: str = "out",
    broadcasts: bool = False,
    variadic: bool = False,
    complex: Rule | bool | None = None,
    effect: bool = False,
    domain: tuple[float, float] = (-2.0, 2.0),
    cost: int = 1,
    autocast: Autocast | None = None,
    doc: str,
    steps: Steps | None = None,
    optional: str = "",
) -> Op:
    """Declare an operation and enter it in the table.

    Args:
        operands: names, separated by spaces; a trailing `*` makes the last one variadic.
        results: the results' names, separated by spaces.
        gradients: operand name -> rule. An op that is differentiable must have at least one.
        complex: by default True for what moves elements, False for all others.
        optional: the names of the attributes that may be missing, separated by spaces.

    Raises:
        ValueError: the declaration is inconsistent, for example a gradient rule names something
            unknown or a composite has no decomposition. This happens when `braze.ir` is imported.
    """
    variadic = variadic or operands.endswith("*")
    operand_names = tuple(operands.rstrip("*").split())
    result_names = tuple(results.split())
    kinds = dict(attributes or {})
    if name in _TABLE:
        raise ValueError(f"op {name} is declared twice")
    if evaluate is None and decompose is None and category != "fusion":
        raise ValueError(f"op {name} cannot run: it has neither `evaluate` nor `decompose`")
    if (category == "composite") != (decompose is not None):
        raise ValueError(f"op {name}: exactly the composite ops have a decomposition")
    if (category == "recurrence") != (steps is not None):
        raise ValueError(f"op {name}: exactly the recurrences have steps")
    if differentiable != bool(gradients):
        raise ValueError(f"op {name}: give gradients, or say differentiable=False")
    rules = {
        operand: _gradient(name, rule, operand_names, result_names, kinds)
        for operand, rule in (gradients or {}).items()
    }
    unknown = set(rules) - set(operand_names)
    if unknown:
        raise ValueError(f"op {name}: gradients for unknown operands {sorted(unknown)}")
    if complex is None:
        complex = category in _MOVES
    if complex is False:
        infer = _without_complex(name, infer)
    op = Op(
        name=name,
        category=category,
        operands=operand_names,
        attributes=kinds,
        results=result_names,
        infer=infer,
        evaluate=evaluate,
        decompose=decompose,
        gradients=rules,
        differentiable=differentiable,
        broadcasts=broadcasts,
        variadic=variadic,
        complex=complex,
        effect=effect,
        domain=domain,
        cost=cost,
        doc=doc,
        autocast=autocast,
        steps=steps,
        optional=frozenset(optional.split()),
    )
    _TABLE[name] = op
    return op


def _without_complex(
    name: str, infer: Callable[..., tuple[TensorType, ...]]
) -> Callable[..., tuple[TensorType, ...]]:
    """The type rule of an operation that refuses complex operands."""

    @functools.wraps(infer)
    def rule(*types: TensorType, **attributes: Any) -> tuple[TensorType, ...]:
        for t in types:
            if t.dtype.kind == "complex":
                given = ", ".join(map(str, types))
                raise UnsupportedDTypeError(
                    f"[{name}] not implemented for complex operands, given {given}"
                )
        return infer(*types, **attributes)

    return rule


def _parameters(rule: Rule) -> tuple[str, ...]:
    """The names of a rule's parameters; plain functions, of which there are hundreds, know them."""
    code = getattr(rule, "__code__", None)
    if code is None or hasattr(rule, "__wrapped__") or code.co_flags & _ANY_ARGUMENTS:
        return tuple(inspect.signature(rule).parameters)
    return tuple(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


def _gradient(
    op: str,
    rule: Rule,
    operands: tuple[str, ...],
    results: tuple[str, ...],
    attributes: Mapping[str, AttributeKind],
) -> Gradient:
    """Read off a gradient rule's signature what it needs."""
    names = _parameters(rule)[1:]
    upstream = {"g"} if len(results) == 1 else {"g", *(f"g_{r}" for r in results)}
    known = upstream | set(operands) | set(results) | set(attributes)
    known |= {f"{operand}_type" for operand in operands} | {"position", "operand_types"}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"op {op}: a gradient rule asks for {unknown}, known are {sorted(known)}")
    return Gradient(
        rule=rule,
        names=names,
        operands=tuple(operands.index(n) for n in names if n in operands),
        results=tuple(results.index(n) for n in names if n in results),
    )


def check_attributes(op: Op, attributes: Mapping[str, AttributeValue]) -> None:
    """Check names and types of a node's attributes.

    Raises:
        AttributeTypeError: one is missing, unknown or of the wrong type.
    """
    if attributes.keys() != op.attributes.keys() and (
        attributes.keys() - op.attributes.keys()
        or op.attributes.keys() - attributes.keys() - op.optional
    ):
        raise AttributeTypeError(
            f"[{op.name}] attributes are {sorted(op.attributes)}, given {sorted(attributes)}"
        )
    for name, given in attributes.items():
        kind = op.attributes[name]
        fits = type(given) is kind or (kind is float and type(given) in (int, bool))
        if kind is tuple:
            fits = type(given) is tuple and all(type(item) is int for item in given)
        if not fits:
            wanted = "tuple of int" if kind is tuple else kind.__name__
            raise AttributeTypeError(
                f"[{op.name}] attribute {name} must be {wanted}, given {given!r}"
            )


def gradient_of(
    b: Any,
    op: Op,
    position: int,
    operand_types: Sequence[TensorType],
    attributes: Mapping[str, AttributeValue],
    upstream: Sequence[Value | None],
    saved: Callable[[str, int], Value],
) -> Value:
    """Apply the gradient rule of one operand.

    Args:
        b: the builder on which the gradient's operations are emitted.
        upstream: gradient of each result (None where nothing flows back).
        saved: ``saved("operand" | "result", position)`` gives a value that the rule names.

    Returns:
        The gradient of that operand, of the operand's shape.
    """
    gradient = op.gradient(position)
    if gradient is None:
        raise ValueError(f"op {op.name} has no gradient for {op.operand_name(position)}")
    arguments: dict[str, Any] = {}
    arriving = []
    for name in gradient.names:
        if name == "g":
            arguments[name] = upstream[0]
            arriving.append(name)
        elif name in op.operands:
            arguments[name] = saved("operand", op.operands.index(name))
        elif name in op.results:
            arguments[name] = saved("result", op.results.index(name))
        elif name in attributes:
            arguments[name] = attributes[name]
        elif name == "position":
            arguments[name] = position
        elif name == "operand_types":
            arguments[name] = operand_types
        elif name.startswith("g_"):
            arguments[name] = upstream[op.results.index(name[2:])]
            arriving.append(name)
        else:
            arguments[name] = operand_types[op.operands.index(name.removesuffix("_type"))]
    own = operand_types[position]
    rule = seen_rule(gradient.rule, [name in arriving for name in gradient.names], own.dtype)
    rule = placed_rule(rule, own.device)
    result: Value = rule(b, *arguments.values())
    if op.broadcasts and result.type.shape != own.shape:
        result = b.sum_to_shape(result, shape=own.shape)
    return result


def placed_rule(rule: Rule, device: str) -> Rule:
    """A gradient rule whose result is on the operand's device: one that reads no values makes it
    elsewhere."""

    def run(b: Any, *arguments: Any) -> Any:
        result = rule(b, *arguments)
        return result if result.type.device == device else b.to_device(result, device=device)

    return run


def seen_rule(rule: Rule, upstream: Sequence[bool], dtype: DType) -> Rule:
    """A gradient rule of an operation on complex values, on gradients as the user sees them.

    Args:
        upstream: for each argument, whether it is the gradient of a result.
        dtype: the operand's.
    """

    def run(b: Any, *arguments: Any) -> Any:
        turned = [
            b.conj(x) if arrives and x is not None and x.type.dtype.is_complex else x
            for x, arrives in zip(arguments, upstream, strict=True)
        ]
        return _as_seen(b, rule(b, *turned), dtype)

    return run


def _as_seen(b: Any, gradient: Value, dtype: DType) -> Value:
    """A gradient rule's result as the user sees it: conjugated, real for a real operand."""
    result: Value = gradient
    given, wanted = gradient.type.dtype.is_complex, dtype.is_complex
    if given:
        result = b.conj(gradient) if wanted else b.real(gradient)
    elif wanted:
        result = b.cast(gradient, dtype=dtype)
    return result
