"""Cases of a module's state, of walking over it and of converting it."""

import copy
import pickle

from compare_cases import case
from compare_modules import fill
from compare_networks import dtypes, message, net, shared, values

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


def changed(m, **entries):
    """A state of `net` with other values; an entry of None is taken out."""
    state = {name: value + 1 for name, value in net(m).state_dict().items()}
    for name, value in entries.items():
        name = name.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    return state


@case("torch.nn.Module.load_state_dict")
def load_state_dict(c):
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


@case("torch.nn.Module.load_state_dict")
def load_state_dict_hooks(c):
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
