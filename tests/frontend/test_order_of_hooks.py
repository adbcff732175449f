"""In which order the backward pass calls hooks, and what they see of other gradients."""

import pytest

import braze


def leaf():
    return braze.ones(3, requires_grad=True)


def test_operations_in_reverse_and_leaves_as_soon_as_they_are_known():
    a, b, order = leaf(), leaf(), []
    c = a * 2
    d = c * b
    for tensor, name in ((a, "a"), (b, "b"), (c, "c"), (d, "d")):
        tensor.register_hook(lambda g, name=name: order.append(name))
    d.sum().backward()
    assert order == ["d", "b", "c", "a"]


def test_the_branch_made_last_comes_first():
    a, b, order = leaf(), leaf(), []
    x = a.exp()
    a.register_hook(lambda g: order.append("a"))
    x.register_hook(lambda g: order.append("x"))
    y = b.exp()
    b.register_hook(lambda g: order.append("b"))
    y.register_hook(lambda g: order.append("y"))
    (x + y).sum().backward()
    assert order == ["y", "b", "x", "a"]


def test_a_leaf_waits_for_all_of_its_gradient():
    a, seen = leaf(), []
    b = a * 2
    a.register_hook(lambda g: seen.append(("a", g.tolist())))
    b.register_hook(lambda g: seen.append(("b", a.grad is None)))
    a.register_post_accumulate_grad_hook(lambda t: seen.append(("after", t.grad.tolist())))
    (b * a + a).sum().backward()
    assert seen == [("b", True), ("a", [5.0] * 3), ("after", [5.0] * 3)]


def test_what_a_hook_sees_of_another_leaf():
    a, b, seen = leaf(), leaf(), []
    a.register_post_accumulate_grad_hook(lambda t: seen.append(("a", b.grad is None)))
    b.register_post_accumulate_grad_hook(lambda t: seen.append(("b", a.grad is None)))
    ((b * 2) * (a * 2)).sum().backward()
    assert seen == [("a", True), ("b", False)]


def test_the_first_gradient_may_be_dropped_at_once():
    a = leaf()
    a.register_post_accumulate_grad_hook(lambda t: setattr(t, "grad", None))
    (a * 2).sum().backward()
    assert a.grad is None


def test_hooks_of_leaves_in_grad():
    a, b, order = leaf(), leaf(), []
    a.register_hook(lambda g: order.append("a") or g * 10)
    c = a * 2
    c.register_hook(lambda g: order.append("c"))
    b.register_hook(lambda g: order.append("b"))
    found = braze.autograd.grad((c * b).sum(), [a, b])
    assert order == ["b", "c", "a"]
    assert [g.tolist() for g in found] == [[20.0] * 3, [2.0] * 3]


def test_an_output_that_is_a_leaf():
    a, order = leaf(), []
    a.register_hook(lambda g: order.append(g.tolist()))
    braze.autograd.backward([a, (a * 2).sum()], [braze.ones(3), None])
    assert order == [[3.0] * 3]
    b = braze.ones(1, requires_grad=True)
    b.backward()
    assert b.grad.tolist() == [1.0]


@pytest.mark.parametrize("create_graph", [False, True])
def test_several_gradients_of_the_outputs_at_once(create_graph):
    x = braze.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * x
    (jacobian,) = braze.autograd.grad(
        y, x, braze.eye(3), is_grads_batched=True, create_graph=create_graph
    )
    assert jacobian.tolist() == [[2.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 6.0]]
    assert jacobian.requires_grad is create_graph
    with pytest.raises(RuntimeError, match="one size of the first dimension"):
        braze.autograd.grad(y, x, is_grads_batched=True)


def test_what_is_no_tensor():
    x = leaf()
    with pytest.raises(TypeError, match="not iterable"):
        (x * 2).backward(1.0)
    with pytest.raises(TypeError, match="not iterable"):
        braze.autograd.grad(x.sum(), 3.0)
    with pytest.raises(RuntimeError, match="cannot be empty"):
        braze.autograd.grad(x.sum(), ())
