"""Cases of parameters and buffers, and of how modules register and show what they have."""

import copy
import pickle

import numpy as np
from compare_cases import case
from compare_networks import message, net, text

# Parameters and buffers ---------------------------------------------------------------------------


@case("torch.nn.Parameter")
def parameter(c):
    def facts(m, x):
        made = m.nn.Parameter(x)
        return (
            made,
            made.requires_grad,
            made.is_leaf,
            text(m, repr(made)),
            isinstance(made, m.Tensor),
        )

    c(facts, c.exactly(np.array([[1.5, 2.0]])), gradients=0)
    c(facts, c.exactly(np.array([[1.5, 2.0]])).to("float32"), gradients=0)
    c(lambda m: m.nn.Parameter().shape)
    c(lambda m, x: m.nn.Parameter(x, requires_grad=False), c.i64(3))
    c(lambda m, x: m.nn.Parameter(x, False).requires_grad, c.f64(3))
    c.error(lambda m, x: m.nn.Parameter(x), c.i64(3))

    def copies(m, x):
        made = m.nn.Parameter(x)
        made.grad = m.ones(3, dtype=m.float64)
        copied = copy.deepcopy(made)
        loaded = pickle.loads(pickle.dumps(made))
        kinds = [type(y) is m.nn.Parameter for y in (copied, loaded)]
        return copied, copied.grad, loaded, loaded.grad, kinds, copied is made

    c(copies, c.f64(3).constant(), gradients=0)

    def shared(m, x):
        made = m.nn.Parameter(x)
        with m.no_grad():
            x.add_(1.0)
            made.mul_(2.0)
        return made, x

    c(shared, c.f64(3).constant(), gradients=0)

    def results(m, x):
        made = m.nn.Parameter(x)
        return (
            type(made + 1) is m.Tensor,
            type(made.detach()) is m.Tensor,
            type(made.data) is m.Tensor,
        )

    c(results, c.f64(3), gradients=0)


@case("torch.nn.Buffer")
def buffer(c):
    def registered(m, x):
        made = m.nn.Module()
        made.a = m.nn.Buffer(x)
        made.b = m.nn.Buffer(x + 1, persistent=False)
        made.a = x + 2
        made.b = x + 3
        found = [name for name, _ in made.named_buffers()], list(made.state_dict())
        kinds = isinstance(m.nn.Buffer(x), m.nn.Buffer), isinstance(x, m.nn.Buffer)
        return found, kinds, made.a, made.b, m.nn.Buffer().shape

    c(registered, c.f64(3).constant())
    c(lambda m, x: m.nn.Buffer(x).requires_grad, c.f64(3).constant())

    def refused(m, x):
        made = m.nn.Module()
        made.a = m.nn.Buffer(x)
        return message(m, setattr, made, "a", 3)[0]

    c(refused, c.f64(3).constant())


# Registration -------------------------------------------------------------------------------------


def wrong_names(m, register, value):
    return [message(m, register, name, value)[0] for name in (3, "a.b", "", "forward", "training")]


@case("torch.nn.Module.register_buffer")
def register_buffer(c):
    def registered(m, x):
        made = net(m)
        made.register_buffer("more", x)
        made.register_buffer("none", None)
        made.register_buffer("loose", x, persistent=False)
        before = list(made.state_dict())
        made.register_buffer("loose", x)
        return before, list(made.state_dict()), [name for name, _ in made.named_buffers()]

    c(registered, c.f64(3).constant())
    c(lambda m, x: wrong_names(m, net(m).register_buffer, x), c.f64(3).constant())
    c(lambda m: message(m, net(m).register_buffer, "x", 3)[0])
    c(lambda m: message(m, m.nn.Module.register_buffer, object.__new__(m.nn.Module), "x", None))


@case("torch.nn.Module.register_parameter")
def register_parameter(c):
    def registered(m, x):
        made = net(m)
        made.register_parameter("more", m.nn.Parameter(x))
        made.register_parameter("none", None)
        return [name for name, _ in made.named_parameters()], made.none

    c(registered, c.f64(3).constant())
    c(lambda m: wrong_names(m, net(m).register_parameter, None))
    c(lambda m, x: message(m, net(m).register_parameter, "x", x)[0], c.f64(3))
    c(lambda m: message(m, m.nn.Module.register_parameter, object.__new__(m.nn.Module), "x", None))


@case("torch.nn.Module.add_module")
def add_module(c):
    def added(m):
        made = net(m)
        made.add_module("more", m.nn.ReLU())
        made.register_module("again", made.more)
        made.add_module("none", None)
        return [name for name, _ in made.named_modules()], list(made._modules), repr(made)

    c(added)
    c(lambda m: wrong_names(m, net(m).add_module, m.nn.ReLU()))
    c(lambda m: message(m, net(m).add_module, "x", 3))


@case("torch.nn.Module.__setattr__", "torch.nn.Module.__getattr__")
def attributes(c, name):
    def moved(m, x):
        made = net(m)
        made.first = m.nn.ReLU()
        made.new = m.nn.Parameter(x)
        made.plain = x
        made.plain = m.nn.Parameter(x)
        made.body.scale = x
        made.body.scratch = None
        made.new = None
        del made.body.count
        return (
            [n for n, _ in made.named_parameters()],
            [n for n, _ in made.named_buffers()],
            [n for n, _ in made.named_modules()],
            made.new,
            made.body.scratch,
            made.body.scale,
        )

    c(moved, c.f64(3).constant())

    def refused(m, x):
        made = net(m)
        made.p = m.nn.Parameter(x)
        unmade = object.__new__(m.nn.Module)
        return [
            message(m, setattr, made, "body", 3),
            message(m, setattr, made.body, "scale", 3)[0],
            message(m, setattr, made, "p", 3)[0],
            message(m, setattr, unmade, "p", m.nn.Parameter(x)),
            message(m, setattr, unmade, "p", m.nn.ReLU()),
            message(m, getattr, made, "missing"),
            message(m, delattr, made, "missing")[0],
        ]

    c(refused, c.f64(3).constant())


@case("torch.nn.Module.__setattr__", "torch.nn.Module.__getattr__")
def registration_hooks(c, name):
    def hooks(m, x):
        seen = []
        registry = m.nn.modules.module

        def note(kind):
            def hook(module, name, value):
                seen.append((kind, type(module).__name__, name))

            return hook

        handles = [
            registry.register_module_buffer_registration_hook(note("buffer")),
            registry.register_module_parameter_registration_hook(note("parameter")),
            registry.register_module_module_registration_hook(note("module")),
        ]
        made = m.nn.Module()
        made.a = m.nn.Linear(2, 2)
        made.register_buffer("b", x)
        made.b = x + 1
        for handle in handles:
            handle.remove()
        made.c = m.nn.ReLU()
        return seen

    c(hooks, c.f64(3).constant())


@case("torch.nn.Module.__dir__")
def names(c):
    def own(m):
        found = dir(net(m))
        wanted = ("first", "body", "weight", "training", "forward", "_buffers", "state_dict")
        return [name in found for name in wanted], [n for n in found if n[0].isdigit()]

    c(own)
    c(lambda m: [n in dir(net(m).first) for n in ("weight", "bias", "in_features")])


# Text ---------------------------------------------------------------------------------------------


@case("torch.nn.Module.__repr__", "torch.nn.Module.extra_repr")
def printed(c, name):
    def made(m, lines):
        class Layer(m.nn.Module):
            def extra_repr(self):
                return lines

        return Layer()

    c(lambda m: repr(net(m)))
    c(lambda m: [repr(made(m, lines)) for lines in ("", "a=1", "a=1\nb=2")])

    def nested(m):
        layer = made(m, "a=1")
        layer.inner = made(m, "b=1\nc=2")
        layer.none = None
        return repr(m.nn.Sequential(layer)), m.nn.Linear(2, 3).extra_repr()

    c(nested)
