"""ONNX's own cases for its operators, sorted by operator, and which of them are left out."""

import warnings
from collections import defaultdict
from functools import cache

import numpy as np
import onnx
from onnx import numpy_helper

# Cases of claimed operators that are not run, by what their names begin with.
RANDOM = "its expected numbers are those of another random number generator"
EXCLUDED = {
    "test_bernoulli": RANDOM,
    "test_training_dropout_default": RANDOM,
    "test_training_dropout_mask": RANDOM,
    "test_training_dropout": RANDOM,
    "test_scan_sum": "Scan of opset 8 has another form, with a batch dimension",
}
# But these of the ones that begin so are run: a ratio of 0 drops nothing.
INCLUDED = ("test_training_dropout_zero_ratio", "test_training_dropout_zero_ratio_mask")

# Looser than rtol 1e-3 and atol 1e-7, which the cases ask for.
TOLERANCES = {
    "bfloat16": (2e-2, 1e-2),  # has 8 bits; intermediate results are rounded elsewhere
    "float16": (3e-3, 1e-3),
}
# Expected numbers are themselves the rounding errors of an exact 0.
ABSOLUTE = {"test_dft_inverse": 1e-6}

# Element types that Braze lacks; cases with them are refused when the model is loaded.
LACKING = "STRING FLOAT8 FLOAT4 FLOAT6 INT4 UINT4 INT2 UINT2".split()


def operators_of(graph, functions=()):
    """Domain and name of each operator in a graph, in its subgraphs and its model's functions."""
    found = set()
    for node in graph.node:
        found.add((node.domain, node.op_type))
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                found |= operators_of(inner)
    for function in functions:
        found |= operators_of(function)
    return found


@cache
def cases():
    """The cases by the operator that they are about: {(domain, name): [case]}."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        every = collect_testcases(None)
    found = defaultdict(list)
    about = {}
    for case in every:
        names = {(n.domain, n.op_type) for n in case.model.graph.node}
        base = case.name.split("_expanded")[0]
        if base == case.name:
            plain = names - {("", "Constant"), ("", "SequenceConstruct"), ("", "Cast")} or names
            about[case.name] = sorted(plain)[0]
        found[about[base]].append(case)
    return found


def excluded(name):
    """Why a case is not run, or None."""
    if name in INCLUDED:
        return None
    for start, reason in EXCLUDED.items():
        if name == start or name.startswith(f"{start}_"):
            return reason
    return None


def array(value):
    """What a case gives or expects: tensors become arrays, in lists too."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, list):
        return [array(v) for v in value]
    return value


def check(case, given, expected):
    """Compare a result of Braze's with what a case expects."""
    if expected is None:
        assert given is None
    elif isinstance(expected, list):
        assert isinstance(given, list) and len(given) == len(expected)
        for g, e in zip(given, expected, strict=True):
            check(case, g, e)
    else:
        expected = np.asarray(expected)
        result = given.detach().numpy(force=True)
        assert result.dtype == expected.dtype, case.name
        assert result.shape == expected.shape, case.name
        if expected.dtype.kind not in "fcV":
            np.testing.assert_array_equal(result, expected, err_msg=case.name)
            return
        rtol, atol = TOLERANCES.get(str(expected.dtype), (case.rtol or 1e-3, case.atol or 1e-7))
        for start, least in ABSOLUTE.items():
            atol = max(atol, least) if case.name.startswith(start) else atol
        wide = np.complex128 if expected.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(
            result.astype(wide), expected.astype(wide), rtol, atol, err_msg=case.name
        )
