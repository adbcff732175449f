"""What repeats itself is not worked out again, and comes out the same: backward passes, functions
that are one operation, optimizer steps, calls of compiled modules."""

import threading
import warnings

import numpy as np
import pytest

import braze
import braze.nn.functional as F
from braze import nn
from braze.autograd import engine as backward_engine
from braze.autograd import replay
from braze.capture import tracer
from braze.functions.settled import settled
from braze.optim import updates

pytestmark = pytest.mark.usefixtures("interpret")


@pytest.fixture
def replays(monkeypatch):
    """Whether each backward pass was replayed."""
    seen = []
    original = replay.replay

    def watched(*arguments):
        seen.append(original(*arguments))
        return seen[-1]

    monkeypatch.setattr(backward_engine, "replay", watched)
    return seen


def parameters(*shapes):
    random = np.random.default_rng(0)
    made = [braze.tensor(random.standard_normal(s).astype(np.float32)) for s in shapes]
    return [tensor.requires_grad_() for tensor in made]


def gradients_of(loss, leaves):
    """The gradients of a few iterations, each as lists."""
    found = []
    for _ in range(4):
        for leaf in leaves:
            leaf.grad = None
        loss(*leaves).backward()
        found.append([None if leaf.grad is None else leaf.grad.tolist() for leaf in leaves])
    return found


def _shared(a, b):
    h = a * b
    return (h * h + a).sum()


def _read_in_between(a, b):
    h = (a * b).exp()
    assert h.sum().item() > 0
    return (h * b).sum()


def _same_gradient_twice(a, b):
    return (a + b).sum()


def _unused(a, b):
    return (a * 2.0).sum()


def _row(a, b):
    return (a + b[0]).relu().sum() + b.mean()


def _several_results(a, b):
    values, _ = (a * b).max(1)
    return values.sum()


@pytest.mark.parametrize(
    "loss",
    [_shared, _read_in_between, _same_gradient_twice, _unused, _row, _several_results],
    ids=lambda f: f.__name__,
)
def test_a_replayed_backward_pass_gives_the_same_gradients(loss, replays, monkeypatch):
    leaves = parameters((3, 4), (3, 4))
    quick = gradients_of(loss, leaves)
    assert replays[-1]
    monkeypatch.setattr(backward_engine, "survey", lambda output: None)
    assert gradients_of(loss, leaves) == quick


def test_where_gradients_go_belongs_to_what_is_replayed(replays):
    """The same operations on the same values, but other leaves."""
    (a,) = parameters((3,))
    b = a.detach().requires_grad_()
    for _ in range(3):
        for x, y in ((a, b), (b, a), (a, a)):
            a.grad = b.grad = None
            (x * x + y * 3.0).sum().backward()
            doubled = [2.0 * v for v in a.tolist()]
            if x is y:
                assert a.grad.tolist() == pytest.approx([d + 3.0 for d in doubled])
                assert b.grad is None
            else:
                assert x.grad.tolist() == pytest.approx(doubled)
                assert y.grad.tolist() == [3.0] * 3
    assert replays[-1]


def test_the_order_of_the_tape_belongs_to_what_is_replayed(replays):
    """The same operations on the same values, recorded the other way round."""
    (a,) = parameters((3,))

    def step(*order):
        a.grad = None
        made = {}
        for name in order:
            made[name] = a * 2.0
            braze.sync()
        (made["left"] + made["right"]).sum().backward()
        assert a.grad.tolist() == [4.0] * 3

    for order in (("left", "right"), ("right", "left")):
        for _ in range(3):
            step(*order)
    assert replays == [False, True, True] * 2


def test_gradients_that_are_there_are_added_to(replays):
    (a,) = parameters((3,))
    for count in range(1, 4):
        (a * 2.0).sum().backward()
        assert a.grad.tolist() == [2.0 * count] * 3


def test_hooks_are_called_each_time(replays):
    (a,) = parameters((3,))
    calls = []
    a.register_hook(lambda gradient: calls.append(gradient.tolist()))
    for _ in range(4):
        a.grad = None
        h = a * 2.0
        h.register_hook(lambda gradient: gradient * 10.0)
        h.sum().backward()
        assert a.grad.tolist() == [20.0] * 3
    assert calls == [[20.0] * 3] * 4
    assert not any(replays)


def test_the_tape_is_freed_and_checked_by_replays_too(replays):
    (a,) = parameters((3,))
    for _ in range(3):
        braze.sync()
        a.grad = None
        loss = (a * a).sum()
        loss.backward()
        with pytest.raises(RuntimeError, match="a second time"):
            loss.backward()
    assert replays[-1]
    for _ in range(3):
        a.grad = None
        loss = (a * a).sum()
        loss.backward(retain_graph=True)
        loss.backward()
        assert a.grad.tolist() == pytest.approx([4.0 * v for v in a.tolist()])
    for _ in range(3):
        h = a * 1.0
        product = (h * h).sum()
        h += 1.0
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.backward()


def test_replayed_gradients_name_the_users_line_of_this_pass(replays):
    table = parameters((4, 2))[0]

    def step(index):
        table.grad = None
        F.embedding(braze.tensor(index), table).sum().backward()

    for _ in range(4):
        step([0, 3])
        braze.sync()
    step([9, 0])  # fails at the sync
    with pytest.raises(IndexError, match=r"test_repeated_work\.py:\d+: F\.embedding"):
        braze.sync()


def test_results_of_a_replayed_pass_that_nobody_has_get_no_handle(replays):
    a, b = parameters((3,), (3,))
    for _ in range(3):
        braze.sync()
        a.grad = b.grad = None
        product = a * b
        for _ in range(10):
            product = (product * b).tanh()
        loss = product.sum()
        before = len(tracer().pending.handles)
        loss.backward()
    assert replays[-1]
    made = tracer().pending.handles[before:]
    assert len(made) > 40 and len(set(map(id, made))) < 8
    twice = b.grad + b.grad  # an operation on what a replayed pass gave
    assert twice.tolist() == [2.0 * v for v in b.grad.tolist()]


def test_what_comes_around_a_replayed_pass_names_its_own_line(replays):
    (a,) = parameters((4,))
    table = braze.arange(4.0)

    def step(first, second):
        a.grad = None
        one = table[braze.tensor([first])]
        (a * a).sum().backward()
        two = table[braze.tensor([second])]  # the second
        return one, two

    for _ in range(4):
        step(0, 1)
        braze.sync()
    assert replays[-1]
    held = step(9, 1)
    with pytest.raises(IndexError, match=r"one = table"):
        braze.sync()
    held = step(0, 9)
    with pytest.raises(IndexError, match=r"the second"):
        braze.sync()
    assert a.grad.tolist() == [2.0 * v for v in a.tolist()]  # captured before the line that failed
    del held


def test_two_replayed_passes_in_one_trace(replays):
    a, b = parameters((4,), (4,))

    def step(index):
        a.grad = b.grad = None
        (a * a).sum().backward()
        (b * b * b).sum().backward()
        return braze.arange(4.0)[braze.tensor([index])]  # out of range

    for index in (0, 1, 2, 3):
        step(index)
        braze.sync()
    assert replays[-2:] == [True, True]
    held = step(4)
    with pytest.raises(IndexError, match="out of range"):
        braze.sync()
    del held
    assert a.grad.tolist() == [2.0 * v for v in a.tolist()]
    assert b.grad.tolist() == pytest.approx([3.0 * v * v for v in b.tolist()])


def test_a_value_that_another_threads_trace_has_is_not_replayed(replays):
    (a,) = parameters((4,))
    kept = a.exp()
    braze.sync()
    for _ in range(3):
        a.grad = None
        (kept * a).sum().backward(retain_graph=True)
        braze.sync()
    ready, over = threading.Event(), threading.Event()

    def other():
        held = a.detach() * 2.0  # now an input of this thread's unfinished trace
        ready.set()
        over.wait()
        del held

    thread = threading.Thread(target=other)
    thread.start()
    ready.wait()
    a.grad = None
    (kept * a).sum().backward(retain_graph=True)
    found = a.grad.tolist()
    over.set()
    thread.join()
    e = np.exp(a.detach().numpy())
    assert found == pytest.approx((e + e * a.detach().numpy()).tolist())


def test_functions_of_the_users_own_are_run(replays):
    class Tripled(braze.autograd.Function):
        ran = 0

        @staticmethod
        def forward(ctx, x):
            return x * 3.0

        @staticmethod
        def backward(ctx, g):
            Tripled.ran += 1
            return g * 3.0

    (a,) = parameters((3,))
    for i in range(1, 4):
        a.grad = None
        (Tripled.apply(a) * 2.0).sum().backward()
        assert a.grad.tolist() == [6.0] * 3
        a.grad = None
        Tripled.apply(a).sum().backward()
        assert Tripled.ran == 2 * i


# Functions that are one operation -----------------------------------------------------------------


def test_equal_arguments_of_other_classes_are_other_arguments():
    x = braze.arange(6.0).reshape(2, 3)
    for _ in range(2):
        assert x[1].shape == (3,)
        assert x[True].shape == (1, 2, 3)
        assert x[1, 1].shape == ()
        assert x[1, True].shape == (1, 3)
        assert x[0:1].shape == (1, 3)
        assert x.sum(0).tolist() == [3.0, 5.0, 7.0]
        with pytest.raises(TypeError):
            x.reshape(3.0, 2.0)
        assert x.reshape(3, 2).shape == (3, 2)


def test_remembered_views_are_views():
    for _ in range(3):
        x = braze.zeros(2, 3)
        x[1].fill_(5.0)
        x.t()[0, 0] = 7.0
        x[:, 1:].unsqueeze(0)[0, 0, 1] = 9.0
        assert x.tolist() == [[7.0, 0.0, 9.0], [5.0, 5.0, 5.0]]


def test_views_copy_where_their_layout_asks_for_it():
    for _ in range(3):
        x = braze.arange(6.0).reshape(2, 3)
        copied = x.t().reshape(6)
        copied[0] = 100.0
        assert x[0, 0].item() == 0.0
        seen = x.reshape(6)
        seen[0] = 100.0
        assert x[0, 0].item() == 100.0


def test_reshapes_of_views_are_remembered_by_their_layout():
    for _ in range(3):
        x = braze.zeros(4, 4)
        for view, is_seen in ((x[:, ::2][:2], True), (x.t()[:2, ::2], False), (x[:2, :2], False)):
            view.reshape(4).fill_(1.0)
            assert (x.sum().item() == 4.0) == is_seen
            x.zero_()


def test_an_operand_may_be_the_result():
    for _ in range(3):
        x = braze.ones(2) * 2.0  # captured, and not yet in memory
        assert x.flatten() is x
        assert x.flatten(0, 0).tolist() == [2.0, 2.0]


def test_warnings_are_given_each_time():
    x, y = braze.ones(2), braze.zeros(2)
    for _ in range(3):
        with pytest.warns(UserWarning, match="size_average"):
            F.mse_loss(x, y, size_average=False)
        with pytest.warns(UserWarning, match="target size"):
            F.mse_loss(x, braze.zeros(1))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert F.mse_loss(x, y).item() == 1.0


def test_autocast_still_casts():
    x, w = braze.ones(2, 3), braze.ones(3, 3)
    for _ in range(2):
        assert F.softmax(x @ w, 1).dtype is braze.float32
        with braze.autocast("cpu"):
            assert (x @ w).dtype is braze.bfloat16
            assert F.mse_loss((x @ w), x).dtype is braze.float32


def test_gradients_flow_through_what_is_remembered():
    a, t = parameters((2, 3))[0], braze.tensor([0, 2])
    for _ in range(3):
        with braze.no_grad():
            assert a[0].grad_fn is None
        assert a[0].grad_fn is not None
        a.grad = None
        F.cross_entropy(a, t).backward()
        expected = np.exp(a.detach().numpy())
        expected /= expected.sum(1, keepdims=True)
        expected[[0, 1], [0, 2]] -= 1.0
        np.testing.assert_allclose(a.grad.numpy(), expected / 2, rtol=1e-5)


def test_only_a_single_operation_on_the_operands_is_remembered():
    calls = []

    @settled
    def swapped(x, y):
        calls.append("swapped")
        return y - x

    @settled
    def plain(x, y):
        calls.append("plain")
        return x - y

    @settled
    def twice(x, y):
        calls.append("twice")
        return x - y - y

    x, y = braze.tensor([5.0]), braze.tensor([3.0])
    for _ in range(3):
        assert [f(x, y).item() for f in (swapped, plain, twice)] == [-2.0, 2.0, -1.0]
    assert calls.count("plain") == 1
    assert calls.count("swapped") == calls.count("twice") == 3


# Optimizers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda p: braze.optim.Adam(p, lr=0.1),
        lambda p: braze.optim.AdamW(p, lr=0.1, amsgrad=True),
        lambda p: braze.optim.SGD(p, lr=0.1),
        lambda p: braze.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.1),
    ],
)
def test_rows_of_updates_give_what_single_ones_give(make, monkeypatch):
    def train():
        leaves = parameters((3,), (2, 3), (1,))
        view = leaves[1]
        optimizer = make(leaves)
        for i in range(5):
            optimizer.zero_grad()
            unused = 0.0 if i == 2 else leaves[2].sum()  # whose step count falls behind
            ((leaves[0] * view).sum() ** 2 + unused).backward()
            optimizer.step()
        versions = [leaf._version for leaf in leaves]
        return [leaf.tolist() for leaf in leaves], versions, optimizer.state_dict()["state"]

    values, versions, state = train()
    monkeypatch.setattr(updates, "_repeated", lambda *arguments: None)
    others, other_versions, other_state = train()
    assert values == others and versions == other_versions
    assert str(state) == str(other_state)


# Compiled modules ---------------------------------------------------------------------------------


def test_a_compiled_module_notices_what_has_changed():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).eval()
    compiled = braze.compile(model)
    x = braze.ones(1, 2)

    def check():
        with braze.no_grad():
            for _ in range(3):
                assert compiled(x).tolist() == model(x).tolist()

    check()
    with braze.no_grad():
        model[0].weight.mul_(2.0)
    check()
    model[0].weight = nn.Parameter(braze.zeros(2, 2))
    check()
    model[0].bias.data = braze.ones(2) * 7.0
    check()
    model.append(nn.ReLU())
    check()
    del model[1]
    check()
    model[0] = nn.Linear(2, 3)
    check()
    model.double()
    x = x.double()
    check()
    assert compiled(x).requires_grad  # and then it runs eagerly
    model.requires_grad_(False)
    assert not compiled(x).requires_grad


def test_a_compiled_module_leaves_training_mode_alone():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(1.0)).eval()
    compiled = braze.compile(model)
    x = braze.ones(1, 2)
    with braze.no_grad():
        for _ in range(3):
            assert compiled(x).tolist() == model(x).tolist()
        model.train()
        assert compiled(x).tolist() == [[0.0, 0.0]]
        model.eval()
        assert compiled(x).tolist() == model(x).tolist()
