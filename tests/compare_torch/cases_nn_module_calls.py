"""Cases of calling modules, and of hooks."""

import pickle
import warnings

from compare_cases import case
from compare_modules import fill, module
from compare_networks import message, net, text

# Calls and hooks ----------------------------------------------------------------------------------


@case("torch.nn.Module", "torch.nn.Module.__call__", "torch.nn.Module.forward")
def calls(c, name):
    module(c, lambda nn: nn.Sequential(nn.Linear(3, 2), nn.Tanh()), c.f64(4, 3))
    c(lambda m: message(m, m.nn.Module()))
    c(lambda m: message(m, m.nn.Module, 3))
    c(lambda m: message(m, m.nn.Module, x=3))

    def in_line(m):
        class Next:
            def __init__(self, value):
                self.value = value

        class Made(m.nn.Module, Next):
            call_super_init = True

        return Made(3).value

    c(in_line)

    def tree(m):
        made = net(m)
        made.set_submodule("body.1", m.nn.Identity())
        made.set_submodule("extra", m.nn.Tanh())
        return (
            repr(made),
            made.get_submodule("body.0") is made.body[0],
            made.get_submodule("") is made,
            made.get_parameter("first.weight") is made.first.weight,
            made.get_buffer("body.scale") is made.body.scale,
        )

    c(tree)

    def lost(m):
        made = net(m)
        return [
            message(m, made.get_submodule, "body.x"),
            message(m, made.get_submodule, "first.weight"),
            message(m, made.get_parameter, "body.scale"),
            message(m, made.get_parameter, "body.x"),
            message(m, made.get_buffer, "first.weight"),
            message(m, made.get_buffer, "nothing.weight"),
            message(m, made.set_submodule, "", m.nn.ReLU()),
            message(m, made.set_submodule, "body.x", 3)[0],
            message(m, made.set_submodule, "body.x", m.nn.ReLU(), strict=True),
            message(m, made.set_submodule, "first.weight", m.nn.ReLU()),
        ]

    c(lost)

    def compiled(m, x):
        made = net(m).double()
        made.compile(backend="eager")
        return made(x), "_compiled_call_impl" in pickle.loads(pickle.dumps(made)).__dict__

    c(compiled, c.f64(2, 3))


def noting(seen, name, answer=None):
    def hook(*arguments):
        seen.append((name, len(arguments)))
        return None if answer is None else answer(*arguments)

    return hook


@case("torch.nn.Module.register_forward_pre_hook")
def forward_pre_hooks(c):
    def run(m, x):
        made, seen = net(m).double(), []
        made.first.register_forward_pre_hook(noting(seen, "one", lambda s, a: a[0] * 2))
        made.first.register_forward_pre_hook(noting(seen, "two", lambda s, a: (a[0] + 1,)))
        made.first.register_forward_pre_hook(noting(seen, "zero"), prepend=True)
        handle = made.first.register_forward_pre_hook(noting(seen, "gone"))
        handle.remove()
        with made.register_forward_pre_hook(noting(seen, "within")):
            made(x)
        return made(x), seen, len(made.first._forward_pre_hooks)

    c(run, c.f64(2, 3))

    def keywords(m, x):
        made = net(m).double()
        twice = made.register_forward_pre_hook(
            lambda s, args, kwargs: (args, {"input": kwargs["input"] * 2}), with_kwargs=True
        )
        result = made(input=x)
        twice.remove()
        made.register_forward_pre_hook(lambda s, args, kwargs: 3, with_kwargs=True)
        return result, message(m, made, x)

    c(keywords, c.f64(2, 3))

    def everywhere(m, x):
        made, seen = net(m).double(), []
        register = m.nn.modules.module.register_module_forward_pre_hook
        made.first.register_forward_pre_hook(noting(seen, "own"))
        handle = register(lambda module, args: seen.append(type(module).__name__))
        made(x)
        handle.remove()
        return made(x), seen

    c(everywhere, c.f64(2, 3))


@case("torch.nn.Module.register_forward_hook")
def forward_hooks(c):
    def run(m, x):
        made, seen = net(m).double(), []
        made.first.register_forward_hook(noting(seen, "one", lambda s, a, y: y * 2))
        made.first.register_forward_hook(noting(seen, "zero"), prepend=True)
        made.first.register_forward_hook(
            noting(seen, "words", lambda s, a, k, y: y + a[0].sum()), with_kwargs=True
        )
        made.body.register_forward_hook(noting(seen, "gone")).remove()
        return made(x), seen

    c(run, c.f64(2, 3))

    def failing(m, x):
        made, seen = net(m).double(), []
        made.register_forward_hook(noting(seen, "usual"))
        made.register_forward_hook(noting(seen, "always"), always_call=True)
        made.register_forward_hook(
            noting(seen, "words", lambda s, a, k, y: y), always_call=True, with_kwargs=True
        )

        def bad(*arguments):
            raise KeyError("in the hook")

        made.register_forward_hook(bad, always_call=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            raised = message(m, made, x[:, :2])[0]
        silenced = [w for w in caught if "silenced" in str(w.message)]
        return raised, seen, len(silenced), message(m, made, x), seen

    c(failing, c.f64(2, 3))

    def everywhere(m, x):
        made, seen = net(m).double(), []
        register = m.nn.modules.module.register_module_forward_hook
        handle = register(lambda module, args, y: seen.append(type(module).__name__))
        words = register(lambda module, a, k, y: y * 2, with_kwargs=True, always_call=True)
        result = made(x)
        handle.remove()
        words.remove()
        return result, made(x), seen

    c(everywhere, c.f64(2, 3))


@case("torch.nn.Module.register_backward_hook")
def backward_hooks(c):
    def full(m, x, replace=False, pre=False):
        made, seen = m.nn.Sequential(m.nn.Linear(3, 2), m.nn.Tanh()).double(), []
        fill(made, m)

        def note(module, grad_input, grad_output):
            seen.extend([grad_input, grad_output])
            if replace:
                return (grad_input[0] * 2,)
            return None

        made[1].register_full_backward_hook(note)
        if pre:
            made.register_full_backward_pre_hook(lambda module, g: (g[0] * 3,))
        y = made(x)
        gradient = m.autograd.grad((y * y).sum(), x)
        return seen, gradient

    for options in ({}, {"replace": True}, {"pre": True}):
        c(lambda m, x, o=options: full(m, x, **o), c.f64(4, 3), gradients=1)

    def last_operation(m, x):
        made, seen = m.nn.Tanh(), []
        made.register_backward_hook(lambda module, before, after: seen.extend([before, after]))
        m.autograd.grad(made(x).sum(), x)
        return seen

    c(last_operation, c.f64(4, 3))


@case("torch.nn.Module.register_backward_hook")
def other_backward_hooks(c):
    def mixed(m):
        one, two = m.nn.Tanh(), m.nn.Tanh()
        one.register_backward_hook(print)
        two.register_full_backward_hook(print)
        return [
            message(m, one.register_full_backward_hook, print),
            message(m, two.register_backward_hook, print),
        ]

    c(mixed)

    def everywhere(m, x):
        made, seen = net(m).double(), []
        registry = m.nn.modules.module

        def note(module, grad_input, grad_output):
            seen.append(type(module).__name__)

        handles = [
            registry.register_module_full_backward_hook(note),
            registry.register_module_full_backward_pre_hook(lambda module, g: (g[0] * 2,)),
        ]
        raised = message(m, registry.register_module_backward_hook, note)
        gradient = m.autograd.grad(made(x).sum(), x)
        for handle in handles:
            handle.remove()
        return gradient, m.autograd.grad(made(x).sum(), x), seen, raised

    c(everywhere, c.f64(2, 3))

    def unusual(m, x):
        class Listing(m.nn.Module):
            def forward(self, x):
                return [x * 2]

        made = Listing()
        made.register_full_backward_hook(lambda *gradients: None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            y = made(x)
            again = message(m, lambda: m.autograd.grad(y[0].sum(), x))
        return [text(m, w.message) for w in caught if "backward" in str(w.message)], again

    c(unusual, c.f64(3))
