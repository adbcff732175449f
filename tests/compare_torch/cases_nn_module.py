"""Cases of `nn.Module`'s protocol, of parameters and of buffers."""

import copy
import pickle
import warnings

import numpy as np
from compare_cases import case
from compare_modules import fill, module


def net(m):
    """Two layers, one of them twice, with buffers of both kinds."""
    nn = m.nn
    made = nn.Sequential()
    made.add_module("first", nn.Linear(3, 4))
    made.add_module("body", nn.Sequential(nn.Tanh(), nn.Linear(4, 2, bias=False)))
    made.body.register_buffer("scale", m.ones(2))
    made.body.register_buffer("count", m.zeros((), dtype=m.int64))
    made.body.register_buffer("scratch", m.ones(1), persistent=False)
    fill(made, m)
    return made


def text(m, value):
    """What does not depend on the library's name."""
    return str(value).replace(m.__name__ + ".", "")


def message(m, function, *arguments, **options):
    """An exception's type, of those that Python has, and text."""
    try:
        function(*arguments, **options)
    except Exception as error:
        kind = next(k for k in type(error).__mro__ if k.__module__ == "builtins")
        return kind.__name__, text(m, error.args[0])
    return "returns"


def dtypes(made):
    state = {**dict(made.named_parameters()), **dict(made.named_buffers())}
    return {name: str(tensor.dtype).split(".")[-1] for name, tensor in state.items()}


def values(made):
    state = {**dict(made.named_parameters()), **dict(made.named_buffers())}
    return {name: tensor.detach() for name, tensor in state.items()}


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


# State --------------------------------------------------------------------------------------------


@case("torch.nn.Module.state_dict")
def state_dict(c):
    def plain(m):
        state = net(m).state_dict()
        metadata = {name: dict(value) for name, value in state._metadata.items()}
        return state, metadata, type(state).__mro__[-3].__name__

    c(plain, compiled=False)
    c(lambda m: net(m).state_dict(prefix="net."))
    c(lambda m: net(m).state_dict(keep_vars=True))

    def filled(m):
        found = {"mine": 1}
        state = net(m).state_dict(destination=found)
        return state is found, state

    c(filled)
    c(lambda m: net(m).state_dict({}, "net.", True))

    def live(m):
        made = net(m)
        state = made.state_dict()
        with m.no_grad():
            made.first.bias.add_(1.0)
        return state

    c(live)

    def hooks(m):
        made, seen = net(m), []
        made.first.register_state_dict_pre_hook(lambda *a: seen.append(("pre", a[1:])))
        made.register_state_dict_post_hook(
            lambda module, state, prefix, metadata: state.update(first=1)
        )
        made.body.register_state_dict_post_hook(
            lambda module, state, prefix, metadata: seen.append((prefix, dict(metadata)))
        )
        state = made.state_dict()
        made._register_state_dict_hook(lambda module, state, *a: {"all": len(state)})
        replaced = made.state_dict()
        bad = net(m)
        bad.register_state_dict_post_hook(lambda *a: 3)
        return list(state), seen, replaced, message(m, bad.state_dict)

    c(hooks)

    def extra(m):
        class Counted(m.nn.Module):
            def get_extra_state(self):
                return {"calls": 3}

        made = m.nn.Sequential(Counted(), m.nn.Linear(1, 1))
        fill(made, m)
        return made.state_dict()

    c(extra)


@case("torch.nn.Module.load_state_dict")
def load_state_dict(c):
    def changed(m, **entries):
        state = {name: value + 1 for name, value in net(m).state_dict().items()}
        for name, value in entries.items():
            name = name.replace("__", ".")
            if value is None:
                del state[name]
            else:
                state[name] = value
        return state

    def loaded(m, strict=True, assign=False, **entries):
        made = net(m)
        answer = made.load_state_dict(changed(m, **entries), strict=strict, assign=assign)
        missing, unexpected = answer
        return repr(answer).lstrip("_"), missing, unexpected, values(made)

    c(loaded)
    c(lambda m: loaded(m, strict=False, first__bias=None, other=m.ones(1)))
    c(lambda m: loaded(m, assign=True))
    c(lambda m: loaded(m, assign=True, body__count=m.ones(1, dtype=m.int64)))
    c(lambda m: loaded(m, body__count=m.ones(1, dtype=m.int64)))
    c(lambda m: loaded(m, first__bias=m.ones(4, dtype=m.float64)))
    c(lambda m: loaded(m, assign=True, first__bias=m.ones(4, dtype=m.float64)))

    def refused(m, strict=True, **entries):
        made = net(m)
        return message(m, made.load_state_dict, changed(m, **entries), strict)

    c(lambda m: refused(m, first__bias=None, other=m.ones(1), body__5__weight=m.ones(1)))
    c(lambda m: refused(m, first__bias=m.ones(3), body__scale=m.ones(2, 1)))
    c(lambda m: refused(m, strict=False, first__weight=m.ones(3)))
    c(lambda m: refused(m, first__weight=3)[0])
    c(lambda m: refused(m, body__scratch=m.ones(1)))
    c(lambda m: message(m, net(m).load_state_dict, 3))

    def hooks(m):
        made, seen = net(m), []

        def pre(module, state, prefix, metadata, strict, missing, unexpected, errors):
            seen.append((type(module).__name__, prefix, dict(metadata), strict, len(state)))
            state.pop(prefix + "old", None)

        made.register_load_state_dict_pre_hook(pre)
        made.body._register_load_state_dict_pre_hook(lambda state, prefix, *a: seen.append(prefix))
        made.body.register_load_state_dict_post_hook(lambda s, keys: seen.append(list(keys[0])))
        made.register_load_state_dict_post_hook(lambda s, keys: keys.missing_keys.clear())
        answer = made.load_state_dict(changed(m, old=m.ones(1), first__bias=None))
        made.register_load_state_dict_post_hook(lambda s, keys: 3)
        return repr(answer).lstrip("_"), seen, message(m, made.load_state_dict, changed(m))

    c(hooks)

    def extra(m):
        class Counted(m.nn.Module):
            def set_extra_state(self, state):
                self.calls = state

            def get_extra_state(self):
                return 4

        made = m.nn.Sequential(Counted())
        made.load_state_dict(m.nn.Sequential(Counted()).state_dict())
        lone = m.nn.Sequential(m.nn.Identity())
        return (
            made[0].calls,
            message(m, made.load_state_dict, {}),
            message(m, lone.load_state_dict, {"0._extra_state": 3}),
        )

    c(extra)

    def versions(m):
        class Old(m.nn.Linear):
            _version = 7

            def _load_from_state_dict(self, state, prefix, metadata, *rest):
                self.seen = metadata.get("version")
                super()._load_from_state_dict(state, prefix, metadata, *rest)

        made = m.nn.Sequential(Old(2, 2))
        state = made.state_dict()
        made.load_state_dict(state)
        first = made[0].seen
        made.load_state_dict(dict(state))
        return first, made[0].seen

    c(versions)


@case("torch.nn.Module.__setstate__")
def setstate(c):
    def copies(m, x):
        made = net(m).double()
        made.first.weight.requires_grad_(False)
        made.eval()
        with m.no_grad():
            expected = made(x)
        found = []
        for new in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            flags = [p.requires_grad for p in new.parameters()]
            apart = new.first.weight.data_ptr() != made.first.weight.data_ptr()
            found += [values(new), flags, new.training, apart, list(new.state_dict())]
            with m.no_grad():
                found.append((new(x) - expected).abs().max())
        return found

    c(copies, c.f64(2, 3).constant(), gradients=0)

    def older(m):
        made = m.nn.Tanh()
        state = {
            k: v for k, v in made.__dict__.items() if "hooks" not in k or k == "_forward_hooks"
        }
        state |= {"_backward_hooks": {}, "mark": 3}
        new = object.__new__(m.nn.Tanh)
        new.__setstate__(state)
        return new.mark, new(m.zeros(1)), new.training

    c(older)


# Walking ------------------------------------------------------------------------------------------


def shared(m):
    made = net(m)
    made.again = made.first
    made.tied = m.nn.Linear(3, 4)
    made.tied.weight = made.first.weight
    fill(made, m)
    made.tied.register_buffer("scale", made.body.scale)
    return made


@case("torch.nn.Module.parameters", "torch.nn.Module.named_parameters")
def parameters(c, name):
    def walk(m):
        made = shared(m)
        return (
            [n for n, _ in made.named_parameters()],
            [n for n, _ in made.named_parameters("net", False)],
            [n for n, _ in made.named_parameters(prefix="net", remove_duplicate=False)],
            list(made.parameters()),
            len(list(made.parameters(recurse=False))),
        )

    c(walk)


@case("torch.nn.Module.buffers", "torch.nn.Module.named_buffers")
def buffers(c, name):
    def walk(m):
        made = shared(m)
        return (
            [n for n, _ in made.named_buffers()],
            [n for n, _ in made.named_buffers("net", False)],
            [n for n, _ in made.named_buffers(prefix="net", remove_duplicate=False)],
            list(made.buffers()),
            len(list(made.buffers(recurse=False))),
        )

    c(walk)


@case("torch.nn.Module.children", "torch.nn.Module.named_children")
def children(c, name):
    c(lambda m: [n for n, _ in shared(m).named_children()])
    c(lambda m: [type(x).__name__ for x in shared(m).children()])


@case("torch.nn.Module.modules", "torch.nn.Module.named_modules")
def modules(c, name):
    c(lambda m: [n for n, _ in shared(m).named_modules()])
    c(lambda m: [n for n, _ in shared(m).named_modules(prefix="net")])
    c(lambda m: [n for n, _ in shared(m).named_modules(remove_duplicate=False)])
    c(lambda m: [type(x).__name__ for x in shared(m).modules()])

    def memo(m):
        made = shared(m)
        return [n for n, _ in made.named_modules(memo={made.body})]

    c(memo)


@case("torch.nn.Module.apply")
def apply(c):
    def visited(m):
        made, seen = shared(m), []
        return made.apply(lambda x: seen.append(type(x).__name__)) is made, seen

    c(visited)

    def filled(m):
        def ones(x):
            if isinstance(x, m.nn.Linear):
                m.nn.init.ones_(x.weight)

        return values(net(m).apply(ones))

    c(filled)


# Conversion ---------------------------------------------------------------------------------------


@case("torch.nn.Module.float", "torch.nn.Module.double", "torch.nn.Module.half")
def floats(c, name):
    def converted(m):
        made = net(m)
        made.first.weight.grad = m.ones(4, 3)
        same = getattr(made, name)() is made
        grad = str(made.first.weight.grad.dtype).split(".")[-1]
        return same, dtypes(made), grad, [p.requires_grad for p in made.parameters()], values(made)

    c(converted)
    if name == "half":
        c(lambda m: dtypes(net(m).bfloat16()))


@case("torch.nn.Module.type")
def type_(c):
    c(lambda m: dtypes(net(m).type(m.float64)))
    c(lambda m: dtypes(net(m).type("torch.DoubleTensor")))
    c(lambda m: dtypes(net(m).type(m.DoubleTensor)))
    c(lambda m: message(m, net(m).type, "nonsense")[0])


@case("torch.nn.Module.to")
def to(c):
    c(lambda m: dtypes(net(m).to(m.float64)))
    c(lambda m: dtypes(net(m).to("cpu", m.float16)))
    c(lambda m: dtypes(net(m).to(device="cpu", dtype=m.float64, non_blocking=True)))
    c(lambda m: dtypes(net(m).to(m.device("cpu"))))
    c(lambda m: dtypes(net(m).to(m.zeros(1, dtype=m.float64), True)))
    c(lambda m: dtypes(net(m).to(None, m.float64, True)))
    c(lambda m: dtypes(net(m).to(m.complex64)))
    c(lambda m: dtypes(m.nn.Conv2d(1, 1, 1).to(memory_format=m.channels_last)))
    c(lambda m: dtypes(net(m).to_empty(device="cpu")))
    c(lambda m: dtypes(net(m).to_empty(device="cpu", recurse=False)))
    c.error(lambda m: net(m).to(m.int64))
    c(lambda m: dtypes(net(m).to()))
    c.error(lambda m: net(m).to("nowhere"))
    c.error(lambda m: net(m).to(color="red"))
    c.error(lambda m: net(m).to_empty())

    def kept(m):
        made = net(m)
        before = list(made.parameters())
        count, scale = made.body.count, made.body.scale
        made.to(m.float64)
        same = all(p is q for p, q in zip(before, made.parameters(), strict=True))
        return same, made.body.count is count, made.body.scale is scale

    c(kept)


@case("torch.nn.Module.cpu")
def cpu(c):
    c(lambda m: values(net(m).cpu()))
    c(lambda m: [p.is_leaf and p.requires_grad for p in net(m).cpu().parameters()])


@case("torch.nn.Module.cuda")
def cuda(c):
    # Neither library has a GPU here; that it is moved there is tested where there is one.
    c(lambda m: m.nn.ReLU().cuda().training)
    c(lambda m: message(m, m.nn.Linear(1, 1).cuda)[0] in ("AssertionError", "RuntimeError"))


@case("torch.nn.Module.share_memory")
def share_memory(c):
    def shared(m):
        made = net(m)
        same = made.share_memory() is made
        return same, all(p.is_shared() for p in (*made.parameters(), *made.buffers())), values(made)

    c(shared)


# Modes and gradients ------------------------------------------------------------------------------


@case("torch.nn.Module.train", "torch.nn.Module.eval")
def modes(c, name):
    def switched(m):
        made = net(m)
        same = made.eval() is made
        off = [x.training for x in made.modules()]
        made.body.train()
        part = [x.training for x in made.modules()]
        made.train(True)
        return same, off, part, [x.training for x in made.modules()], made.train(False).training

    c(switched)
    c(lambda m: message(m, net(m).train, 1))


@case("torch.nn.Module.zero_grad")
def zero_grad(c):
    def cleared(m, x):
        made = net(m).double()
        made(x).sum().backward()
        made.zero_grad(set_to_none=False)
        zeros = [p.grad for p in made.parameters()]
        made.zero_grad()
        return zeros, [p.grad is None for p in made.parameters()]

    c(cleared, c.f64(2, 3).constant())

    def frozen(m):
        made = net(m)
        same = made.requires_grad_(False) is made
        return same, [p.requires_grad for p in made.parameters()]

    c(frozen)


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
