"""The module protocol: registration, calls and hooks, walking, state, conversion, containers."""

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import braze
from braze import nn
from braze.handle import BUFFER, PARAM

pytestmark = pytest.mark.usefixtures("interpret")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.body = nn.Sequential(nn.ReLU(), nn.Linear(3, 2, bias=False))
        self.register_buffer("scale", braze.tensor([2.0]))
        self.register_buffer("scratch", braze.zeros(2), persistent=False)

    def forward(self, x):
        return self.body(self.first(x)) * self.scale


# Registration -------------------------------------------------------------------------------------


def test_assignment_registers_parameters_buffers_and_children():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["first.weight", "first.bias", "body.1.weight"]
    assert [n for n, _ in net.named_buffers()] == ["scale", "scratch"]
    assert [n for n, _ in net.named_children()] == ["first", "body"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "body", "body.0", "body.1"]
    assert net.first.weight is net._modules["first"]._parameters["weight"]
    assert all(p._handle.flags & PARAM for p in net.parameters())
    assert all(b._handle.flags & BUFFER for b in net.buffers())


def test_reassignment_moves_a_name_between_the_tables():
    net = Net()
    net.scale = braze.tensor([3.0])
    assert net._buffers["scale"].item() == 3.0 and net.scale._handle.flags & BUFFER
    net.first = None
    assert net._modules["first"] is None and net.first is None
    net.scale = nn.Parameter(braze.zeros(1))
    assert "scale" in net._parameters and "scale" not in net._buffers
    with pytest.raises(
        TypeError, match="cannot assign 'braze.tensors.Tensor' as parameter 'scale'"
    ):
        net.scale = braze.zeros(1)
    with pytest.raises(TypeError, match="cannot assign 'int' as child module 'body'"):
        net.body = 3
    with pytest.raises(TypeError, match="cannot assign 'str' as buffer 'scratch'"):
        net.scratch = "text"
    net.plain = 5
    assert net.__dict__["plain"] == 5
    del net.body, net.scale, net.scratch, net.plain
    assert not hasattr(net, "body") and not net._parameters and not net._buffers
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'body'"):
        _ = net.body


def test_registration_errors():
    class Early(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(braze.zeros(1))

    with pytest.raises(
        AttributeError, match=r"cannot assign parameters before Module.__init__\(\) call"
    ):
        Early()
    net = Net()
    with pytest.raises(KeyError, match='contain "[.]", got: a.b'):
        net.register_parameter("a.b", None)
    with pytest.raises(KeyError, match="empty string"):
        net.add_module("", nn.ReLU())
    with pytest.raises(KeyError, match="attribute 'forward' already exists"):
        net.register_buffer("forward", None)
    with pytest.raises(TypeError, match="is not a Module subclass"):
        net.add_module("x", 3)
    with pytest.raises(TypeError, match="braze.nn.Parameter or None required"):
        net.register_parameter("x", braze.zeros(1))
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        nn.Module(3)


def test_parameters_share_memory_with_what_they_were_made_from_and_have_a_text():
    data = braze.tensor([0.0, 1.0])
    parameter = nn.Parameter(data)
    data.add_(1)
    assert parameter.tolist() == [1.0, 2.0] and parameter.requires_grad and parameter.is_leaf
    (parameter * 2).sum().backward()
    braze.optim.SGD([parameter], lr=0.5).step()
    assert data.tolist() == [0.0, 1.0]
    with braze.no_grad():
        parameter.add_(1)
    assert data.tolist() == [1.0, 2.0] and parameter.grad.tolist() == [2.0, 2.0]
    fresh = nn.Parameter(braze.ones(2))
    assert fresh._base is None  # since nobody else could look at what it was made from
    assert repr(parameter) == "Parameter containing:\ntensor([1., 2.], requires_grad=True)"
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    with pytest.raises(RuntimeError, match="floating point"):
        nn.Parameter(braze.tensor([1]))
    with pytest.raises(TypeError):
        nn.Parameter([1.0])
    for copied in (copy.deepcopy(parameter), pickle.loads(pickle.dumps(parameter))):
        assert type(copied) is nn.Parameter and copied.tolist() == [1.0, 2.0]
        assert copied.requires_grad and copied._handle.flags & PARAM


def test_parameters_on_parts_of_one_tensor_are_trained_together():
    data = braze.zeros(2, 2)
    whole, row = nn.Parameter(data), nn.Parameter(data[0])
    optimizer = braze.optim.SGD([whole, row], lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (whole.sum() * 2 + row.sum()).backward()
        optimizer.step()
    assert data.tolist() == [[-3.0, -3.0], [-2.0, -2.0]] and row.tolist() == [-3.0, -3.0]
    copied, part = copy.deepcopy((whole, row))
    with braze.no_grad():
        part.fill_(1.0)
    assert copied.tolist() == [[1.0, 1.0], [-2.0, -2.0]] and whole.tolist() == data.tolist()


def test_shared_parameters_are_listed_once():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert len(list(net.named_parameters(remove_duplicate=False))) == 4
    assert "1.weight" in net.state_dict()


def test_lookup_by_dotted_name():
    net = Net()
    assert net.get_submodule("body.1") is net.body[1] and net.get_submodule("") is net
    assert net.get_parameter("first.weight") is net.first.weight
    assert net.get_buffer("scale") is net.scale
    with pytest.raises(AttributeError, match="Net has no attribute `nothing`"):
        net.get_submodule("nothing.x")
    with pytest.raises(AttributeError, match="is not an nn.Module"):
        net.get_submodule("training")
    with pytest.raises(AttributeError, match="is not an nn.Parameter"):
        net.get_parameter("scale")
    with pytest.raises(AttributeError, match="is not a buffer"):
        net.get_buffer("first.weight")


# Calling ------------------------------------------------------------------------------------------


def test_forward_hooks_see_and_replace():
    layer = nn.Identity()
    calls = []
    pre = layer.register_forward_pre_hook(lambda m, args: calls.append("pre") or (args[0] + 1,))
    first = layer.register_forward_hook(lambda m, args, out: calls.append("post"))
    layer.register_forward_hook(lambda m, args, out: out * 10, prepend=True)
    assert layer(braze.tensor([1.0])).item() == 20.0 and calls == ["pre", "post"]
    pre.remove()
    first.remove()
    first.remove()
    assert layer(braze.tensor([1.0])).item() == 10.0 and calls == ["pre", "post"]


def test_hooks_with_keyword_arguments_and_on_failure():
    class Scale(nn.Module):
        def forward(self, x, by=1.0):
            if by == 0:
                raise ValueError("zero")
            return x * by

    layer = Scale()
    layer.register_forward_pre_hook(lambda m, a, k: (a, {"by": k["by"] * 2}), with_kwargs=True)
    seen = []
    layer.register_forward_hook(
        lambda m, a, k, out: seen.append((k["by"], out is None)), with_kwargs=True, always_call=True
    )
    assert layer(braze.tensor([1.0]), by=3.0).item() == 6.0
    with pytest.raises(ValueError, match="zero"):
        layer(braze.tensor([1.0]), by=0.0)
    assert seen == [(6.0, False), (0.0, True)]


def test_full_backward_hooks_get_the_gradients_of_this_call_only():
    layer = nn.Linear(3, 2)
    seen = {}

    def hook(module, grad_input, grad_output):
        seen["in"], seen["out"] = grad_input, grad_output

    layer.register_full_backward_hook(hook)
    x = braze.ones(1, 3, requires_grad=True)
    y = layer(x)
    (y.sum() + (x * 100).sum()).backward()  # x is used outside as well
    np.testing.assert_array_equal(seen["out"][0].numpy(), np.ones((1, 2)))
    inside = layer.weight.detach().numpy().sum(0, keepdims=True)
    np.testing.assert_allclose(seen["in"][0].numpy(), inside, rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), inside + 100, rtol=1e-6)


def test_backward_hooks_replace_gradients_of_several_arguments():
    class Product(nn.Module):
        def forward(self, x, y, power):
            return x * y, x**power

    module = Product()
    module.register_full_backward_pre_hook(lambda m, out: tuple(g * 2 for g in out))
    module.register_full_backward_hook(lambda m, gin, gout: (gin[0] + 1, gin[1] * 10, None))
    x = braze.tensor([2.0, 3.0], requires_grad=True)
    y = braze.tensor([[5.0], [7.0]], requires_grad=True)
    a, b = module(x, y, 2)
    (a.sum() + b.sum()).backward()
    assert x.grad.tolist() == [2 * (12 + 4) + 1, 2 * (12 + 6) + 1]
    assert y.grad.tolist() == [[100.0], [100.0]]


def test_backward_hook_without_inputs_that_need_gradients():
    layer = nn.Linear(2, 1)
    seen = []
    handle = layer.register_full_backward_hook(lambda m, gin, gout: seen.append((gin, gout)))
    layer(braze.ones(1, 2)).sum().backward()
    assert seen[0][0] == (None,) and seen[0][1][0].tolist() == [[1.0]]
    assert layer.weight.grad is not None
    handle.remove()
    layer(braze.ones(1, 2)).sum().backward()
    assert len(seen) == 1


def test_errors_name_the_layer():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.head(x)

    with pytest.raises(braze.ir.ShapeError) as error:
        Holder()(braze.ones(3, 4))
    text = str(error.value)
    assert "Holder.head (Linear(in_features=8, out_features=2, bias=True))" in text
    assert "test_modules.py" in text


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match='missing the required "forward" function'):
        nn.Module()(1)


# State --------------------------------------------------------------------------------------------


def test_state_dict_round_trip_and_live_view():
    net, other = Net(), Net()
    state = net.state_dict()
    assert list(state) == ["scale", "first.weight", "first.bias", "body.1.weight"]
    result = other.load_state_dict(state)
    assert repr(result) == "<All keys matched successfully>"
    x = braze.randn(5, 4)
    assert braze.equal(net(x), other(x))
    with braze.no_grad():
        net.first.bias.add_(1)
    assert braze.equal(state["first.bias"], net.first.bias)
    assert not braze.equal(state["first.bias"], other.first.bias)
    assert not state["first.bias"].requires_grad
    kept = net.state_dict(prefix="net.", keep_vars=True)
    assert kept["net.first.weight"] is net.first.weight
    arrays = {name: np.array(value.numpy()) for name, value in state.items()}
    other.load_state_dict(arrays)
    assert braze.equal(other.first.bias, net.first.bias)
    net.load_state_dict(net.state_dict())
    assert braze.equal(net(x), other(x))


def test_loading_writes_the_values_after_what_is_pending():
    net = Net()
    x = braze.ones(1, 4)
    old = net(x)  # pending: reads the old values
    expected = old.clone().tolist()
    pending = net(x)
    net.load_state_dict({name: value * 0 for name, value in net.state_dict().items()})
    assert pending.tolist() == expected
    assert net(x).tolist() == [[0.0, 0.0]]


def test_load_errors_have_pytorchs_text():
    net = Net()
    state = net.state_dict()
    del state["first.weight"]
    state["extra"] = braze.zeros(1)
    state["first.bias"] = braze.zeros(7)
    with pytest.raises(RuntimeError) as error:
        net.load_state_dict(state)
    assert str(error.value) == (
        "Error(s) in loading state_dict for Net:\n"
        '\tMissing key(s) in state_dict: "first.weight". \n'
        '\tUnexpected key(s) in state_dict: "extra". \n'
        "\tsize mismatch for first.bias: copying a param with shape braze.Size([7]) "
        "from checkpoint, the shape in current model is braze.Size([3])."
    )
    state["first.bias"] = braze.ones(3)
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["first.weight"] and result.unexpected_keys == ["extra"]
    assert net.first.bias.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(TypeError, match="dict-like"):
        net.load_state_dict(3)
    with pytest.raises(RuntimeError, match="expected a Tensor or an array"):
        net.load_state_dict({**state, "scale": "text"}, strict=False)


def test_assign_puts_the_given_tensors_in_place():
    net = Net()
    given = {
        name: braze.zeros(value.shape, dtype=braze.float64)
        for name, value in net.state_dict().items()
    }
    net.load_state_dict(given, assign=True)
    assert net.first.weight.dtype is braze.float64 and isinstance(net.first.weight, nn.Parameter)
    assert net.scale is given["scale"]


def test_extra_state_and_state_hooks():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.count = 0

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state):
            self.count = state["count"]

    net, other = nn.Sequential(Counter()), nn.Sequential(Counter())
    net[0].count = 7
    other.load_state_dict(net.state_dict())
    assert other[0].count == 7
    with pytest.raises(RuntimeError, match='Missing key.*"0._extra_state"'):
        other.load_state_dict({})
    other.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
    assert other.load_state_dict({}).missing_keys == []
    net.register_state_dict_post_hook(lambda m, state, prefix, meta: state.update(more=1))
    assert net.state_dict()["more"] == 1


def test_deepcopy_and_pickle():
    braze.manual_seed(0)  # one in some dozens draws has no unit that is on
    net = Net()
    x = braze.randn(2, 4)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert braze.equal(net(x), other(x))
        with braze.no_grad():
            other.first.weight.zero_()
        assert not braze.equal(net(x), other(x))
        assert not other.training or other.train(False).training is False


# Conversion and modes -----------------------------------------------------------------------------


def test_conversion_keeps_roles_and_integer_buffers():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    net(braze.randn(4, 3)).sum().backward()
    weight = net[0].weight
    before = weight.detach().numpy().copy()
    assert net.double() is net
    assert net[0].weight is weight and weight.dtype is braze.float64
    assert weight.grad.dtype is braze.float64
    assert weight._handle.flags & PARAM and net[1].running_mean._handle.flags & BUFFER
    assert net[1].num_batches_tracked.dtype is braze.int64
    np.testing.assert_array_equal(weight.detach().numpy(), before.astype(np.float64))
    assert net.to(braze.float32)[0].weight.dtype is braze.float32
    assert net.to(weight.device) is net and net.to(braze.zeros(1, dtype=braze.float64))
    assert net.float()(braze.randn(4, 3)).dtype is braze.float32
    with pytest.raises(TypeError, match="only accepts floating point"):
        net.to(braze.int64)


def test_modes_gradients_and_apply():
    net = Net()
    net.eval()
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    with pytest.raises(ValueError, match="expected to be boolean"):
        net.train(1)
    net(braze.ones(1, 4)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert net.first.bias.grad.tolist() == [0.0, 0.0, 0.0]
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    names = []
    net.apply(lambda m: names.append(type(m).__name__))
    assert names == ["Linear", "ReLU", "Linear", "Sequential", "Net"]


# Containers and text ------------------------------------------------------------------------------


def test_sequential():
    a, b, c = nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)
    net = nn.Sequential(OrderedDict(a=a, b=b))
    net.append(c)
    assert list(net._modules) == ["a", "b", "2"] and net[-1] is c and net.a is a and len(net) == 3
    assert isinstance(net[:2], nn.Sequential) and list(net[:2]) == [a, b]
    net[0] = nn.Identity()
    assert isinstance(net.a, nn.Identity)
    net.insert(1, a)
    assert list(net)[1] is a and net.pop(1) is a and len(net) == 3
    del net[0]
    assert list(net) == [b, c] and list(net._modules) == ["0", "1"]
    with pytest.raises(IndexError, match="index 5 is out of range"):
        _ = net[5]
    assert len(net + nn.Sequential(a)) == 3


def test_module_list_and_dict():
    layers = nn.ModuleList([nn.Linear(2, 2)])
    layers.append(nn.ReLU())
    layers += [nn.Linear(2, 2)]
    layers.insert(0, nn.Identity())
    assert [type(m).__name__ for m in layers] == ["Identity", "Linear", "ReLU", "Linear"]
    assert len(list(layers.parameters())) == 4 and isinstance(layers[1:], nn.ModuleList)
    popped = layers.pop(1)
    assert popped not in layers and len(layers) == 3
    del layers[0]
    assert list(layers._modules) == ["0", "1"]
    table = nn.ModuleDict({"a": nn.ReLU()})
    table["b"] = nn.Linear(1, 1)
    table.update([("c", nn.Tanh())])
    assert list(table) == ["a", "b", "c"] and "b" in table and len(table.values()) == 3
    assert isinstance(table.pop("c"), nn.Tanh) and list(table.keys()) == ["a", "b"]


def test_parameter_list_and_dict():
    listed = nn.ParameterList([braze.zeros(2), nn.Parameter(braze.ones(3))])
    listed.append(braze.zeros(1))
    assert len(listed) == 3 and all(isinstance(p, nn.Parameter) for p in listed)
    assert [n for n, _ in listed.named_parameters()] == ["0", "1", "2"]
    assert "(1): Parameter containing: [braze.float32 of size 3]" in repr(listed)
    table = nn.ParameterDict({"w": braze.zeros(2, 2)})
    table["b"] = braze.zeros(2)
    assert [n for n, _ in table.named_parameters()] == ["w", "b"] and "w" in table
    assert table.pop("w").shape == (2, 2) and len(table) == 1


def test_repr_is_pytorchs():
    assert repr(Net()) == (
        "Net(\n"
        "  (first): Linear(in_features=4, out_features=3, bias=True)\n"
        "  (body): Sequential(\n"
        "    (0): ReLU()\n"
        "    (1): Linear(in_features=3, out_features=2, bias=False)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.Conv2d(1, 2, 3, padding=1, groups=1, bias=False)) == (
        "Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)"
    )
    assert repr(nn.BatchNorm2d(3)) == (
        "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)"
    )


def test_a_list_registers_a_module_once():
    """Also where others get new numbers by an insertion or a removal."""
    seen = []
    hook = nn.modules.module.register_module_module_registration_hook(
        lambda parent, name, child: seen.append(child)
    )
    first, second, third = nn.ReLU(), nn.Tanh(), nn.Sigmoid()
    try:
        modules = nn.ModuleList([first, second])
        modules.insert(0, third)
        del modules[1]
    finally:
        hook.remove()
    assert seen == [first, second, third]
    assert list(modules) == [third, second]
    assert [name for name, _ in modules.named_children()] == ["0", "1"]
