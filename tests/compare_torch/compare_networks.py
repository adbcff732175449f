"""What cases of modules share: networks of either library, and what can be compared of them."""

from compare_modules import fill


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


def shared(m):
    made = net(m)
    made.again = made.first
    made.tied = m.nn.Linear(3, 4)
    made.tied.weight = made.first.weight
    fill(made, m)
    made.tied.register_buffer("scale", made.body.scale)
    return made


def state(made):
    return {name: value.detach() for name, value in made.state_dict().items()}


def trained(m, made, x, steps=2):
    """Outputs, gradients and states of a few steps."""
    seen = []
    optimizer = m.optim.SGD(made.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        y = made(x)
        y.sin().sum().backward()
        seen += [y.detach(), {name: p.grad.clone() for name, p in made.named_parameters()}]
        optimizer.step()
        seen.append({name: value.clone() for name, value in state(made).items()})
    made.eval()
    return seen, made(x).detach()


def layer(m, kind="Linear", *arguments):
    made = getattr(m.nn, kind)(*(arguments or (3, 4))).double()
    fill(made, m)
    return made


def set_vectors(m, made):
    """The same singular vectors in both libraries."""
    with m.no_grad():
        for name, buffer in made.named_buffers():
            values = (m.arange(float(buffer.numel()), dtype=m.float64) + len(name)).sin()
            buffer.copy_(values / values.norm())
