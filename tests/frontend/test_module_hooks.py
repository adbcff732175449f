"""Hooks of one module and of all, and what a module's protocol says of buffers, names and calls."""

import pickle

import pytest

import braze
from braze import nn
from braze.nn.modules import module as registry

pytestmark = pytest.mark.usefixtures("interpret")


class Twice(nn.Module):
    def forward(self, x):
        return x * 2


# Hooks of all modules -----------------------------------------------------------------------------


def test_hooks_of_all_modules_come_before_a_modules_own():
    net, seen = nn.Sequential(Twice(), nn.Identity()), []
    net[0].register_forward_hook(lambda module, args, result: seen.append("own"))
    handles = [
        registry.register_module_forward_pre_hook(lambda module, args: (args[0] + 1,)),
        registry.register_module_forward_hook(
            lambda module, args, result: seen.append(type(module).__name__)
        ),
        registry.register_module_forward_hook(
            lambda module, args, kwargs, result: result + 10, with_kwargs=True
        ),
    ]
    assert net(braze.zeros(1)).item() == ((1 + 1) * 2 + 10 + 1) + 10 + 10
    assert seen == ["Twice", "own", "Identity", "Sequential"]
    for handle in handles:
        handle.remove()
    assert net(braze.zeros(1)).item() == 0 and not registry.CALL_HOOKS


def test_backward_hooks_of_all_modules():
    net, seen = nn.Sequential(Twice(), Twice()), []

    def note(module, grad_input, grad_output):
        seen.append((grad_input[0].item(), grad_output[0].item()))

    x = braze.ones(1, requires_grad=True)
    full = registry.register_module_full_backward_hook(note)
    before = registry.register_module_full_backward_pre_hook(lambda module, grads: (grads[0] + 1,))
    with pytest.raises(RuntimeError, match="Cannot use both regular backward hooks and full"):
        registry.register_module_backward_hook(note)
    net(x).backward()
    # 1 + 1 at the whole, + 1 at each layer, and 2 times each.
    assert seen == [(6.0, 3.0), (14.0, 7.0), (14.0, 2.0)] and x.grad.item() == 14.0
    full.remove()
    before.remove()
    last = registry.register_module_backward_hook(note)
    with pytest.raises(RuntimeError, match="Cannot use both regular backward hooks and full"):
        registry.register_module_full_backward_hook(note)
    seen.clear()
    Twice()(x).backward()
    last.remove()
    assert seen == [(2.0, 1.0)] and not registry.CALL_HOOKS


def test_hooks_on_registration_replace_what_is_registered():
    handles = [
        registry.register_module_parameter_registration_hook(
            lambda module, name, parameter: nn.Parameter(parameter.detach() + 1)
        ),
        registry.register_module_buffer_registration_hook(
            lambda module, name, buffer: buffer if buffer is None else buffer * 2
        ),
        registry.register_module_module_registration_hook(
            lambda module, name, child: Twice() if isinstance(child, nn.ReLU) else None
        ),
    ]
    made = nn.Module()
    made.p = nn.Parameter(braze.zeros(1))
    made.register_buffer("b", braze.ones(1))
    made.b = braze.ones(1) * 2
    made.child = nn.ReLU()
    made.add_module("other", nn.ReLU())
    for handle in handles:
        handle.remove()
    assert made.p.item() == 1 and made.b.item() == 4
    assert type(made.child) is Twice and type(made.other) is Twice


# A module's own -----------------------------------------------------------------------------------


def test_hooks_are_called_even_after_a_failure_and_their_own_failures_are_told():
    made, seen = nn.Linear(2, 2), []
    made.register_forward_hook(lambda *given: seen.append("usual"))
    made.register_forward_hook(lambda *given: seen.append(given[-1]), always_call=True)

    def fails(*given):
        raise KeyError("hook")

    made.register_forward_hook(fails, always_call=True)
    with pytest.warns(UserWarning, match="silenced as another error was raised in forward: 'hook'"):
        with pytest.raises(RuntimeError, match="linear"):
            made(braze.zeros(3))
    assert seen == [None]
    with pytest.raises(KeyError):
        made(braze.zeros(2))
    assert len(seen) == 3  # the failing hook is not called again, nor those before it


def test_hooks_survive_a_pickle_and_new_ones_get_other_numbers():
    made = nn.Linear(2, 2)
    handle = made.register_forward_hook(_doubled, with_kwargs=True)
    loaded = pickle.loads(pickle.dumps(made))
    assert list(loaded._forward_hooks) == [handle.id]
    assert list(loaded._forward_hooks_with_kwargs) == [handle.id]
    loaded.register_forward_hook(_doubled, with_kwargs=True)
    x = braze.ones(2)
    assert len(loaded._forward_hooks) == 2
    assert loaded(x).tolist() == pytest.approx((made(x) * 2).tolist())
    handle.remove()
    assert not made._forward_hooks and not made._forward_hooks_with_kwargs


def _doubled(module, args, kwargs, result):
    return result * 2


def test_the_old_backward_hook_sees_the_last_operation():
    class Chain(nn.Module):
        def forward(self, x):
            return (x * 3).exp()

    made, seen = Chain(), []
    made.register_backward_hook(lambda module, before, after: seen.append((before, after)))
    with pytest.raises(RuntimeError, match="Cannot use both"):
        made.register_full_backward_hook(lambda *given: None)
    made(braze.zeros(1, requires_grad=True)).backward(braze.tensor([2.0]))
    ((before,), (after,)) = seen[0]
    assert before.item() == 2.0 and after.item() == 2.0  # of exp, not of the product


def test_a_result_that_is_no_tensor_has_no_backward_hook():
    class Listing(nn.Module):
        def forward(self, x):
            return [x * 2]

    made, seen = Listing(), []
    made.register_full_backward_hook(lambda *given: seen.append(given))
    x = braze.ones(1, requires_grad=True)
    with pytest.warns(UserWarning, match="module output should be a Tensor or a tuple of Tensors"):
        y = made(x)
    y[0].backward()
    assert not seen and x.grad.item() == 2.0


def test_state_hooks_get_what_pytorch_gives_them():
    made, seen = nn.Linear(2, 1), []
    made._register_load_state_dict_pre_hook(lambda state, prefix, *rest: seen.append(prefix))
    made._register_load_state_dict_pre_hook(
        lambda module, state, prefix, *rest: seen.append(module), with_module=True
    )
    net = nn.Sequential(made)
    net.load_state_dict(net.state_dict())
    assert seen == ["0.", made]
    made.register_state_dict_post_hook(lambda *given: {})
    with pytest.raises(RuntimeError, match="state_dict post-hook must return None"):
        net.state_dict()
    net.register_load_state_dict_post_hook(lambda module, keys: 3)
    with pytest.raises(AssertionError, match="not expected to return new values"):
        net.load_state_dict({}, strict=False)
    with pytest.warns(FutureWarning, match="Positional args are being deprecated"):
        assert list(nn.Linear(1, 1).state_dict({}, "x.")) == ["x.weight", "x.bias"]


# Names, buffers, calls ----------------------------------------------------------------------------


def test_submodules_are_set_by_dotted_name():
    net = nn.Sequential(nn.Sequential(nn.ReLU()))
    net.set_submodule("0.0", nn.Tanh())
    net.set_submodule("more", nn.ELU())
    assert type(net[0][0]) is nn.Tanh and type(net.more) is nn.ELU
    with pytest.raises(AttributeError, match="Sequential has no attribute `x`"):
        net.set_submodule("0.x", nn.ReLU(), strict=True)
    with pytest.raises(AttributeError, match="`training` is not an nn.Module"):
        net.set_submodule("0.training", nn.ReLU())
    with pytest.raises(ValueError, match="without a target name"):
        net.set_submodule("", nn.ReLU())


def test_marked_buffers_are_registered_by_assignment():
    made, data = nn.Module(), braze.ones(2)
    made.kept = nn.Buffer(data)
    made.loose = nn.Buffer(data, persistent=False)
    data.add_(1)
    assert list(made.state_dict()) == ["kept"] and made.kept.tolist() == [2.0, 2.0]
    made.loose = braze.zeros(1)  # still is none of the state
    assert list(made.state_dict()) == ["kept"] and not isinstance(made.loose, nn.Buffer)
    assert isinstance(made.kept, nn.Buffer) and type(made.kept) is braze.Tensor
    with pytest.raises(TypeError, match="cannot assign 'int' as buffer 'kept'"):
        made.kept = 3


def test_conversion_replaces_buffers_and_keeps_parameters():
    made = nn.BatchNorm1d(2)
    before = dict(made.named_parameters()), dict(made.named_buffers())
    made.to(braze.float64)
    assert all(p is before[0][name] for name, p in made.named_parameters())
    assert made.running_mean is not before[1]["running_mean"]
    assert made.num_batches_tracked is before[1]["num_batches_tracked"]
    assert made.weight.dtype is braze.float64 and made.running_mean.dtype is braze.float64
    assert made.to() is made and made.to_empty(device=made.weight.device) is made
    assert nn.ReLU().cuda().training  # there is nothing to move
    with pytest.raises(TypeError, match="invalid combination of arguments"):
        made.to(colour="red")


def test_there_is_no_gpu_to_move_a_module_to():
    for move in (lambda: nn.Linear(3, 3).cuda(), lambda: nn.Linear(3, 3).to("cuda")):
        with pytest.raises(RuntimeError, match="'cuda' is not available"):
            move()


def test_compiled_modules_run_their_graph_and_leave_no_trace_in_pickles():
    made = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).eval()
    x = braze.ones(1, 3)
    expected = made(x).tolist()
    made.compile(mode="default")
    with braze.no_grad():
        for _ in range(2):
            assert made(x)[0].tolist() == pytest.approx(expected[0], rel=1e-5)
    assert made(x).requires_grad
    assert "_compiled_call_impl" not in pickle.loads(pickle.dumps(made)).__dict__
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        made.compile(colour="red")


def test_tensors_computed_for_a_layers_text_do_not_disturb_capturing():
    class Described(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(braze.ones(2))

        def extra_repr(self):
            self.last = self.weight * 5
            return f"sum={self.weight.sum().item():g}" if self.training else "quiet"

        def forward(self, x):
            return x * self.weight

    for training in (False, True):
        made = Described().train(training)
        for _ in range(3):
            y = made(braze.tensor([1.0, 2.0])) + made.weight * 0
            y.sum().backward()
            assert y.tolist() == [1.0, 2.0] and made.weight.grad.tolist() == [1.0, 2.0]
            made.zero_grad()


# Warnings -----------------------------------------------------------------------------------------


def _failing(*args):
    raise ValueError("a hook's own error")


def _two_lists(net):
    net.register_full_backward_hook(lambda *args: None)
    net.forward = lambda x: [x, x]
    net(braze.ones(2, 2))


def _failing_always(net):
    net.register_forward_hook(_failing, always_call=True)
    net.forward = _failing
    with pytest.raises(ValueError, match="own error"):
        net(braze.ones(2, 2))


@pytest.mark.parametrize(
    "call",
    (
        lambda net: nn.Sequential(nn.InstanceNorm1d(3))(braze.ones(1, 2, 5)),
        lambda net: nn.LSTM(2, 2, dropout=0.5),
        lambda net: nn.RNNBase("LSTM", 2, 2, dropout=0.5),
        lambda net: nn.Linear(0, 3),
        lambda net: nn.init.kaiming_uniform_(braze.empty(0, 3)),
        lambda net: nn.parallel.gather([braze.ones(()), braze.ones(())], "cpu:0"),
        _two_lists,
        _failing_always,
    ),
)
def test_a_warning_names_the_users_line(call):
    with pytest.warns(UserWarning) as found:
        call(Twice())
    names = {warning.filename for warning in found}
    lines = {warning.lineno for warning in found}
    first = call.__code__.co_firstlineno
    assert names == {__file__} and lines <= set(range(first, first + 5))
