"""The graphs (or loops) before and after, in the docstring of every pass, are what it does."""

import importlib
import pkgutil
import re
import textwrap

import numpy as np
import pytest
from graphs import assert_same, sample_inputs

from braze import passes
from braze.ir.dtypes import i8
from braze.ir.graph import Graph
from braze.ir.interpreter import interpret
from braze.ir.loops_parser import parse_kernel
from braze.ir.parser import parse_graph
from braze.ir.target import named_target
from braze.ir.verifier import verify
from braze.passes.choices import Choices
from braze.passes.fold_weights import fold_weights
from braze.passes.fuse import fuse
from braze.passes.lower import lower_program
from braze.passes.match_attention import match_attention
from braze.passes.narrow_weights import narrow_weights
from braze.passes.numbers_as_constants import numbers_as_constants
from braze.passes.plan_memory import plan_memory
from braze.passes.scale_weights import scale_weights
from braze.passes.sum_channels_last import sum_channels_last
from braze.passes.trim_stores import trim_stores
from braze.passes.vectorise import vectorise
from braze.passes.waves import waves_of

TARGET = named_target("x86-64-v3")
LIMIT = np.array([6.0], np.float32)


def _lower(graph):
    """The only kernel of a fused graph."""
    (kernel,) = lower_program(graph, plan_memory(graph, waves_of(graph)), TARGET).kernels()
    return kernel


def _narrowed(graph):
    """As i8, with its arrays."""
    arrays = {value.name: array for value, array in _arrays(graph).items()}
    return narrow_weights(graph, arrays, i8)[:2]


def _arrays(graph):
    """Of all inputs but the first."""
    arrays = sample_inputs(graph)[1:]
    return dict(zip(graph.inputs[1:], arrays, strict=True))


# What takes more than the graph or the nest.
CALLS = {
    "fuse": lambda graph: fuse(graph, TARGET, []),
    "vectorise": lambda nest: vectorise(nest, TARGET),
    "trim_stores": lambda nest: trim_stores(nest, {"y": "x"}),
    "match_attention": lambda graph: match_attention(graph, Choices(many_sizes=True)),
    "scale_weights": lambda graph: scale_weights(graph, graph.inputs[1:]),
    "fold_weights": lambda graph: fold_weights(graph, _arrays(graph))[0],
    "narrow_weights": lambda graph: _narrowed(graph)[0],
    "numbers_as_constants": lambda graph: numbers_as_constants(graph, {"limit": LIMIT}),
    "sum_channels_last": lambda graph: sum_channels_last(graph, named_target("sm_80")),
    "lower": _lower,
    "lower_attention": _lower,
    "lower_columns": _lower,
    "lower_sort": _lower,
}


def examples():
    found = {}
    for module in pkgutil.iter_modules(passes.__path__):
        text = importlib.import_module(f"braze.passes.{module.name}").__doc__ or ""
        match = re.search(r"^Before:\n(.*?)^After:\n(.*?)\Z", text, re.MULTILINE | re.DOTALL)
        if match:
            before, after = (textwrap.dedent(part).strip() for part in match.groups())
            found[module.name] = (before, after)
    return found


EXAMPLES = examples()


def test_every_pass_of_the_pipeline_has_an_example():
    names = {entry.name.removesuffix("_again") for entry in passes.PIPELINE}
    assert names | {"lower", "merge_loops", "vectorise", "parallelise"} <= EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_is_what_the_pass_does(name):
    before, after = EXAMPLES[name]
    module = importlib.import_module(f"braze.passes.{name}")
    call = CALLS.get(name) or getattr(module, name)
    parse = parse_graph if before.startswith("graph") else parse_kernel
    assert before != after
    assert str(call(parse(before))).strip() == after


@pytest.mark.parametrize("name", [n for n, (b, _) in EXAMPLES.items() if b.startswith("graph")])
def test_the_example_keeps_its_meaning(name):
    before, after = EXAMPLES[name]
    if not after.startswith("graph"):
        pytest.skip("becomes loops")
    graph, expected = parse_graph(after), parse_graph(before)
    assert isinstance(graph, Graph)
    verify(graph)
    inputs = sample_inputs(graph)
    if name == "fold_weights":
        new, weights = fold_weights(expected, arrays := _arrays(expected))
        inputs = [*sample_inputs(expected)[:1], *arrays.values()]
        found = interpret(new, [*inputs[:1], *weights.values()])
    elif name == "narrow_weights":
        new, weights = _narrowed(expected)
        inputs = [*sample_inputs(expected)[:1], *_arrays(expected).values()]
        (found,) = interpret(new, [*inputs[:1], *weights.values()])
        (wanted,) = interpret(expected, inputs)
        assert 0 < np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
        return
    elif name == "numbers_as_constants":
        found = interpret(graph, inputs)
        inputs = [*inputs, LIMIT]
    else:
        found = interpret(graph, inputs)
    # Where complex values became pairs of real ones, the bytes are the same.
    given = [_as(value.type, array) for value, array in zip(expected.inputs, inputs, strict=True)]
    wanted = interpret(expected, given)
    assert_same(found, [_as(v.type, a) for v, a in zip(graph.outputs, wanted, strict=True)])


def _as(type, array):
    if array.dtype == type.dtype.numpy:
        return array
    return np.ascontiguousarray(array).view(type.dtype.numpy).reshape(type.shape)
