"""Devices in the graph IR: where results are, what may not be mixed, and the way back."""

import numpy as np
import pytest

import braze.ir as ir
from braze.ir.fingerprint import fingerprint
from braze.ir.op import placed_rule

HOST, FIRST, SECOND = (ir.tensor_type(ir.f32, (2, 3), d) for d in ("cpu", "cuda:0", "cuda:1"))
NUMBER = ir.tensor_type(ir.f32, ())


def test_a_result_is_where_its_operands_are():
    b = ir.Builder()
    x, n = b.input(FIRST), b.input(NUMBER, "scalar")
    assert b.add(x, x).type is FIRST
    assert b.sum(x, dims=(0, 1), keepdim=False).type.device == "cuda:0"
    assert {v.type.device for v in b.max_with_index(x, dim=0, keepdim=False)} == {"cuda:0"}
    assert b.add(n, x).type is FIRST and b.add(x, n).type is FIRST
    assert b.mul(x, 2.0).type is FIRST
    assert b.add(n, n).type is NUMBER


def test_rules_that_make_types_of_their_own_know_no_devices():
    """Every operation's results are on the device of its operands, whatever its rule does."""
    b = ir.Builder()
    x = b.input(ir.tensor_type(ir.f32, (1, 2, 8), "cuda:3"))
    w = b.input(ir.tensor_type(ir.f32, (4, 2, 8), "cuda:3"))
    i = b.input(ir.tensor_type(ir.i64, (5,), "cuda:3"))
    assert b.take(x, i, dim=0).type.device == "cuda:3"
    assert b.argmax(x, dims=(2,), keepdim=False).type.device == "cuda:3"
    assert b.contract(x, w, equation="nck,ock->no").type.device == "cuda:3"
    assert b.cast(x, dtype=ir.f64).type.device == "cuda:3"
    assert [v.type.device for v in b.max_with_index(x, dim=2, keepdim=False)] == ["cuda:3"] * 2


@pytest.mark.parametrize(
    ("types", "named"),
    [((FIRST, HOST), "cuda:0 and cpu"), ((FIRST, SECOND), "cuda:0 and cuda:1")],
)
def test_devices_do_not_mix(types, named):
    b = ir.Builder()
    with pytest.raises(RuntimeError) as caught:
        b.add(*map(b.input, types))
    assert str(caught.value) == (
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{named}!"
    )
    assert isinstance(caught.value, ir.DeviceError)


def test_numbers_of_two_gpus_do_not_mix():
    b = ir.Builder()
    x, y = (b.input(ir.tensor_type(ir.f32, (), d)) for d in ("cuda:0", "cuda:1"))
    with pytest.raises(ir.DeviceError):
        b.add(x, y)


def test_transfers_change_the_device_alone_and_their_gradients_go_back():
    b = ir.Builder()
    x = b.input(HOST)
    moved = b.to_device(x, device="cuda:1")
    assert moved.type is SECOND
    op = ir.op_named("to_device")
    back = ir.gradient_of(b, op, 0, [HOST], {"device": "cuda:1"}, [moved], lambda *_: None)
    assert back.type is HOST and back.node.op is op and back.node.operands == (moved,)
    for wrong in ("cuda", "gpu:0", "cuda:x", "cpu:0"):
        with pytest.raises(ir.DeviceError, match=f"given|not '{wrong}'"):
            b.to_device(x, device=wrong)


def test_a_gradient_is_where_its_operand_is():
    """The rule of `sum` reads no operand: it makes the gradient where the upstream one is."""
    b = ir.Builder()
    g = b.input(NUMBER)
    grad = ir.gradient_of(
        b, ir.op_named("sum"), 0, [FIRST], {"dims": (0, 1), "keepdim": False}, [g], lambda *_: None
    )
    assert grad.type is FIRST
    rule = placed_rule(lambda b, g: g, "cpu")
    assert rule(b, g) is g


def test_text_verifier_and_fingerprint_know_devices():
    b = ir.Builder("g")
    x = b.input(HOST, name="x")
    graph = b.finish([b.neg(b.to_device(x, device="cuda:0"))])
    text = str(graph)
    assert '%0: f32[2,3]@cuda:0 = to_device(%x; device="cuda:0")' in text
    again = ir.parse_graph(text)
    assert str(again) == text and fingerprint(again) == fingerprint(graph)
    ir.verify(again)
    assert fingerprint(ir.parse_graph(text.replace("cuda:0", "cuda:1"))) != fingerprint(graph)
    broken = ir.parse_graph(text.replace("%1: f32[2,3]@cuda:0", "%1: f32[2,3]").replace(
        "-> (f32[2,3]@cuda:0)", "-> (f32[2,3])"))  # fmt: skip
    with pytest.raises(ir.VerifyError, match=r"is f32\[2,3\], its rule gives f32\[2,3\]@cuda:0"):
        ir.verify(broken)


def test_the_interpreter_computes_on_one_device_as_on_several():
    b = ir.Builder()
    x = b.input(HOST)
    y = b.to_device(b.mul(b.to_device(x, device="cuda:0"), 3.0), device="cuda:1")
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    (found,) = ir.interpret(b.finish([y]), [given])
    assert (found == 3 * given).all() and not np.shares_memory(found, given)
