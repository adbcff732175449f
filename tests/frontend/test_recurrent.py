"""Recurrent layers against NumPy, and packed sequences."""

import copy
import pickle

import numpy as np
import pytest

import braze
from braze import nn
from braze.autograd import gradcheck, gradgradcheck
from braze.nn.utils import rnn
from braze.tracing import trace

pytestmark = pytest.mark.usefixtures("interpret")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(mode, weights, x, state):
    """One step on rows; `state` is a tuple."""
    h = state[0]
    a = x @ weights["weight_ih"].T + weights.get("bias_ih", 0)
    b = h @ weights["weight_hh"].T + weights.get("bias_hh", 0)
    if mode == "LSTM":
        i, f, g, o = np.split(a + b, 4, 1)
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        m = sigmoid(o) * np.tanh(c)
        return (m @ weights["weight_hr"].T if "weight_hr" in weights else m), c
    if mode == "GRU":
        (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(a, 3, 1), np.split(b, 3, 1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        return ((1 - z) * np.tanh(x_n + r * h_n) + z * h,)
    return (np.tanh(a + b) if mode == "RNN_TANH" else np.maximum(a + b, 0),)


def reference(layer, sequences, states):
    """Outputs of each sequence and last states: one sequence at a time.

    Args:
        sequences: a list of [time, input].
        states: arrays [layers * directions, batch, size].
    """
    weights = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    directions = 2 if layer.bidirectional else 1
    last = [np.zeros(s.shape) for s in states]
    outputs = list(sequences)
    for number in range(layer.num_layers * directions):
        level, back = divmod(number, directions)
        if back == 0:
            below, outputs = outputs, [[] for _ in sequences]
        suffix = f"_l{level}{'_reverse' if back else ''}"
        own = {n.removesuffix(suffix): w for n, w in weights.items() if n.endswith(suffix)}
        for which, sequence in enumerate(below):
            state = tuple(s[number, which : which + 1] for s in states)
            rows = []
            for x in sequence[::-1] if back else sequence:
                state = step(layer.mode, own, x[None], state)
                rows.append(state[0][0])
            outputs[which].append(np.array(rows[::-1] if back else rows))
            for one, value in zip(last, state, strict=True):
                one[number, which] = value[0]
        if back == directions - 1:
            outputs = [np.concatenate(parts, axis=-1) for parts in outputs]
    return outputs, last


def make(kind, **settings):
    braze.manual_seed(0)
    return getattr(nn, kind)(4, 3, **settings).double()


def starts(layer, batch):
    rng = np.random.default_rng(7)
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    sizes = [layer.proj_size or 3, 3] if layer.mode == "LSTM" else [3]
    return [rng.standard_normal((count, batch, size)) for size in sizes]


def as_hx(states):
    tensors = tuple(braze.from_numpy(s.copy()) for s in states)
    return tensors if len(tensors) > 1 else tensors[0]


def as_arrays(state):
    return [s.detach().numpy() for s in (state if isinstance(state, tuple) else (state,))]


def assert_all_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


LAYERS = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu", "num_layers": 2, "bias": False}),
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"proj_size": 2, "bidirectional": True}),
    ("GRU", {"num_layers": 2, "bidirectional": True}),
    ("GRU", {"bias": False}),
]
IDS = [f"{kind}-{'-'.join(settings)}" for kind, settings in LAYERS]


@pytest.mark.parametrize(("kind", "settings"), LAYERS, ids=IDS)
def test_layers_compute_what_their_steps_say(kind, settings):
    layer = make(kind, **settings)
    x = np.random.default_rng(1).standard_normal((5, 3, 4))
    states = starts(layer, 3)
    outputs, last = reference(layer, list(x.transpose(1, 0, 2)), states)
    y, state = layer(braze.from_numpy(x), as_hx(states))
    assert_all_close([y.detach().numpy()], [np.stack(outputs, 1)])
    assert_all_close(as_arrays(state), last)

    zero = [np.zeros(s.shape) for s in states]
    outputs, last = reference(layer, list(x.transpose(1, 0, 2)), zero)
    turned = make(kind, **settings, batch_first=True)
    y, state = turned(braze.from_numpy(x.transpose(1, 0, 2).copy()))
    assert_all_close([y.detach().numpy()], [np.stack(outputs)])
    assert_all_close(as_arrays(state), last)

    y, state = layer(braze.from_numpy(x[:, 1].copy()), as_hx([s[:, 1] for s in zero]))
    assert_all_close([y.detach().numpy()], [outputs[1]])
    assert_all_close(as_arrays(state), [s[:, 1] for s in last])


@pytest.mark.parametrize(("kind", "settings"), LAYERS, ids=IDS)
def test_packed_sequences_are_run_to_their_own_ends(kind, settings):
    layer = make(kind, **settings)
    rng = np.random.default_rng(2)
    states = starts(layer, 4)
    for lengths in ([2, 5, 1, 3], [3, 3, 3, 3]):
        sequences = [rng.standard_normal((n, 4)) for n in lengths]
        outputs, last = reference(layer, sequences, states)
        tensors = [braze.from_numpy(s) for s in sequences]
        packed = rnn.pack_sequence(tensors, enforce_sorted=False)
        y, state = layer(packed, as_hx(states))
        assert_all_close([t.detach().numpy() for t in rnn.unpack_sequence(y)], outputs)
        assert_all_close(as_arrays(state), last)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_gradients(kind):
    layer = getattr(nn, kind)(2, 2, bidirectional=kind == "RNN").double()
    parameters = list(layer.parameters())
    count = 2 if kind == "RNN" else 1
    states = [braze.randn(count, 2, 2, dtype=braze.float64) for _ in range(1 + (kind == "LSTM"))]
    x = braze.randn(3, 2, 2, dtype=braze.float64)
    leaves = [t.requires_grad_() for t in (x, *states)]

    def whole(x, *rest):
        hx = rest[: len(states)]
        output, state = layer(x, hx if kind == "LSTM" else hx[0])
        return (output, *state) if kind == "LSTM" else (output, state)

    def packed(x, *rest):
        sequence = rnn.pack_padded_sequence(x, [3, 1])
        return layer(sequence)[0].data

    assert gradcheck(whole, [*leaves, *parameters])
    assert gradcheck(packed, [x, *parameters])

    def short(x):
        return layer(x)[0].sin()

    assert gradgradcheck(short, [x])


def test_compiled_code_agrees_and_the_steps_are_one_operation():
    braze.manual_seed(0)
    layers = [nn.RNN(4, 3), nn.LSTM(4, 3, 2, bidirectional=True), nn.GRU(4, 3)]
    x = braze.randn(6, 3, 4)
    lengths = [6, 4, 1]

    def gradients():
        for layer in layers:
            layer.zero_grad()
        total = 0.0
        for layer in layers:
            y, _ = layer(x)
            packed, _ = layer(rnn.pack_padded_sequence(x, lengths))
            total = total + y.square().sum() + packed.data.sin().sum()
        total.backward()
        return [p.grad.clone() for layer in layers for p in layer.parameters()]

    expected = [g.numpy() for g in gradients()]
    with braze.config.using(tier="compile"):
        found = [g.numpy() for g in gradients()]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_all_steps_are_one_operation_forward_and_one_back(kind):
    layer = nn.__dict__[kind](4, 3)
    hx = [braze.zeros(1, 3, 3, requires_grad=True) for _ in range(1 + (kind == "LSTM"))]

    def gradients(x):
        with braze.enable_grad():
            output, _ = layer(x, hx if kind == "LSTM" else hx[0])
            return braze.autograd.grad(output.sin().sum(), [*hx, *layer.parameters()])

    nodes = trace(gradients, [braze.zeros(50, 3, 4)]).graph.nodes
    assert sum(node.op.is_recurrence for node in nodes) == 2
    assert len(nodes) < 60


def test_other_lengths_make_no_new_graph():
    """As long as their sum and the longest one stay the same: they are data."""
    layer = make("RNN", bidirectional=True)
    braze.sync()
    x = np.random.default_rng(4).standard_normal((5, 3, 4))

    def compiled():
        return braze.stats.compiles + braze.stats.disk_hits

    with braze.config.using(tier="compile"), braze.no_grad():
        counts = []
        for lengths in ([5, 3, 2], [5, 4, 1], [5, 3, 2]):
            y = layer(rnn.pack_padded_sequence(braze.from_numpy(x), lengths))[0].data.numpy()
            rows = [x[:n, which] for which, n in enumerate(lengths)]
            outputs, _ = reference(layer, rows, [np.zeros((2, 3, 3))])
            sizes = [sum(n > t for n in lengths) for t in range(5)]
            packed = [outputs[which][t] for t, size in enumerate(sizes) for which in range(size)]
            np.testing.assert_allclose(y, packed, rtol=1e-12)
            counts.append(compiled())
        assert counts[0] == counts[1] == counts[2]


def test_dropout_lies_between_the_layers():
    layer = make("GRU", num_layers=2, dropout=1.0)
    x = braze.randn(5, 3, 4, dtype=braze.float64)
    first, second = layer(x)[0], layer(x + 1)[0]
    assert np.array_equal(first.detach().numpy(), second.detach().numpy())
    layer.eval()
    plain = make("GRU", num_layers=2)
    assert np.array_equal(layer(x)[0].detach().numpy(), plain(x)[0].detach().numpy())
    with pytest.warns(UserWarning, match="expects num_layers greater than 1"):
        nn.GRU(4, 3, dropout=0.5)


def test_modules_are_copied_pickled_and_shown():
    layer = make("LSTM", num_layers=2, proj_size=2, bidirectional=True)
    assert repr(layer) == "LSTM(4, 3, proj_size=2, num_layers=2, bidirectional=True)"
    assert repr(nn.RNNCell(4, 3, False, "relu")) == "RNNCell(4, 3, bias=False, nonlinearity=relu)"
    names = [name for name, _ in layer.named_parameters()]
    assert names[4:6] == ["weight_hr_l0", "weight_ih_l0_reverse"] and len(names) == 20
    x = braze.randn(5, 3, 4, dtype=braze.float64)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert np.array_equal(other(x)[0].detach().numpy(), layer(x)[0].detach().numpy())
        assert other.all_weights[1][0] is other.weight_ih_l0_reverse
    bound = max(float(p.detach().abs().max()) for p in layer.parameters())
    assert 0.9 * 3**-0.5 < bound < 3**-0.5


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_cells_are_one_step_of_their_layer(kind):
    layer = make(kind)
    cell = getattr(nn, f"{kind}Cell")(4, 3).double()
    cell.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in layer.state_dict().items()}
    )
    x = np.random.default_rng(3).standard_normal((5, 4))
    states = [s[0] for s in starts(layer, 5)]
    weights = {name: p.detach().numpy() for name, p in cell.named_parameters()}
    expected = step(layer.mode, weights, x, tuple(states))
    assert_all_close(as_arrays(cell(braze.from_numpy(x), as_hx(states))), expected)
    single = cell(braze.from_numpy(x[2].copy()), as_hx([s[2].copy() for s in states]))
    assert_all_close(as_arrays(single), [e[2] for e in expected])
    zero = step(layer.mode, weights, x, tuple(np.zeros((5, 3)) for _ in states))
    assert_all_close(as_arrays(cell(braze.from_numpy(x))), zero)


def test_sequences_are_padded_and_packed():
    lists = [[1.0, 2.0], [3.0, 4.0, 5.0], [6.0]]
    sequences = [braze.tensor(values) for values in lists]
    assert rnn.pad_sequence(sequences, True).tolist() == [[1, 2, 0], [3, 4, 5], [6, 0, 0]]
    left = rnn.pad_sequence(sequences, padding_value=9, padding_side="left")
    assert left.tolist() == [[9, 3, 9], [1, 4, 9], [2, 5, 6]]
    packed = rnn.pack_sequence(sequences, enforce_sorted=False)
    assert packed.data.tolist() == [3, 1, 6, 4, 2, 5]
    assert packed.batch_sizes.tolist() == [3, 2, 1]
    assert packed.sorted_indices.tolist() == [1, 0, 2]
    padded, lengths = rnn.pad_packed_sequence(packed, True, -1.0, 4)
    assert padded.tolist() == [[1, 2, -1, -1], [3, 4, 5, -1], [6, -1, -1, -1]]
    assert lengths.tolist() == [2, 3, 1]
    assert [t.tolist() for t in rnn.unpack_sequence(packed)] == lists
    assert packed.int().data.dtype is braze.int32 and packed.to(packed.data.device) is packed


def test_packing_waits_for_nothing():
    """All that decides shapes is known when operations are captured."""
    layer = make("LSTM")
    x = braze.randn(5, 3, 4, dtype=braze.float64)
    braze.sync()
    before = braze.stats.graphs
    packed = rnn.pack_padded_sequence(x * 2, [2, 5, 3], enforce_sorted=False)
    padded, lengths = rnn.pad_packed_sequence(layer(packed)[0])
    assert lengths.tolist() == [2, 5, 3] and padded.shape == (5, 3, 3)
    assert braze.stats.graphs == before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: nn.GRU(4, 3)(x[:, :, :3]), RuntimeError, "Expected 4, got 3"),
        (lambda x: nn.GRU(4, 3)(x.double()), ValueError, "RNN input dtype .* does not match"),
        (lambda x: nn.GRU(4, 3)(x[0, 0]), ValueError, "2D or 3D, got 1D"),
        (lambda x: nn.GRU(4, 3)(x[:0]), RuntimeError, "sequence length to be larger than 0"),
        (lambda x: nn.GRU(4, 3)(x, braze.zeros(1, 2, 3)), RuntimeError, r"\(1, 3, 3\), got \[1"),
        (lambda x: nn.GRU(4, 3)(x, braze.zeros(1, 3)), RuntimeError, "also be 3-D but got 2-D"),
        (lambda x: nn.RNN(4, 3, nonlinearity="sin"), ValueError, "Select from 'tanh' or 'relu'"),
        (lambda x: nn.LSTM(4, 3, proj_size=3), ValueError, "smaller than hidden_size"),
        (lambda x: nn.RNNBase("RNN", 4, 3), ValueError, "Unrecognized RNN mode: RNN"),
        (lambda x: nn.LSTMCell(4, 3)(x[0], (x[1], x[1])), RuntimeError, "got 4, expected 3"),
        (lambda x: rnn.pack_padded_sequence(x, [1, 2, 3]), RuntimeError, "decreasing order"),
        (lambda x: rnn.pack_padded_sequence(x, [3, 2]), RuntimeError, r"got 2 \(batch_size=3\)"),
        (lambda x: rnn.pack_padded_sequence(x, [9, 2, 1]), RuntimeError, "have 5 elements"),
        (lambda x: rnn.pad_sequence([]), RuntimeError, "empty list of sequences"),
        (lambda x: braze.gru(x, x, [x], True), TypeError, r"gru\(\) received an invalid"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(braze.zeros(5, 3, 4))
