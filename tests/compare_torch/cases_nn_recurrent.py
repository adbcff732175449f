"""Recurrent layers, their cells, packed sequences, and the functions of the top level."""

from __future__ import annotations

from compare_cases import case
from compare_modules import module

LAYERS = ("torch.nn.RNN", "torch.nn.LSTM", "torch.nn.GRU")
CELLS = ("torch.nn.RNNCell", "torch.nn.LSTMCell", "torch.nn.GRUCell")
LENGTHS = [2, 5, 3]


def states(c, name, *shape):
    """One state, or the two of an LSTM, and how a module is called with them."""
    if name.startswith("LSTM"):
        return [c.f64(*shape), c.f64(*shape)], lambda m, made, x, h, k: made(x, (h, k))
    return [c.f64(*shape)], lambda m, made, x, h: made(x, h)


def packed(**options):
    """A call with sequences of different lengths, by way of padding; gives all that comes back."""

    def call(m, made, x, *hx):
        rnn = m.nn.utils.rnn
        sequence = rnn.pack_padded_sequence(x, LENGTHS, made.batch_first, **options)
        hx = hx or (None,)
        output, state = made(sequence, hx if len(hx) > 1 else hx[0])
        padded = rnn.pad_packed_sequence(output, made.batch_first)
        return output.data, output.batch_sizes, output.sorted_indices, padded, state

    return call


@case(*LAYERS)
def layers(c, name):
    def build(**settings):
        return lambda nn: getattr(nn, name)(4, 3, **settings)

    x = c.f64(5, 3, 4)
    module(c, build(), x)
    module(c, build(num_layers=2, bidirectional=True), x)
    module(c, build(num_layers=3, bias=False, batch_first=True), x)
    module(c, build(), c.f64(1, 1, 4))
    module(c, build(), c.f32(5, 3, 4), dtype="float32", rtol=1e-5, atol=1e-5)
    module(c, build(bidirectional=True), c.f64(5, 4))
    module(c, build(batch_first=True), c.f64(5, 4))
    module(c, build(), c.f64(5, 0, 4), gradients=0)
    module(c, build(num_layers=2, dropout=0.5), x, evaluate=True)
    module(c, build(num_layers=2, dropout=1), x)
    hx, call = states(c, name, 4, 3, 3)
    module(c, build(num_layers=2, bidirectional=True), x, *hx, call=call)
    hx, call = states(c, name, 1, 3)
    module(c, build(batch_first=True), c.f64(5, 4), *hx, call=call)


@case(*LAYERS)
def gradients_of_gradients(c, name):
    def function(m, x, w, u, b, d):
        layer = getattr(m.nn, name)(2, 2, bidirectional=False).double()
        names = [n for n, _ in layer.named_parameters()]
        gates = layer.weight_ih_l0.shape[0]
        values = (w[:gates], u[:gates], b[:gates], d[:gates])
        return m.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    operands = c.f64(3, 2, 2), c.f64(8, 2, low=-1, high=1), c.f64(8, 2, low=-1, high=1)
    c(function, *operands, c.f64(8), c.f64(8), gradients=2, compiled=name == "GRU")


@case(*LAYERS)
def packed_sequences(c, name):
    x = c.f64(5, 3, 4)

    def build(**settings):
        return lambda nn: getattr(nn, name)(4, 3, **settings)

    module(c, build(), x, call=packed(enforce_sorted=False))
    both = build(num_layers=2, bidirectional=True)
    module(c, both, x, call=packed(enforce_sorted=False))
    hx, _ = states(c, name, 2, 3, 3)
    one = build(bidirectional=True, batch_first=True)
    module(c, one, c.f64(3, 5, 4), *hx, call=packed(enforce_sorted=False))

    def equal(m, made, x):
        sequence = m.nn.utils.rnn.pack_padded_sequence(x, [5, 5, 5])
        output, state = made(sequence)
        return output.data, output.batch_sizes, state

    module(c, both, x, call=equal)


@case("torch.nn.LSTM")
def projections(c):
    def build(**settings):
        return lambda nn: nn.LSTM(4, 3, proj_size=2, **settings)

    x = c.f64(5, 3, 4)
    module(c, build(num_layers=2, bidirectional=True), x)
    module(c, build(bias=False), x, c.f64(1, 3, 2), c.f64(1, 3, 3), call=states(c, "LSTM")[1])
    module(c, build(), x, call=packed(enforce_sorted=False))
    c.error(lambda m: m.nn.LSTM(3, 4, proj_size=4))
    c.error(lambda m: m.nn.LSTM(3, 4, proj_size=-1))
    c.error(lambda m, x, h: m.nn.LSTM(4, 3)(x, h), c.f32(5, 3, 4), c.f32(1, 3, 3))


@case("torch.nn.RNN")
def nonlinearities(c):
    module(c, lambda nn: nn.RNN(4, 3, nonlinearity="relu"), c.f64(5, 3, 4))
    module(c, lambda nn: nn.RNN(4, 3, 2, "relu", False, True), c.f64(5, 3, 4))
    c.error(lambda m: m.nn.RNN(4, 3, nonlinearity="sin"))
    c.error(lambda m: m.nn.RNN(4, 3, proj_size=1))
    c.error(lambda m: m.nn.GRU(4, 3, proj_size=1))


@case(*LAYERS)
def errors_of_layers(c, name):
    def made(m, *args, **kwargs):
        return getattr(m.nn, name)(*args, **kwargs)

    for args, kwargs in (
        ((3.0, 4), {}), ((0, 4), {}), ((3, 0), {}), ((3,), {}), ((3, 4, 0), {}),
        ((3, 4), {"dropout": 2}), ((3, 4), {"dropout": True}), ((3, 4), {"bias": 1}),
        ((3, 4), {"batch_first": None}), ((3, 4), {"nothing": 1}),
    ):  # fmt: skip
        c.error(lambda m, a=args, k=kwargs: made(m, *a, **k))
    for x in (c.f32(5, 3, 3), c.f64(5, 3, 4), c.f32(4), c.f32(1, 5, 3, 4), c.f32(0, 3, 4)):
        c.error(lambda m, x: made(m, 4, 3)(x), x)
    x = c.f32(5, 3, 4)
    for shape in ((2, 3, 3), (1, 2, 3), (1, 3, 4), (3, 3)):
        hx = [c.f32(*shape)] * (2 if name == "LSTM" else 1)
        c.error(lambda m, x, *h: made(m, 4, 3)(x, h if len(h) > 1 else h[0]), x, *hx)
    hx = [c.f32(1, 3, 3)] * (2 if name == "LSTM" else 1)
    c.error(lambda m, x, *h: made(m, 4, 3)(x, h if len(h) > 1 else h[0]), c.f32(5, 4), *hx)


@case(*LAYERS)
def attributes_of_layers(c, name):
    def function(m):
        made = getattr(m.nn, name)(4, 3, num_layers=2, bidirectional=True)
        made.flatten_parameters()
        numbers = [made.input_size, made.hidden_size, made.num_layers, made.dropout]
        flags = [made.bias, made.batch_first, made.bidirectional, made.proj_size]
        shapes = [[tuple(w.shape) for w in weights] for weights in made.all_weights]
        bound = max(float(w.detach().abs().max()) for w in made.parameters())
        return made.mode, numbers, flags, shapes, list(made.state_dict()), bound < 3**-0.5

    c(function)


@case(*CELLS)
def cells(c, name):
    def build(**settings):
        return lambda nn: getattr(nn, name)(4, 3, **settings)

    module(c, build(), c.f64(5, 4))
    module(c, build(bias=False), c.f64(4))
    module(c, build(), c.f32(5, 4), dtype="float32", rtol=1e-5, atol=1e-6)
    hx, call = states(c, name, 5, 3)
    module(c, build(), c.f64(5, 4), *hx, call=call, gradients=2)
    hx, call = states(c, name, 3)
    module(c, build(), c.f64(4), *hx, call=call)
    if name == "RNNCell":
        module(c, build(nonlinearity="relu"), c.f64(5, 4))
        c.error(lambda m, x: m.nn.RNNCell(4, 3, nonlinearity="sin")(x), c.f32(5, 4))
    for x in (c.f32(5, 3), c.f32(1, 5, 4), c.f64(5, 4)):
        c.error(lambda m, x: getattr(m.nn, name)(4, 3)(x), x)
    for shape in ((2, 3), (5, 4), (1, 5, 3)):
        hx = [c.f32(*shape)] * (2 if name == "LSTMCell" else 1)

        def call(m, x, *h):
            return getattr(m.nn, name)(4, 3)(x, h if len(h) > 1 else h[0])

        c.error(call, c.f32(5, 4), *hx)


@case("torch.nn.RNNBase")
def layer_base(c):
    for mode in ("RNN_TANH", "RNN_RELU", "GRU"):
        c(lambda m, mode=mode: repr(m.nn.RNNBase(mode, 4, 3, 2, bidirectional=True)))
    c(lambda m: repr(m.nn.RNNBase("LSTM", 4, 3, 2, False, True, 0.5, False, 2)))
    c(lambda m: [n for n, _ in m.nn.RNNBase("LSTM", 4, 3, proj_size=2).named_parameters()])
    c.error(lambda m: m.nn.RNNBase("X", 4, 3))
    c.error(lambda m, x: m.nn.RNNBase("GRU", 4, 3)(x), c.f32(5, 3, 4))
    c(lambda m: [issubclass(getattr(m.nn, n), m.nn.RNNBase) for n in ("RNN", "LSTM", "GRU")])


@case("torch.nn.RNNCellBase")
def cell_base(c):
    c(lambda m: repr(m.nn.RNNCellBase(4, 3, True, 2)))
    c(lambda m: [(n, p.shape) for n, p in m.nn.RNNCellBase(4, 3, False, 2).named_parameters()])
    c.error(lambda m, x: m.nn.RNNCellBase(4, 3, True, 2)(x), c.f32(5, 4))
    c(lambda m: issubclass(m.nn.GRUCell, m.nn.RNNCellBase))


# Packed sequences ---------------------------------------------------------------------------------


def fields(sequence):
    return list(sequence)


@case("torch.nn.utils.rnn.PackedSequence")
def packed_sequence(c):
    sizes = c.exactly([3, 2])

    def made(m, x, n):
        return m.nn.utils.rnn.PackedSequence(x, n)

    c(lambda m, x, n: fields(made(m, x, n)), c.f64(5, 2), sizes)
    c(lambda m, x, n: fields(m.nn.utils.rnn.PackedSequence((x, n))), c.f64(5, 2), sizes)

    def order(m, x, n, i):
        return fields(m.nn.utils.rnn.PackedSequence(x, n, i))

    c(order, c.f64(5, 2), sizes, c.exactly([2, 0, 1]))
    for name in "double float half long int short char byte cpu".split():
        c(lambda m, x, n, w=name: fields(getattr(made(m, x, n), w)()), c.f64(5, 2), sizes)
    c(lambda m, x, n: fields(made(m, x, n).to(m.float32)), c.f64(5, 2), sizes)
    c(lambda m, x, n: fields(made(m, x, n).to(device="cpu", dtype=m.int64)), c.f64(5, 2), sizes)

    def questions(m, x, n):
        sequence = made(m, x, n)
        same = sequence.to("cpu") is sequence, sequence.double() is sequence
        return sequence.is_cuda, sequence.is_pinned(), same, isinstance(sequence, tuple), str(n)

    c(questions, c.f64(5, 2), sizes)
    c.error(lambda m, x: m.nn.utils.rnn.PackedSequence(x), c.f64(5, 2))


@case("torch.nn.utils.rnn.pack_padded_sequence")
def pack_padded(c):
    def pack(m, x, *args, **kwargs):
        return fields(m.nn.utils.rnn.pack_padded_sequence(x, *args, **kwargs))

    x = c.f64(5, 3, 2)
    c(lambda m, x: pack(m, x, [5, 3, 1]), x)
    c(lambda m, x: pack(m, x, [4, 4, 2]), x)
    c(lambda m, x: pack(m, x, [5, 5, 5]), x)
    c(lambda m, x: pack(m, x, [2, 5, 3], enforce_sorted=False), x, gradients=2)
    c(lambda m, x: pack(m, x, [2, 3, 2], True, False), c.f64(3, 4, 2))
    c(lambda m, x, n: pack(m, x, n, True), c.f64(3, 4), c.exactly([4, 2, 1]))
    c(lambda m, x, n: pack(m, x, n), x, c.exactly([4.0, 2.0, 1.0]).constant())
    for lengths in ([2, 4, 1], [4, 2], [4, 2, 0], [4, 2, -1], [[4, 2, 1]]):
        c.error(lambda m, x, n=lengths: pack(m, x, n), x)
    c.error(lambda m, x: pack(m, x, [0, 0, 0]), c.f64(0, 3))
    c.error(lambda m, x: pack(m, x, []), c.f64(4, 0))
    c.error(lambda m, x: pack(m, x, [1]), c.f64(4))


@case("torch.nn.utils.rnn.pad_packed_sequence")
def pad_packed(c):
    def pad(m, x, order=True, **kwargs):
        rnn = m.nn.utils.rnn
        lengths = [2, 5, 3] if order else [5, 3, 2]
        return rnn.pad_packed_sequence(
            rnn.pack_padded_sequence(x, lengths, enforce_sorted=not order), **kwargs
        )

    x = c.f64(5, 3, 2)
    c(lambda m, x: pad(m, x), x, gradients=2)
    c(lambda m, x: pad(m, x, False), x)
    c(lambda m, x: pad(m, x, batch_first=True, padding_value=-1.5), x)
    c(lambda m, x: pad(m, x, total_length=7), x)
    c(lambda m, x: pad(m, x), c.i64(5, 3))
    c.error(lambda m, x: pad(m, x, total_length=4), x)


@case("torch.nn.utils.rnn.pad_sequence")
def pad_sequence(c):
    def pad(m, *xs, **kwargs):
        return m.nn.utils.rnn.pad_sequence(list(xs), **kwargs)

    xs = c.f64(2, 3), c.f64(4, 3), c.f64(1, 3)
    c(lambda m, *xs: pad(m, *xs), *xs, gradients=2)
    c(lambda m, *xs: pad(m, *xs, batch_first=True, padding_value=2.5), *xs)
    c(lambda m, *xs: pad(m, *xs, padding_side="left"), *xs)
    c(lambda m, *xs: pad(m, *xs), c.i64(3))
    c(lambda m, *xs: pad(m, *xs, batch_first=True, padding_value=7), c.i64(3), c.i64(2))
    c(lambda m, *xs: pad(m, *xs), c.f64(0), c.f64(2))
    c(lambda m, *xs: pad(m, *xs), c.f64(0, 2), c.f64(0, 2), gradients=0)
    c(lambda m, *xs: pad(m, *xs), c.f64(2), c.f32(3))
    c(lambda m, *xs: pad(m, *xs), c.mask(2), c.mask(3))
    c(lambda m, x: m.nn.utils.rnn.pad_sequence(x), c.f64(2, 3))
    c.error(lambda m, *xs: pad(m, *xs, padding_side="up"), *xs)
    c.error(lambda m: pad(m))
    c.error(lambda m: m.nn.utils.rnn.pad_sequence(3))
    c.error(lambda m, *xs: pad(m, *xs), c.f64(2, 3), c.f64(3, 2))
    c.error(lambda m, *xs: pad(m, *xs), c.f64(), c.f64())


@case("torch.nn.utils.rnn.pack_sequence", "torch.nn.utils.rnn.unpack_sequence")
def pack_and_unpack(c, name):
    def call(m, *xs, **kwargs):
        rnn = m.nn.utils.rnn
        sequence = rnn.pack_sequence(list(xs), **kwargs)
        return rnn.unpack_sequence(sequence) if name == "unpack_sequence" else fields(sequence)

    c(lambda m, *xs: call(m, *xs), c.f64(4, 3), c.f64(2, 3), c.f64(2, 3), gradients=2)
    c(lambda m, *xs: call(m, *xs, enforce_sorted=False), c.f64(2), c.f64(4), c.f64(1))
    c.error(lambda m, *xs: call(m, *xs), c.f64(2), c.f64(4))
    c.error(lambda m: call(m))


@case("torch.nn.utils.rnn.unpad_sequence")
def unpad(c):
    def call(m, x, n, batch_first):
        return m.nn.utils.rnn.unpad_sequence(x.clone(), n, batch_first)

    lengths = c.exactly([4, 2, 0])
    c(lambda m, x, n: call(m, x, n, False), c.f64(4, 3, 2), lengths)
    c(lambda m, x, n: call(m, x, n, True), c.f64(3, 4), lengths)
    c.error(lambda m, x, n: call(m, x, n, True), c.f64(2, 4), lengths)


@case("torch.nn.utils.rnn.invert_permutation")
def invert(c):
    c(lambda m, p: m.nn.utils.rnn.invert_permutation(p), c.exactly([2, 0, 3, 1]))
    c(lambda m: m.nn.utils.rnn.invert_permutation(None))


# Top level ----------------------------------------------------------------------------------------

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def weights(c, name, *, bias=True, directions=1):
    rows = GATES[name] * 3
    shapes = [(rows, 4), (rows, 3), *([(rows,)] * 2 if bias else [])] * directions
    return [c.f64(*shape, low=-1, high=1) for shape in shapes]


@case("torch.lstm", "torch.gru", "torch.rnn_tanh", "torch.rnn_relu")
def functions(c, name):
    count = 2 if name == "lstm" else 1

    def state(hx):
        return list(hx) if count == 2 else hx[0]

    def plain(m, x, *rest, bias=True, directions=1, first=False):
        hx, params = rest[:count], list(rest[count:])
        settings = (bias, 1, 0.0, False, directions == 2, first)
        return getattr(m, name)(x, state(hx), params, *settings)

    x, hx = c.f64(5, 2, 4), [c.f64(1, 2, 3) for _ in range(count)]
    c(plain, x, *hx, *weights(c, name))
    c(lambda *a: plain(*a, bias=False), x, *hx, *weights(c, name, bias=False))
    c(lambda *a: plain(*a, first=True), c.f64(2, 5, 4), *hx, *weights(c, name))
    two = [c.f64(2, 2, 3) for _ in range(count)]
    c(lambda *a: plain(*a, directions=2), x, *two, *weights(c, name, directions=2))

    def packed(m, x, n, *rest):
        hx, params = rest[:count], list(rest[count:])
        return getattr(m, name)(x, n, state(hx), params, True, 1, 0.0, True, False)

    sizes = c.exactly([2, 2, 1])
    c(packed, c.f64(5, 4), sizes, *hx, *weights(c, name))

    def by_name(m, x, *rest):
        return getattr(m, name)(
            input=x, hx=state(rest[:count]), params=list(rest[count:]), has_biases=True,
            num_layers=1, dropout=0.0, train=False, bidirectional=False, batch_first=False,
        )  # fmt: skip

    c(by_name, x, *hx, *weights(c, name))
    c.error(lambda m, x, *rest: plain(m, x, *rest[:-1]), x, *hx, *weights(c, name))
    c.error(lambda *a: plain(*a, directions=2), x, *two, *weights(c, name))
    c.error(lambda m, x, h: getattr(m, name)(x, h, [], True), x, hx[0])
    c.error(plain, c.f64(0, 2, 4), *hx, *weights(c, name))


@case("torch.lstm_cell", "torch.gru_cell", "torch.rnn_tanh_cell", "torch.rnn_relu_cell")
def cell_functions(c, name):
    base = name.removesuffix("_cell")
    count = 2 if base == "lstm" else 1

    def call(m, x, *rest):
        hx, params = rest[:count], rest[count:]
        return getattr(m, name)(x, hx if count == 2 else hx[0], *params)

    x, hx = c.f64(5, 4), [c.f64(5, 3) for _ in range(count)]
    c(call, x, *hx, *weights(c, base), gradients=2)
    c(call, x, *hx, *weights(c, base, bias=False))
    c.error(call, c.f64(5, 3), *hx, *weights(c, base))
    c.error(call, c.f64(2, 4), *hx, *weights(c, base))
    c.error(call, x, *[c.f64(5, 2) for _ in range(count)], *weights(c, base))
    if count == 2:
        c.error(lambda m, x, h, *w: m.lstm_cell(x, [h], *w), x, hx[0], *weights(c, base))
