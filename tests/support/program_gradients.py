"""The kinds of steps of random programs that take gradients and use them."""

from __future__ import annotations

from typing import Any

import numpy as np
import replay_ops as ops
from program_maker import Maker
from program_steps import floating, kind
from replay import INEXACT, Replay, Tensor, Value
from replay_tape import constants

WEIGHTS = """
def weights(t):
    return (braze.arange(t.numel()) % 3 + 1).reshape(t.shape).to(t.dtype)
"""


def weights(t: Tensor) -> np.ndarray:
    """What flows to a tensor at the start of a backward pass."""
    return (np.arange(t.values.size) % 3 + 1.0).reshape(t.shape)


def differentiable(t: Tensor) -> bool:
    return t.requires_grad and floating(t) and t.values.size > 0


@kind(22)
def backward(m: Maker) -> None:
    if m.no_grad or m.finished or m.replay.disturbed:
        return
    x = m.tensor(lambda t: differentiable(t) and (not t.family.leaf or t.retained is not None))
    if x is None:
        return
    retain = m.chance(60)
    doubtful = m.replay.may_fail(m[x])
    m.finished = doubtful
    more = ", retain_graph=True" if retain else ""

    def act(r: Replay) -> None:
        r.backward(r[x], weights(r[x]), False, retain)

    m.emit(f"{x}.backward(weights({x}){more})", act, doubtful)


@kind(12)
def differentiate(m: Maker) -> None:
    """Gradients as tensors, of which gradients can be taken."""
    if m.no_grad or m.finished or m.replay.disturbed:
        return
    x = m.tensor(lambda t: differentiable(t) and not t.family.leaf)
    leaf = m.tensor(lambda t: t.family.leaf and not t.is_view and t.retained is None)
    if x is None or leaf is None or m.replay.may_fail(m[x]):
        return
    r = m.replay
    found = r.tape.gradients(m[x].read().numbers, constants(weights(m[x])), True)
    value = r.gradient_of(m[leaf], found, m[x].family.past, True)
    if value is None or value.bound > 1e3:
        return
    create = value.requires_grad and m.chance(70)
    name = m.name()
    more = ", create_graph=True" if create else ", retain_graph=True, materialize_grads=True"

    def act(r: Replay) -> None:
        past = r[x].family.past
        found = r.flow(r[x], weights(r[x]), create, True)
        value = r.gradient_of(r[leaf], found, past, create)
        assert value is not None
        r.bind(name, value)
        for other in r.tensors.values():
            other.vague_grad |= other.retained is not None  # it depends on what leads to the leaf

    m.emit(f"({name},) = braze.autograd.grad({x}, [{leaf}], weights({x}){more})", act)


@kind(4)
def backward_recorded(m: Maker) -> None:
    """Gradients in `grad` that have gradients."""
    if m.no_grad or m.finished or m.replay.disturbed:
        return
    x = m.tensor(lambda t: differentiable(t) and not t.family.leaf)
    if x is None or m.replay.may_fail(m[x]):
        return
    m.emit(
        f"{x}.backward(weights({x}), create_graph=True)",
        lambda r: r.backward(r[x], weights(r[x]), True, True),
    )


@kind(4)
def hooked(m: Maker) -> None:
    """A tensor with a hook, or one that keeps its gradient."""
    if m.no_grad:
        return
    x = m.tensor(differentiable)
    if x is None:
        return
    if m[x].family.leaf and not m[x].is_view:
        factor = m.pick((2, -1))

        def add_hook(r: Replay) -> None:
            r[x].factors.append(float(factor))

        m.emit(f"{x}.register_hook(lambda g: g * {factor})", add_hook)
        return
    y = m.result(f"{x} * 2", lambda r: ops.mul(r, r[x].read(), ops.number(2)))
    if y is None or not m[y].requires_grad:
        return
    if m.chance(50):

        def retain(r: Replay) -> None:
            tensor = r[y]
            tensor.retained, tensor.token = tensor.ids.copy(), max(tensor.family.past)
            tensor.vague_grad = not tensor.ids.all()  # of constants it has no place on the tape

        m.emit(f"{y}.retain_grad()", retain)
    else:

        def hook(r: Replay) -> None:
            tensor = r[y]
            known = tensor.read().numbers
            hooked = r.tape.function(known, lambda a: a, lambda n: constants(3.0))
            tensor.ids[...] = hooked.ids

        m.emit(f"{y}.register_hook(lambda g: g * 3)", hook)


def with_gradient(t: Tensor) -> bool:
    return t.grad is not None and not t.vague_grad


@kind(12)
def use_gradient(m: Maker) -> None:
    """What training loops do with gradients."""
    if m.finished:
        return
    x = m.tensor(lambda t: with_gradient(t) and t.family.leaf)
    if x is None:
        return
    grad = m[x].grad
    assert grad is not None
    if grad.vague_place:
        return
    form = m.pick(("step", "clear", "zero", "name", "data", "optimizer"))
    guard = f"if {x}.grad is not None: "
    if form == "clear":
        m.emit(f"{x}.grad = None", _clear(x))
    elif form == "zero" and not grad.requires_grad:

        def zero(r: Replay) -> None:
            grad = r[x].grad
            if grad is not None:
                r.write(grad, Value(np.zeros(r[x].shape), bound=0))

        m.emit(f"{guard}{x}.grad.zero_()", zero)
    elif form == "name":
        name = m.name()

        def use(r: Replay) -> None:
            r.tensors[name] = r[x].grad or r[x]

        m.emit(f"{name} = {x} if {x}.grad is None else {x}.grad", use)
    elif form in ("step", "data", "optimizer") and grad.memory.bound <= 1e3:
        before, m.no_grad = m.no_grad, form == "step" or m.no_grad

        def step(r: Replay) -> None:
            grad = r[x].grad
            if grad is not None:
                enabled, r.grad_enabled = r.grad_enabled, False
                change = ops.add(r, r[x].read(), grad.read(), -0.25)
                change.grain = INEXACT
                version = r[x].memory.version
                r.write(r[x], change)
                if form == "data":
                    r[x].memory.version = version
                    r.disturb(r[x].memory)
                r.grad_enabled = enabled

        text = f"{x}.sub_({x}.grad, alpha=0.25)"
        if form == "data":
            text = text.replace(x, f"{x}.data", 1)
        elif form == "optimizer":
            text = f"braze.optim.SGD([{x}], lr=0.25).step()"
        m.emit(guard + text, step)
        m.no_grad = before


def _clear(x: str) -> Any:
    def act(r: Replay) -> None:
        r[x].grad = None

    return act


@kind(3)
def begin_anew(m: Maker) -> None:
    """A leaf made of a tensor's elements, in its memory or in new memory."""
    x = m.tensor(lambda t: floating(t) and not (t.family.leaf and t.requires_grad))
    if x is None or m.no_grad:
        return
    name, form = m.name(), m.pick((".detach().clone()", ".clone().detach()"))

    def act(r: Replay) -> None:
        value = r[x].read()
        r.leaf(name, Value(value.values, bound=value.bound, grain=value.grain))

    m.emit(f"{name} = {x}{form}.requires_grad_()", act)


@kind(3)
def enabled_again(m: Maker) -> None:
    """Gradients are recorded in the middle of `no_grad`."""
    x = m.tensor(floating)
    if x is None or m[x].memory.bound > 1e3 or m.no_grad:
        return
    name = m.name()
    text = f"braze.no_grad()(braze.enable_grad()(lambda x: x * 3 + x))({x})"

    def act(r: Replay) -> None:
        own = r[x].read()
        r.bind(name, ops.add(r, ops.mul(r, own, ops.number(3)), own))

    m.emit(f"{name} = {text}", act)
