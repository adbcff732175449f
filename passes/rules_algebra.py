"""Rewrite rules for elementwise operations, reductions and contractions.

Each keeps inf and nan as they are: x * 0 stays, since it is nan for an infinite x. What may change
is the sign of a zero and, for sums of equal terms, the rounding.
"""

from __future__ import annotations

import math

import numpy as np

from braze.ir.dtypes import bool_
from braze.ir.graph import Value, types_of
from braze.ir.ops.contract import parse_equation
from braze.ir.types import broadcast_shapes
from braze.passes.rewriting import Rule, RuleBuilder, Site, constant_number, made_by
from braze.passes.space import gives_position

# Largest exponent that becomes multiplications; below -2 the product could leave the range of the
# result.
LARGEST_POWER = 4


def fold_constants(b: RuleBuilder, site: Site) -> Value | None:
    """An operation on constants is a constant."""
    if not site.operands or not all(made_by(x, "constant") for x in site.operands):
        return None
    assert site.op.evaluate is not None
    arrays = [
        np.asarray(constant_number(x)).astype(x.dtype.numpy) for x in site.operands
    ]
    result = np.asarray(site.op.evaluate(*arrays, **site.attributes))
    number = result.item()
    return b.constant_like(number, site.type)


def fold_but_quotients(b: RuleBuilder, site: Site) -> Value | None:
    """As `fold_constants`, but a quotient by a whole number stays: that may be a count of elements,
    as in a mean's gradient, and unlike 1 / n its quotient is no simple function of a size n."""
    if site.op.name == "div" and made_by(site.operands[1], "constant"):
        number = constant_number(site.operands[1])
        if isinstance(number, float) and number.is_integer():
            return None
    return fold_constants(b, site)


def compute_before_expand(b: RuleBuilder, site: Site) -> Value | None:
    """f(expand(x), expand(y)) -> expand(f(x, y)); an expanded operand that the others broadcast is
    not expanded."""
    bare = [_unexpanded(x) for x in site.operands]
    if all(x is y for x, y in zip(bare, site.operands, strict=True)):
        return None
    shape = broadcast_shapes(site.op.name, *types_of(bare))
    result = b.build(site.op, tuple(bare), site.attributes)
    assert result.shape == shape
    return b.expand_to(result, site.type.shape)


def _unexpanded(value: Value) -> Value:
    while made_by(value, "expand"):
        assert value.node is not None
        value = value.node.operands[0]
    return value


def _keeps(value: Value, site: Site) -> bool:
    """May `value` stand for the result: has it the result's type without broadcasting?"""
    return value.type == site.type


def drop_neutral(neutral: float, *, left: bool, right: bool) -> Rule:
    """x + 0, x * 1, x - 0, x / 1 -> x, for a neutral number on the sides where it is one."""

    def rule(b: RuleBuilder, site: Site) -> Value | None:
        x, y = site.operands
        if site.type.dtype is bool_:
            return None
        if right and constant_number(y) == neutral and _keeps(x, site):
            return x
        if left and constant_number(x) == neutral and _keeps(y, site):
            return y
        return None

    return rule


def negate_for_minus_one(b: RuleBuilder, site: Site) -> Value | None:
    """x * -1 -> -x."""
    if not site.type.dtype.is_signed:
        return None
    for x, other in (site.operands, site.operands[::-1]):
        if constant_number(other) == -1 and _keeps(x, site):
            negated: Value = b.neg(x)
            return negated
    return None


def multiply_by_reciprocal(b: RuleBuilder, site: Site) -> Value | None:
    """x / c -> x * (1 / c) where 1 / c is exact: c is a power of two."""
    x, y = site.operands
    divisor = constant_number(y)
    if divisor is None or not math.isfinite(divisor) or divisor == 0 or not _keeps(x, site):
        return None
    if abs(math.frexp(divisor)[0]) != 0.5 or not 2.0**-60 <= abs(divisor) <= 2.0**60:
        return None
    if site.type.dtype.bits == 16 and not 2.0**-12 <= abs(divisor) <= 2.0**12:
        return None
    product: Value = b.mul(x, b.constant(value=1.0 / divisor, dtype=site.type.dtype))
    # The divisor may be the larger of the two.
    return product if x.shape == site.type.shape else b.expand(product, shape=site.type.shape)


def expand_power(b: RuleBuilder, site: Site) -> Value | None:
    """x ** n for a small whole n -> multiplications."""
    x, y = site.operands
    exponent = constant_number(y)
    if exponent is None or x.shape != site.type.shape:
        return None
    if exponent == 0:
        return b.constant_like(1.0, site.type)
    if exponent not in range(-2, LARGEST_POWER + 1):
        return None
    power = abs(int(exponent))
    result = x if power % 2 else None
    square = x
    while power := power // 2:
        square = b.mul(square, square)
        if power % 2:
            result = square if result is None else b.mul(result, square)
    assert result is not None
    if exponent < 0:
        one = b.constant(value=1.0, dtype=site.type.dtype)
        result = b.div(one, result)
    return result


def undo_pair(b: RuleBuilder, site: Site) -> Value | None:
    """f(f(x)) -> x for an operation that is its own inverse."""
    (x,) = site.operands
    return x.node.operands[0] if x.node is not None and x.node.op is site.op else None


def drop_cast(b: RuleBuilder, site: Site) -> Value | None:
    """cast to the own dtype -> x; a cast of a cast from bool -> one cast; iota in the wanted
    dtype."""
    (x,) = site.operands
    if x.dtype is site.type.dtype:
        return x
    if made_by(x, "cast"):
        assert x.node is not None
        source = x.node.operands[0]
        if source.dtype is bool_ and site.type.dtype is not bool_:
            once: Value = b.cast(source, dtype=site.type.dtype)
            return once
    return None


def choose_known(b: RuleBuilder, site: Site) -> Value | None:
    """where(True, x, y) -> x, where(c, x, x) -> x."""
    condition, x, y = site.operands
    known = constant_number(condition)
    chosen = x if x is y or known else y
    if known is None and x is not y:
        return None
    return b.expand_to(chosen, site.type.shape)


def idempotent(b: RuleBuilder, site: Site) -> Value | None:
    """f(x, x) -> x."""
    x, y = site.operands
    return x if x is y else None


def bool_identity(neutral: bool) -> Rule:
    """x & True, x | False -> x, and the absorbing constant gives itself; for bool."""

    def rule(b: RuleBuilder, site: Site) -> Value | None:
        if site.type.dtype is not bool_:
            return None
        for x, other in (site.operands, site.operands[::-1]):
            known = constant_number(other)
            if known is None:
                continue
            if bool(known) is not neutral:
                return b.constant_like(not neutral, site.type)
            if _keeps(x, site):
                return x
        return None

    return rule


# Reductions ---------------------------------------------------------------------------------------


def reduce_empty(b: RuleBuilder, site: Site) -> Value | None:
    """A reduction over no elements -> what it starts from, such as 0 for a sum."""
    (x,) = site.operands
    if 0 not in [x.shape[d] for d in site.ints("dims")]:
        return None
    assert site.op.evaluate is not None
    start = site.op.evaluate(np.empty(0, x.dtype.numpy), dims=(0,), keepdim=False)
    return b.constant_like(start.item(), site.type)


def reduce_nothing(b: RuleBuilder, site: Site) -> Value | None:
    """A reduction over dimensions of size 1 -> reshape."""
    (x,) = site.operands
    if any(x.shape[d] != 1 for d in site.ints("dims")):
        return None
    if gives_position(site.op):
        return b.constant_like(0, site.type)
    return b.reshape_to(x, site.type.shape)


def reduce_without_keepdim(b: RuleBuilder, site: Site) -> Value | None:
    """keepdim -> a reshape of the reduction without it, so that both forms are one."""
    if not site.attributes["keepdim"]:
        return None
    plain = b.build(site.op, site.operands, {**site.attributes, "keepdim": False})
    return b.reshape_to(plain, site.type.shape)


def sum_of_equal(b: RuleBuilder, site: Site) -> Value | None:
    """sum(expand(x)) over expanded dimensions -> x * count."""
    (x,) = site.operands
    dims = site.ints("dims")
    if not made_by(x, "expand") or site.type.dtype.bits < 32:
        return None
    assert x.node is not None
    source = x.node.operands[0]
    lead = x.type.rank - source.type.rank
    equal = [d for d in dims if d < lead or (source.shape[d - lead] == 1 and x.shape[d] != 1)]
    if not equal or not x.type.numel:  # of no elements it is 0, whatever they are
        return None
    count = math.prod(x.shape[d] for d in equal)
    number = b.constant(value=count, dtype=x.dtype)
    shape = tuple(1 if d in equal else size for d, size in enumerate(x.shape))
    narrow = b.expand_to(source, shape)
    rest = tuple(d for d in dims if d not in equal)
    total = b.sum(narrow, dims=rest, keepdim=True) if rest else narrow
    return b.reshape_to(b.mul(total, number), site.type.shape)


# Contractions -------------------------------------------------------------------------------------


def absorb_permutes(b: RuleBuilder, site: Site) -> Value | None:
    """contract(permute(x), y) -> contract(x, y) with the letters in x's order."""
    equation = site.attributes["equation"]
    assert isinstance(equation, str)
    *terms, out = parse_equation(equation)
    operands = list(site.operands)
    changed = False
    for position, x in enumerate(site.operands):
        if made_by(x, "permute"):
            assert x.node is not None
            dims = x.node.attributes["dims"]
            assert isinstance(dims, tuple)
            letters = [""] * len(dims)
            for letter, d in zip(terms[position], dims, strict=True):
                letters[d] = letter
            terms[position] = "".join(letters)
            operands[position] = x.node.operands[0]
            changed = True
    if not changed:
        return None
    result: Value = b.contract(*operands, equation=f"{terms[0]},{terms[1]}->{out}")
    return result


def contract_nothing(b: RuleBuilder, site: Site) -> Value | None:
    """A contraction over no elements -> 0."""
    equation = site.attributes["equation"]
    assert isinstance(equation, str)
    left, right, out = parse_equation(equation)
    x, y = site.operands
    sizes = dict(zip(left + right, x.shape + y.shape, strict=True))
    if all(sizes[letter] for letter in sizes if letter not in out):
        return None
    return b.constant_like(0, site.type)


def drop_unit_letters(b: RuleBuilder, site: Site) -> Value | None:
    """Dimensions of size 1 leave a contraction; one without a sum is a product."""
    equation = site.attributes["equation"]
    assert isinstance(equation, str)
    left, right, out = parse_equation(equation)
    x, y = site.operands
    sizes = dict(zip(left + right, x.shape + y.shape, strict=True))
    units = {letter for letter, size in sizes.items() if size == 1}
    inner = (set(left) & set(right)) - set(out)
    if not units and inner:
        return None

    def without(value: Value, letters: str) -> tuple[Value, str]:
        kept = "".join(c for c in letters if c not in units)
        return b.reshape_to(value, tuple(sizes[c] for c in kept)), kept

    (x, left), (y, right) = without(x, left), without(y, right)
    kept = "".join(c for c in out if c not in units)
    if inner - units:
        result = b.contract(x, y, equation=f"{left},{right}->{kept}")
    else:
        result = b.mul(_spread(b, x, left, kept), _spread(b, y, right, kept))
    return b.reshape_to(result, site.type.shape)


def _spread(b: RuleBuilder, value: Value, letters: str, out: str) -> Value:
    """Bring dimensions into the order of `out`, with size 1 for the letters that are lacking."""
    order = [c for c in out if c in letters]
    dims = tuple(letters.index(c) for c in order)
    ordered: Value = b.permute(value, dims=dims) if dims else value
    sizes = dict(zip(letters, value.shape, strict=True))
    return b.reshape_to(ordered, tuple(sizes.get(c, 1) for c in out))


# Devices ------------------------------------------------------------------------------------------


def stay(b: RuleBuilder, site: Site) -> Value | None:
    """to_device(x) -> x where it is there already."""
    (x,) = site.operands
    return x if x.type.device == site.type.device else None


ALGEBRA: dict[str, tuple[Rule, ...]] = {
    "to_device": (stay,),
    "add": (drop_neutral(0, left=True, right=True),),
    "sub": (drop_neutral(0, left=False, right=True),),
    "mul": (drop_neutral(1, left=True, right=True), negate_for_minus_one),
    "div": (drop_neutral(1, left=False, right=True), multiply_by_reciprocal),
    "pow": (expand_power,),
    "neg": (undo_pair,),
    "bitwise_not": (undo_pair,),
    "cast": (drop_cast,),
    "where": (choose_known,),
    "maximum": (idempotent,),
    "minimum": (idempotent,),
    "bitwise_and": (idempotent, bool_identity(True)),
    "bitwise_or": (idempotent, bool_identity(False)),
    "sum": (sum_of_equal,),
    "contract": (contract_nothing, absorb_permutes, drop_unit_letters),
}
