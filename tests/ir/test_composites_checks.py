"""Checks that values lie in a region: what passes and what does not, interpreted and compiled."""

import numpy as np
import pytest
from composites import one_op
from native import Native, runnable_targets

import braze.ir as ir
from braze.ir.interpreter import interpret
from braze.passes import compile_graph

INF, NAN = np.inf, np.nan
INTERVAL = {"low": 0.0, "high": 3.0, "open_low": False, "open_high": False, "integer": False}
GOOD, BAD = True, False
CASES = [
    ("check_truth", {"wanted": True}, bool, [(1, GOOD), (0, BAD)]),
    ("check_truth", {"wanted": False}, bool, [(1, BAD), (0, GOOD)]),
    ("check_interval", INTERVAL, np.float32,
     [(0, GOOD), (3, GOOD), (1.5, GOOD), (-0.1, BAD), (3.1, BAD), (NAN, BAD), (INF, BAD)]),
    ("check_interval", {**INTERVAL, "integer": True}, np.float64,
     [(0, GOOD), (2, GOOD), (1.5, BAD), (4, BAD), (NAN, BAD)]),
    ("check_interval", {**INTERVAL, "integer": True}, np.int64, [(3, GOOD), (-1, BAD), (4, BAD)]),
    ("check_interval", {**INTERVAL, "open_low": True}, np.float32, [(0, BAD), (3, GOOD)]),
    ("check_interval", {**INTERVAL, "open_high": True}, np.int32, [(0, GOOD), (3, BAD)]),
    ("check_interval", {**INTERVAL, "high": INF}, np.float32, [(INF, GOOD), (-1, BAD), (NAN, BAD)]),
    ("check_interval", {**INTERVAL, "low": -INF}, np.int64, [(-9, GOOD), (4, BAD)]),
    ("check_interval", {**INTERVAL, "low": -INF, "high": INF}, np.float32,
     [(INF, GOOD), (-INF, GOOD), (NAN, BAD)]),
    ("check_simplex", {}, np.float32,
     [((0.25, 0.75), GOOD), ((1, 0), GOOD), ((1.5, -0.5), BAD), ((0.5, 0.4), BAD),
      ((NAN, 1), BAD)]),
    ("check_simplex", {}, np.int64, [((1, 0), GOOD), ((1, 1), BAD)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "attributes", "dtype", "values"), CASES)
def test_what_passes(name, attributes, dtype, values):
    good = [value for value, passes in values if passes]
    for value, passes in values:
        x = np.array([*good, value, *good]).astype(dtype)
        graph = one_op(name, [x], {**attributes, "message": "op!!what is wrong"})
        native = Native(compile_graph(graph, runnable_targets()[-1])[0])
        native.run([x], [])
        assert (native.status[0] == 0) == passes, value
        if passes:
            assert interpret(graph, [x]) == []
        else:
            with pytest.raises(ir.errors.ConstraintError, match=r"^\[op\] what is wrong"):
                interpret(graph, [x])


def test_what_is_refused():
    with pytest.raises(ir.DTypeError, match="must be a bool"):
        one_op("check_truth", [np.zeros(2)], {"wanted": True, "message": "op"})
    with pytest.raises(ir.DTypeError, match="must be numbers"):
        one_op("check_interval", [np.zeros(2, bool)], {**INTERVAL, "message": "op"})
    with pytest.raises(ir.ShapeError, match="a dimension to sum over"):
        one_op("check_simplex", [np.array(1.0)], {"message": "op"})
