"""One code for all sizes of a dimension: when it is made, what it serves, what is told of it."""

import os
import time
from dataclasses import replace

import numpy as np
import pytest
from sized_programs import run, scaled_rows

import braze
from braze.ir import printer
from braze.nn import functional as F
from braze.runtime import background, cache, compiler
from braze.runtime.cache import clear_memory
from braze.runtime.config import config
from braze.runtime.families import families
from braze.runtime.prediction import SYMBOLIC_TIMES
from braze.runtime.recompiles import log
from braze.runtime.sized_texts import Text, fitted, with_outline
from braze.runtime.stats import stats


@pytest.fixture(autouse=True)
def fresh():
    clear_memory()
    log.clear()
    stats.reset()
    with config.using(tier="auto", background="never", cache_dir="", debug=0, dump_dir=""):
        yield
    clear_memory()
    log.clear()


@pytest.fixture
def scaled():
    return scaled_rows()


@pytest.fixture
def own_background(monkeypatch):
    """A compiling process that ends with the test."""
    mine = background._Background()
    monkeypatch.setattr(background, "_background", mine)
    yield
    if mine._compiler is not None:
        mine._compiler.leave()


# When -------------------------------------------------------------------------------------------


def test_the_third_size_is_compiled_for_all(scaled):
    run(scaled, [20, 30])
    assert stats.compiles == 2
    run(scaled, [24])
    assert stats.compiles == 3
    before = stats.interpreted
    run(scaled, [21, 22, 23, 25, 28, 31, 40, 19], times=1)
    assert stats.compiles == 3 and stats.interpreted == before, braze.explain()


def test_sizes_that_came_once_before_are_served_too(scaled):
    run(scaled, [25, 26], times=1)
    run(scaled, [20, 30, 24])
    run(scaled, [25, 26], times=1)
    assert stats.compiles == 3


def test_one_off_graphs_are_not_compiled(scaled):
    run(scaled, range(2, 60), times=1)
    assert stats.compiles == 0


def test_sizes_far_from_all_seen_are_compiled_anew(scaled):
    run(scaled, [20, 30, 24])
    run(scaled, [3000])
    assert stats.compiles == 4
    run(scaled, [2999, 3001, 25], times=1)
    assert stats.compiles == 4


def test_a_size_outside_of_what_the_code_serves_has_its_own(monkeypatch, scaled):
    """The code is planned for a prime near the size, and may be right from there on only."""
    original = compiler.compile_symbolic

    def narrow(fit, size, target):
        return replace(original(fit, size, target), lowest=(size[0] + 1,))

    monkeypatch.setattr(compiler, "compile_symbolic", narrow)
    run(scaled, [20, 30, 24])
    assert stats.compiles == 3
    assert all(event.source != "dynamic" for event in braze.explain().events)
    (words,) = {entry.executable.artifact.words for entry in _known_of(24)}
    assert words == ()
    run(scaled, [25], times=1)
    assert braze.explain().events[-1].source == "dynamic"


def _known_of(rows):
    """What is known in memory of the graphs over so many rows."""
    for known in cache._memory.recent.values():
        if known.executable and known.executable.artifact.inputs[0].shape[0] == rows:
            yield known


def test_it_can_be_switched_off(scaled):
    with config.using(dynamic_shapes=False):
        run(scaled, [20, 30, 24, 28])
    assert stats.compiles == 4


def test_two_sizes_that_change_at_once_are_two_things():
    """A fit needs one size; whatever else differs is another graph."""

    def program(size):
        rows, columns = divmod(size, 100)
        x = np.ones((rows, columns), np.float32)
        assert (braze.from_numpy(x) * 2).sum().item() == 2 * rows * columns

    run(program, [1017, 1219, 1523, 1911])
    assert stats.compiles == 4


# What is told -----------------------------------------------------------------------------------


def test_explain_says_when_and_why(scaled):
    run(scaled, [20, 30, 24])
    run(scaled, [26], times=1)
    text = str(braze.explain())
    assert "3 compiled" in text and "1 served by code for many sizes" in text
    assert "sizes: this is the third size of one dimension, so the code serves all from" in text
    last = braze.explain().events[-1]
    assert last.source == "dynamic" and last.sizes.endswith("here 26"), last
    assert "(dimension 0: 26, was 24)" in last.difference


def test_explain_says_why_not():
    def program(size):
        x = np.random.default_rng(size).standard_normal((3, size)).astype(np.float32)
        np.testing.assert_array_equal(braze.from_numpy(x).sort(-1)[0].numpy(), np.sort(x, -1))

    run(program, [20, 30, 24, 28])
    assert stats.compiles == 4
    told = [event.sizes for event in braze.explain().events if event.sizes]
    assert told == [
        "this is the third size of one dimension, but the kernel depends on the size in a way that "
        "has no code: sort @sort_1"
    ]


def test_a_dump_shows_the_functions(scaled, tmp_path):
    with config.using(dump_dir=str(tmp_path)):
        run(scaled, [20, 30, 24])
    (file,) = tmp_path.glob("*/*symbolic.loops")
    assert file.parent.glob("*.ll") and "in {n}" in file.read_text()


def test_deterministic_algorithms_compile_each_size(scaled):
    braze.use_deterministic_algorithms(True)
    try:
        run(scaled, [20, 30, 24, 28])
    finally:
        braze.use_deterministic_algorithms(False)
    assert stats.compiles == 4 and config.dynamic_shapes and config.background == "never"


def test_errors_name_the_line_and_the_size_of_this_call():
    table = braze.arange(100.0)
    table.numpy()

    def program(size, bad=None):
        index = np.arange(size) % 7
        if bad is not None:
            index[-1] = bad
        rows = table[:size]
        return rows[braze.from_numpy(index)].numpy()

    run(program, [20, 30, 24])
    assert stats.compiles == 3
    with pytest.raises(IndexError, match=r"index 26 is out of range \[-?\d*0?, 26\)") as caught:
        program(26, bad=26)
    assert "test_dynamic_shapes.py" in str(caught.value)
    np.testing.assert_array_equal(program(26), np.arange(26) % 7)


def test_what_differs_may_be_no_size_at_all():
    """The number of elements to keep, of which there are not more than nine."""
    x = np.random.default_rng(0).standard_normal((3, 9)).astype(np.float32)
    given = braze.from_numpy(x)

    def program(k):
        np.testing.assert_array_equal(given.kthvalue(k).values.numpy(), np.sort(x, -1)[:, k - 1])

    run(program, range(1, 10))


# In the background ------------------------------------------------------------------------------


def test_the_background_compiles_it_while_all_sizes_are_interpreted(own_background, scaled):
    with config.using(background="always"):
        end = time.monotonic() + 300
        while stats.compiles < 2 and time.monotonic() < end:
            run(scaled, [20, 30], times=1)
        run(scaled, [24])
        while stats.compiles < 3 and time.monotonic() < end:
            run(scaled, [24, 26, 28], times=1)
        assert stats.compiles == 3, braze.explain()
        before = stats.interpreted
        run(scaled, [21, 22, 26, 28, 24], times=1)
        assert stats.compiles == 3 and stats.interpreted == before, braze.explain()


def test_what_the_background_cannot_make_symbolic_is_compiled_one_by_one(own_background):
    def program(size):
        x = np.random.default_rng(size).standard_normal((4, size)).astype(np.float32)
        np.testing.assert_array_equal(braze.from_numpy(x).sort(-1)[0].numpy(), np.sort(x, -1))

    with config.using(background="always"):
        end = time.monotonic() + 300
        while stats.compiles < 5 and time.monotonic() < end:
            run(program, [20, 30, 24, 28, 22], times=1)
        before = stats.interpreted
        run(program, [20, 30, 24, 28, 22], times=1)
        assert stats.compiles == 5 and stats.interpreted == before, braze.explain()


def test_code_for_all_sizes_is_expected_to_take_longer(monkeypatch, own_background, scaled):
    """What would be compiled at once for one size is left to the background for all."""
    taken = []
    monkeypatch.setattr(cache, "is_worth_waiting", lambda s, run: taken.append(s) or True)
    monkeypatch.setattr(cache, "compile_seconds", lambda graph: 1.0)
    with config.using(background="auto"):
        run(scaled, [20, 30, 24])
    assert taken[1::2] == [1.0, 1.0, SYMBOLIC_TIMES]


def test_a_forked_child_leaves_the_job_to_its_parent(own_background, scaled):
    with config.using(background="always"):
        run(scaled, [20, 30, 24])
        assert families.may_serve()
        child = os.fork()
        if child == 0:
            os._exit(int(families.may_serve()))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# What it computes -------------------------------------------------------------------------------


def compared(program, sizes, most=3):
    """The program's results from one code for many sizes, and from the interpreter."""
    found = {}
    for tier in ("auto", "interpret"):
        with config.using(tier=tier):
            braze.manual_seed(0)
            found[tier] = program([size for size in sizes for _ in range(2)])
    for actual, expected in zip(found["auto"], found["interpret"], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5)
    assert stats.compiles <= most, braze.explain()


def trained(model, inputs, loss):
    """Losses and parameters of training with batches of several sizes."""

    def program(sizes):
        braze.manual_seed(0)
        made = model()
        optimizer = braze.optim.SGD(made.parameters(), lr=0.01)
        rng = np.random.default_rng(0)
        results = []
        for size in sizes:
            optimizer.zero_grad()
            value = loss(made, *(braze.from_numpy(a) for a in inputs(rng, size)))
            value.backward()
            optimizer.step()
            results.append(value.detach().numpy())
        return [*results, *(p.detach().numpy() for p in made.parameters())]

    return program


def test_training_with_batches_of_many_sizes():
    def model():
        return braze.nn.Sequential(
            braze.nn.Linear(12, 20), braze.nn.LayerNorm(20), braze.nn.GELU(), braze.nn.Linear(20, 5)
        )

    def inputs(rng, size):
        x = rng.standard_normal((size, 12)).astype(np.float32)
        return x, rng.integers(0, 5, size)

    program = trained(model, inputs, lambda m, x, y: F.cross_entropy(m(x), y))
    compared(program, [8, 16, 12, 11, 9, 14, 23], most=4)  # the first step has no gradients yet


def test_a_recurrent_network_over_many_lengths():
    class Tagger(braze.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = braze.nn.Embedding(30, 8)
            self.rnn = braze.nn.LSTM(8, 12)
            self.head = braze.nn.Linear(12, 4)

        def forward(self, words):
            return self.head(self.rnn(self.embedding(words))[0])

    def inputs(rng, size):
        return rng.integers(0, 30, (size, 3)), rng.integers(0, 4, size * 3)

    program = trained(Tagger, inputs, lambda m, x, y: F.cross_entropy(m(x).reshape(-1, 4), y))
    compared(program, [9, 14, 11, 10, 12, 17, 25, 5], most=4)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_over_many_lengths(causal):
    def program(sizes):
        rng = np.random.default_rng(0)
        results = []
        for size in sizes:
            arrays = rng.standard_normal((3, 2, 2, size, 8)).astype(np.float32)
            q, k, v = (braze.from_numpy(a).requires_grad_() for a in arrays)
            out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
            gradients = braze.autograd.grad(out.square().sum(), [q, k, v])
            results += [out.detach().numpy(), *(g.numpy() for g in gradients)]
        return results

    compared(program, [17, 23, 20, 18, 19, 21, 22])


# The fit ----------------------------------------------------------------------------------------


def test_a_fit_finds_the_size_and_its_functions():
    texts = [
        f"%{3}: f32[{n},{4 * n + 3}] = reshape(%x0; shape=({n * n},7), i32)  # a.py:{n * 2}\n"
        for n in (5, 9, 6)
    ]
    fit = fitted([*map(Text.of, texts)])
    assert fit.seen == ((5,), (9,), (6,))
    eleven = "%3: f32[11,47] = reshape(%x0; shape=(121,7), i32)  # a.py:12\n"
    assert fit.text_at((11,)) == eleven and fit.sizes_of(Text.of(eleven)) == (11,)
    assert fit.sizes_of(Text.of(eleven.replace("a.py:12", "b.py:1"))) == (11,)
    assert fit.sizes_of(Text.of(eleven.replace("121", "122"))) is None


def test_a_fit_is_that_of_the_outlines_too(scaled):
    """These are written down sooner than a graph with the user's lines, which no size needs."""
    lines = [Text.of(f"[{n},{n * n}]  # a.py:3") for n in (5, 9, 6)]
    outlines = [Text.of(f"({n * n}, {n}, 7)") for n in (5, 9, 6)]
    fit = with_outline(fitted(lines), outlines)
    assert fit.outline.sizes_of(Text.of("(64, 8, 7)")) == (8,)
    assert fit.outline.sizes_of(Text.of("(64, 8, 6)")) is None
    assert fit.outline.seen == fit.seen
    assert with_outline(fitted(lines), [Text.of(f"({n * n}, 7)") for n in (5, 9, 6)]) is None


def test_no_graph_is_printed_for_a_size_that_is_served(monkeypatch, scaled):
    run(scaled, [20, 30, 24])
    monkeypatch.setattr(printer, "print_graph", None)
    run(scaled, [26, 27], times=1)
    assert stats.compiles == 3


def test_dtypes_are_no_sizes():
    """u8, u16, u24."""
    assert fitted([Text.of(f"%x: u{n}[4]") for n in (8, 16, 32)]) is None


def test_the_smallest_step_is_the_size():
    """The others are whole polynomials of it, or there is none."""
    assert fitted([Text.of(f"[{6 * n},{2 * n}]") for n in (4, 6, 10)]).seen == ((8,), (12,), (20,))
    assert fitted([Text.of(f"[{2 * n},{3 * n}]") for n in (4, 5, 7)]) is None


@pytest.mark.parametrize(
    "texts",
    [
        ["[1]", "[2]", "(3)"],
        ["[4,9]", "[5,9]", "[5,8]"],
        ["[4,16]", "[5,32]", "[6,64]", "[7,127]"],
        ["[4]", "[4]", "[4]"],
        ["[4]", "[5]", "[5]"],
    ],
)
def test_what_no_size_describes_has_no_fit(texts):
    assert fitted([*map(Text.of, texts)]) is None
