"""Cases of the modules that hold modules and parameters."""

import warnings
from collections import OrderedDict

import numpy as np
from compare_cases import case
from compare_modules import module
from compare_networks import message, text


def layers(m, *names):
    return [getattr(m.nn, name)() for name in names]


def kinds(made):
    return [type(child).__name__ for child in made], list(made._modules)


@case("torch.nn.Container")
def container(c):
    def made(m):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = m.nn.Container(a=m.nn.ReLU(), b=m.nn.Linear(2, 3))
        return repr(found), [(w.category.__name__, str(w.message)) for w in caught]

    c(made)
    c(lambda m: message(m, m.nn.Container, a=3))


@case("torch.nn.Sequential")
def sequential(c):
    module(c, lambda nn: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), c.f64(2, 3))
    named = [("a", "Tanh"), ("b", "Sigmoid")]
    module(
        c,
        lambda nn: nn.Sequential(OrderedDict((key, getattr(nn, kind)()) for key, kind in named)),
        c.f64(2, 3),
    )
    module(c, lambda nn: nn.Sequential(), c.f64(2, 3))

    def changed(m):
        made = m.nn.Sequential(*layers(m, "ReLU", "Tanh", "Sigmoid"))
        seen = [kinds(made), len(made)]
        seen.append(made.append(m.nn.ELU()) is made)
        seen.append(made.insert(1, m.nn.SELU()) is made)
        seen.append(made.insert(-1, m.nn.GELU()) is made)
        seen.append(made.extend(layers(m, "Softsign", "Tanhshrink")) is made)
        seen.append(kinds(made))
        seen.append(type(made.pop(-1)).__name__)
        made[0] = m.nn.Hardtanh()
        del made[1]
        seen += [kinds(made), kinds(made[1:3]), kinds(made[::-2])]
        del made[::2]
        seen += [kinds(made), type(made[-1]).__name__, repr(made)]
        seen.append(kinds(made.pop(slice(0, 2))))
        return seen, kinds(made)

    c(changed)


@case("torch.nn.Sequential")
def sequential_arithmetic(c):
    def arithmetic(m):
        one = m.nn.Sequential(*layers(m, "ReLU", "Tanh"))
        two = m.nn.Sequential(OrderedDict(a=m.nn.ELU()))
        joined, twice = one + two, one * 2
        seen = [kinds(joined), kinds(twice), kinds(2 * one), joined[0] is one[0]]
        same = one
        one += two
        one *= 2
        return seen, kinds(one), same is one, type(joined).__name__

    c(arithmetic)

    def named_slices(m):
        made = m.nn.Sequential(OrderedDict(a=m.nn.ReLU(), b=m.nn.Tanh(), c=m.nn.ELU()))
        part = made[1:]
        made["b" and 1] = m.nn.SELU()
        before = kinds(made)
        del made[0]
        return kinds(part), before, kinds(made), made._modules["0"] is made[0]

    c(named_slices)

    def refused(m):
        made = m.nn.Sequential(*layers(m, "ReLU", "Tanh"))
        return [
            message(m, made.__getitem__, 2),
            message(m, made.__getitem__, -3),
            message(m, made.__getitem__, "0")[0],
            message(m, made.insert, 3, m.nn.ReLU()),
            message(m, made.insert, 0, 3)[0],
            message(m, made.append, 3),
            message(m, made.__add__, [3])[0],
            message(m, made.__iadd__, 3)[0],
            message(m, made.__mul__, 0)[0],
            message(m, made.__mul__, 1.5)[0],
            message(m, made.__imul__, 0)[0],
            message(m, m.nn.Sequential, 3),
        ]

    c(refused)
    c(lambda m: [n for n in dir(m.nn.Sequential(m.nn.ReLU())) if n[0].isdigit()])


@case("torch.nn.ModuleList")
def module_list(c):
    def changed(m):
        made = m.nn.ModuleList(layers(m, "ReLU", "Tanh", "Sigmoid"))
        seen = [kinds(made), made[1] in made, m.nn.ReLU() in made]
        made.append(m.nn.ELU())
        made.insert(1, m.nn.SELU())
        made.extend(layers(m, "Softsign"))
        same = made
        made += layers(m, "GELU")
        made[-1] = m.nn.Hardtanh()
        seen += [same is made, kinds(made), kinds(made[1:3]), kinds(made + layers(m, "ReLU"))]
        seen.append(type(made.pop(0)).__name__)
        del made[1]
        seen.append(kinds(made))
        del made[::2]
        seen.append(kinds(made))
        seen.append(kinds(made.pop(slice(1, None))))
        return seen, kinds(made), len(made), list(made.state_dict())

    c(changed)

    def printed(m):
        lines = [m.nn.Linear(2, 2), m.nn.Linear(2, 2), m.nn.ReLU(), m.nn.Linear(2, 2)]
        nested = m.nn.ModuleList([m.nn.Sequential(m.nn.ReLU()) for _ in range(3)])
        return repr(m.nn.ModuleList(lines)), repr(m.nn.ModuleList()), repr(nested)

    c(printed)

    def refused(m):
        made = m.nn.ModuleList(layers(m, "ReLU"))
        return [
            message(m, made.__getitem__, 1),
            message(m, made.__getitem__, "a")[0],
            message(m, made.append, 3),
            message(m, made.extend, 3),
            message(m, made.pop)[0],
            message(m, made, m.zeros(1))[0],
            message(m, m.nn.ModuleList, [3]),
        ]

    c(refused)


@case("torch.nn.ModuleDict")
def module_dict(c):
    def changed(m):
        made = m.nn.ModuleDict({"a": m.nn.ReLU(), "b": m.nn.Tanh()})
        made["c"] = m.nn.ELU()
        made.update([("d", m.nn.GELU()), ["a", m.nn.SELU()]])
        made.update(m.nn.ModuleDict({"e": m.nn.Linear(2, 2)}))
        seen = [list(made), list(made.keys()), len(made), "a" in made, "x" in made, repr(made)]
        seen.append([type(x).__name__ for x in made.values()])
        seen.append([(key, type(x).__name__) for key, x in made.items()])
        seen.append(type(made.pop("b")).__name__)
        del made["c"]
        seen += [list(made), list(made.state_dict())]
        made.clear()
        return seen, list(made), repr(made)

    c(changed)

    def refused(m):
        made = m.nn.ModuleDict()
        return [
            message(m, made.__getitem__, "x"),
            message(m, made.__setitem__, "x", 3),
            message(m, made.__setitem__, "a.b", m.nn.ReLU())[0],
            message(m, made.__setitem__, "keys", m.nn.ReLU()),
            message(m, made.update, 3),
            message(m, made.update, [3])[0],
            message(m, made.update, [("a", m.nn.ReLU(), 3)])[0],
        ]

    c(refused)


@case("torch.nn.ParameterList")
def parameter_list(c):
    def changed(m, x):
        made = m.nn.ParameterList([x, m.nn.Parameter(x + 1), 3, None])
        made.append(x + 2)
        made.extend([x + 3])
        same = made
        made += [x + 4]
        made[0] = x * 2
        made[-1] = m.nn.Parameter(x * 3)
        seen = [
            same is made,
            len(made),
            text(m, repr(made)),
            list(made[1:5:3]),
            list(made.state_dict()),
        ]
        return seen, [type(p) is m.nn.Parameter for p in made], list(made.parameters())

    c(changed, c.exactly(np.array([[1.5, 2.0]])).constant(), gradients=0)

    def refused(m, x):
        made = m.nn.ParameterList([x])
        return [
            message(m, made.__getitem__, 1),
            message(m, made.extend, x),
            message(m, made.extend, 3),
            message(m, made, x),
            message(m, made.__setitem__, 5, x),
        ]

    c(refused, c.f64(3).constant())


@case("torch.nn.ParameterDict")
def parameter_dict(c):
    def changed(m, x):
        made = m.nn.ParameterDict({"b": x, "a": x + 1})
        made["c"] = m.nn.Parameter(x + 2)
        made["d"] = 3
        made.update(OrderedDict(f=x, e=x))
        made.update([("g", x)])
        seen = [list(made), list(reversed(made)), len(made), "a" in made, text(m, repr(made))]
        seen += [list(made.keys()), list(made.values()), list(made.items())]
        seen += [made.pop("a"), made.popitem(), made.get("b"), made.get("x"), made.get("x", 3)]
        seen += [made.setdefault("b", 3), made.setdefault("h", x), list(made.copy())]
        seen += [list(made.fromkeys(["p", "q"], x)), list(made.state_dict())]
        other = m.nn.ParameterDict({"z": x, "b": x})
        seen += [list(made | other), list(other | made)]
        made |= other
        seen.append(list(made))
        del made["z"]
        seen.append(list(made))
        made.clear()
        return seen, list(made), repr(made)

    c(changed, c.exactly(np.array([[1.5, 2.0]])).constant(), gradients=0)

    def refused(m, x):
        made = m.nn.ParameterDict()
        return [
            message(m, made.__getitem__, "x")[0],
            message(m, made.__getitem__, 3)[0],
            message(m, made.__setitem__, "keys", x)[0],
            message(m, made.pop, "x")[0],
            message(m, m.nn.ParameterDict().popitem),
            message(m, made.update, 3),
            message(m, made.update, [3])[0],
            message(m, made.update, [("a", x, 3)])[0],
            message(m, made, x),
        ]

    c(refused, c.f64(3).constant())
