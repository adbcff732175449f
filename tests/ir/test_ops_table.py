"""What every declared operation must hold to."""

import inspect

import pytest

import braze.ir as ir
from braze.ir.op import _TABLE, Op, check_attributes, declare

OPS = ir.all_ops()
PRIMITIVES = [op for op in OPS if op.is_primitive]


@pytest.mark.parametrize("op", OPS, ids=str)
def test_it_has_a_gradient_or_says_that_it_has_none(op):
    assert op.differentiable == bool(op.gradients)
    assert set(op.gradients) <= set(op.operands)


@pytest.mark.parametrize("op", OPS, ids=str)
def test_it_can_run(op):
    if op.category == "fusion":
        return  # runs its body
    assert op.evaluate is not None or op.decompose is not None
    assert (op.decompose is None) == op.is_primitive


@pytest.mark.parametrize("op", OPS, ids=str)
def test_it_is_documented(op):
    assert op.doc.strip() and op.doc[0] not in " \n"


@pytest.mark.parametrize("op", OPS, ids=str)
def test_its_rules_take_its_operands_and_attributes(op):
    """A rule with a misspelt attribute would only fail when it is first used."""
    for rule, before in ((op.infer, 0), (op.evaluate, 0), (op.decompose, 1)):
        if rule is not None:
            operands = [None] * (before + len(op.operands))
            inspect.signature(rule).bind(*operands, **dict.fromkeys(op.attributes))


def test_names_are_builder_methods():
    """An attribute of the builder would hide the op."""
    assert not [op.name for op in OPS if hasattr(ir.Builder, op.name)]
    assert all(op.name.isidentifier() and op.name.islower() for op in OPS)


def test_declaring_checks_the_declaration():
    def types(x):
        return (x,)

    cases = [
        ({"name": "add", "evaluate": abs}, "declared twice"),
        ({}, "cannot run"),
        ({"evaluate": abs, "decompose": abs}, "exactly the composite ops"),
        ({"category": "composite", "evaluate": abs}, "exactly the composite ops"),
        ({"evaluate": abs, "differentiable": True}, "give gradients, or say differentiable=False"),
        (
            {"evaluate": abs, "differentiable": True, "gradients": {"x": lambda b, g, q: g}},
            r"asks for \['q'\]",
        ),
        (
            {"evaluate": abs, "differentiable": True, "gradients": {"q": lambda b, g: g}},
            r"unknown operands \['q'\]",
        ),
    ]
    for settings, message in cases:
        arguments = {
            "name": "test_op",
            "category": "pointwise",
            "differentiable": False,
            **settings,
        }
        with pytest.raises(ValueError, match=message):
            declare(
                arguments.pop("name"),
                arguments.pop("category"),
                "x",
                infer=types,
                doc="A test.",
                **arguments,
            )
    assert "test_op" not in _TABLE


def test_attributes_are_checked():
    op: Op = ir.op_named("sum")
    check_attributes(op, {"dims": (0, 1), "keepdim": True})
    for wrong, message in [
        ({"dims": (0,)}, r"attributes are \['dims', 'keepdim'\], given \['dims'\]"),
        ({"dims": (0,), "keepdim": True, "dim": 0}, "attributes are"),
        ({"dims": [0], "keepdim": True}, r"attribute dims must be tuple of int, given \[0\]"),
        ({"dims": (True,), "keepdim": True}, "attribute dims must be tuple of int"),
        ({"dims": (0,), "keepdim": 1}, "attribute keepdim must be bool, given 1"),
    ]:
        with pytest.raises(ir.AttributeTypeError, match=message):
            check_attributes(op, wrong)


def test_floats_may_be_given_as_integers():
    op = ir.op_named("constant")
    for value in (1, True, 1.5):
        check_attributes(op, {"value": value, "dtype": ir.f32})
    with pytest.raises(ir.AttributeTypeError, match="attribute value must be float"):
        check_attributes(op, {"value": "1", "dtype": ir.f32})
    with pytest.raises(ir.AttributeTypeError, match="attribute dtype must be DType"):
        check_attributes(op, {"value": 1.0, "dtype": "f32"})
