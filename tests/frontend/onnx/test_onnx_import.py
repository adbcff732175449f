"""Reading ONNX models: names, weights, control flow, errors, packages."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import braze  # noqa: E402
import braze.onnx  # noqa: E402
from braze import nn  # noqa: E402

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
RNG = np.random.default_rng(0)


def info(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes, inputs, outputs, weights=None, opset=18, **options):
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset), *options.pop("opsets", [])]
    return helper.make_model(graph, opset_imports=opsets, **options)


def dense():
    """x @ layer.0.weight.T + layer/bias:0, then relu."""
    weights = {
        "layer.0.weight": RNG.standard_normal((3, 4)).astype("f"),
        "layer/bias:0": RNG.standard_normal(3).astype("f"),
    }
    nodes = [
        helper.make_node("Gemm", ["x", *weights], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    return model_of(nodes, [info("x", ["batch", 4])], [info("y", ["batch", 3])], weights), weights


def expected_dense(weights, x):
    w, b = weights.values()
    return np.maximum(x @ w.T + b, 0)


def test_weights_keep_their_names():
    proto, weights = dense()
    model = braze.onnx.load(proto)
    assert isinstance(model, nn.Module) and not model.training
    assert list(model.state_dict()) == list(weights)
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
    x = RNG.standard_normal((5, 4)).astype("f")
    result = model(braze.from_numpy(x))
    np.testing.assert_allclose(result.detach().numpy(), expected_dense(weights, x), rtol=1e-5)


def test_open_dimensions_have_names():
    model = braze.onnx.load(dense()[0])
    assert str(model.inputs[0]) == "x: f32[batch,4]"
    assert model.outputs[0].shape == ("batch", 3)
    assert "(x: f32[batch,4]) -> (y: f32[batch,3])" in repr(model)


@pytest.mark.parametrize("form", ["path", "bytes", "file", "proto"])
def test_what_a_model_is_read_from(form, tmp_path):
    proto, weights = dense()
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    given = {"path": path, "bytes": path.read_bytes(), "proto": proto}.get(form)
    model = braze.onnx.load(open(path, "rb") if form == "file" else given)
    x = np.ones((2, 4), "f")
    np.testing.assert_allclose(model(x=x).detach().numpy(), expected_dense(weights, x), rtol=1e-5)


def test_external_data(tmp_path):
    proto, weights = dense()
    onnx.save(
        proto, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="w"
    )
    assert (tmp_path / "w").stat().st_size >= 60
    model = braze.onnx.load(tmp_path / "m.onnx")
    np.testing.assert_array_equal(
        model.state_dict()["layer/bias:0"].numpy(), weights["layer/bias:0"]
    )
    (tmp_path / "w").unlink()
    with pytest.raises(OSError, match=r"'layer.0.weight'.*external data"):
        braze.onnx.load(tmp_path / "m.onnx")


def test_it_can_be_trained_and_its_weights_replaced():
    proto, weights = dense()
    model = braze.onnx.load(proto)
    x = braze.ones(2, 4)
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    braze.optim.SGD(model.parameters(), lr=0.1).step()
    changed = {k: v.numpy() for k, v in model.state_dict().items()}
    assert not np.array_equal(changed["layer.0.weight"], weights["layer.0.weight"])
    result = model(x).detach().numpy()
    np.testing.assert_allclose(result, expected_dense(changed, x.numpy()), rtol=1e-5)
    again = braze.onnx.load(proto)
    again.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(again(x).detach().numpy(), result)
    np.testing.assert_array_equal(copy.deepcopy(model)(x).detach().numpy(), result)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded(x).detach().numpy(), result)
    with pytest.raises(RuntimeError, match='Unexpected.*"other.weight"'):
        again.load_state_dict({**model.state_dict(), "other.weight": braze.zeros(1)})


def test_a_replaced_shape_is_read_again():
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    proto = model_of(nodes, [info("x", [2, 6])], [info("y", None)], {"shape": np.array([3, 4])})
    model = braze.onnx.load(proto)
    assert model(braze.zeros(2, 6)).shape == (3, 4)
    model.load_state_dict({"shape": braze.tensor([6, 2])})
    assert model(braze.zeros(2, 6)).shape == (6, 2)


def test_compiled_and_packaged(tmp_path):
    proto, weights = dense()
    model = braze.onnx.load(proto)
    x = RNG.standard_normal((5, 4)).astype("f")
    compiled = braze.compile(model)
    for _ in range(3):
        result = compiled(braze.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(result, expected_dense(weights, x), rtol=1e-5, atol=1e-6)
    braze.aot.compile(model, braze.from_numpy(x), tmp_path / "m.brz")
    np.save(tmp_path / "x.npy", x)
    code = f"""
import json, sys  # noqa: E402
import numpy as np  # noqa: E402
import braze.runtime  # noqa: E402
result = braze.runtime.load({str(tmp_path / "m.brz")!r})(np.load({str(tmp_path / "x.npy")!r}))
print(json.dumps([result.tolist(), sorted(sys.modules)]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    result, modules = json.loads(done.stdout)
    np.testing.assert_allclose(result, expected_dense(weights, x), rtol=1e-5, atol=1e-6)
    wrong = ("braze.passes", "braze.codegen", "braze.onnx", "llvmlite", "onnx", "braze.tensors")
    assert not [m for m in modules if m.startswith(wrong)]


def test_braze_alone_does_not_import_onnx():
    code = "import sys, braze; braze.zeros(2).sum().item(); print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_without_the_package_the_error_says_what_to_install():
    code = "import sys; sys.modules['onnx'] = None; import braze.onnx"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'braze[onnx]'" in done.stderr


def test_a_summary(tmp_path, capsys):
    from braze.cli import main

    proto = dense()[0]
    proto.graph.node[1].op_type = "Nothing"
    onnx.save(proto, tmp_path / "m.onnx")
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "opset versions: ai.onnx 18",
        "input: x: f32[batch,4]",
        "output: y: f32[batch,3]",
        "weights: 2, 15 numbers",
        "nodes: 2 (Gemm 1, Nothing 1)",
        "without a rule:",
        "  node 'y' (Nothing): domain 'ai.onnx', opset version 18 (there is no such operator in "
        "this version)",
    ]
    assert main(["inspect", str(tmp_path / "none.onnx")]) == 1
    assert "none.onnx" in capsys.readouterr().err
    assert braze.onnx.summary(dense()[0]).endswith("all operators are supported")


# Control flow and functions -----------------------------------------------------------------------


def branching():
    """y = x + w where the condition holds, else x * 2."""
    then = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["t"])], "t", [], [info("t", [3])]
    )
    two = numpy_helper.from_array(np.array(2, "f"), "two")
    other = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["e"])], "e", [], [info("e", [3])], [two]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    inputs = [info("x", [3]), info("c", [], TensorProto.BOOL)]
    return model_of([node], inputs, [info("y", [3])], {"w": np.ones(3, "f")})


def test_branches(tmp_path):
    model = braze.onnx.load(branching())
    x = np.array([1, 2, 3], "f")
    np.testing.assert_array_equal(model(x, np.array(True)).detach().numpy(), x + 1)
    np.testing.assert_array_equal(model(x, np.array(False)).detach().numpy(), x * 2)
    # Compiled, both are computed, and the condition chooses.
    example = [braze.from_numpy(x), braze.tensor(True)]
    braze.aot.compile(model, example, tmp_path / "both.brz")
    package = braze.aot.load(tmp_path / "both.brz")
    np.testing.assert_array_equal(package(x, np.array(True)), x + 1)
    np.testing.assert_array_equal(package(x, np.array(False)), x * 2)


def test_a_fixed_condition(tmp_path):
    model = braze.onnx.load(branching(), fixed={"c": False})
    assert [p.name for p in model.inputs] == ["x"]
    x = np.array([1, 2, 3], "f")
    np.testing.assert_array_equal(model(x).detach().numpy(), x * 2)
    braze.aot.compile(model, braze.from_numpy(x), tmp_path / "one.brz")
    assert "where" not in braze.aot.load(tmp_path / "one.brz").graph_text
    with pytest.raises(ValueError, match=r"'d', which is no input; there are x, c"):
        braze.onnx.load(branching(), fixed={"d": 1})


def test_branches_of_other_shapes_cannot_be_compiled(tmp_path):
    proto = branching()
    named = {a.name: a.g for a in proto.graph.node[0].attribute}
    branch = named["else_branch"]
    branch.node[0].CopyFrom(helper.make_node("Concat", ["x", "x"], ["e"], axis=0))
    branch.output[0].CopyFrom(info("e", [6]))
    del branch.initializer[:]
    model = braze.onnx.load(proto)
    assert model(np.ones(3, "f"), np.array(False)).shape == (6,)
    with pytest.raises(ValueError, match=r"result 0 is of another type.*f32\[3\] and f32\[6\]"):
        braze.aot.compile(model, [braze.ones(3), braze.tensor(True)], tmp_path / "m.brz")


def test_a_loop_over_known_turns_is_compiled(tmp_path):
    body = helper.make_graph(
        [
            helper.make_node("Add", ["h", "x"], ["h2"]),
            helper.make_node("Identity", ["going"], ["going2"]),
            helper.make_node("Identity", ["h2"], ["row"]),
        ],
        "body",
        [info("i", [], INT64), info("going", [], TensorProto.BOOL), info("h", [2])],
        [info("going2", [], TensorProto.BOOL), info("h2", [2]), info("row", [2])],
    )
    node = helper.make_node("Loop", ["count", "", "x"], ["last", "rows"], body=body)
    outputs = [info("last", [2]), info("rows", [None, 2])]
    model = braze.onnx.load(model_of([node], [info("x", [2])], outputs, {"count": np.array(3)}))
    x = np.array([1, 10], "f")
    last, rows = model(x)
    np.testing.assert_array_equal(last.detach().numpy(), 4 * x)
    np.testing.assert_array_equal(rows.detach().numpy(), [2 * x, 3 * x, 4 * x])
    braze.aot.compile(model, braze.from_numpy(x), tmp_path / "loop.brz")
    np.testing.assert_array_equal(
        braze.aot.load(tmp_path / "loop.brz")(x)[1], [2 * x, 3 * x, 4 * x]
    )


def test_functions_of_the_model():
    own = helper.make_function(
        "mine",
        "scaled",
        ["a"],
        ["b"],
        [
            helper.make_node("Constant", [], ["factor"]),
            helper.make_node("Mul", ["a", "factor"], ["b"]),
        ],
        [helper.make_opsetid("", 18)],
        ["by"],
    )
    reference = own.node[0].attribute.add(name="value_float", type=onnx.AttributeProto.FLOAT)
    reference.ref_attr_name = "by"
    node = helper.make_node("scaled", ["x"], ["y"], domain="mine", by=2.5)
    proto = model_of(
        [node],
        [info("x", [2])],
        [info("y", [2])],
        opsets=[helper.make_opsetid("mine", 1)],
        functions=[own],
    )
    result = braze.onnx.load(proto)(np.array([1, 2], "f"))
    np.testing.assert_array_equal(result.detach().numpy(), [2.5, 5])


def test_sequences():
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x", "z"], ["s"]),
        helper.make_node("SequenceErase", ["s", "first"], ["s2"]),
        helper.make_node("SequenceAt", ["s2", "last"], ["at"]),
        helper.make_node("ConcatFromSequence", ["s2"], ["joined"], axis=0),
        helper.make_node("ConcatFromSequence", ["s2"], ["stacked"], axis=0, new_axis=1),
        helper.make_node("Optional", ["at"], ["maybe"]),
        helper.make_node("OptionalGetElement", ["maybe"], ["sure"]),
    ]
    outputs = [info("joined", None), info("stacked", None), info("sure", None)]
    weights = {"first": np.array(0), "last": np.array(-1)}
    model = braze.onnx.load(model_of(nodes, [info("x", [2]), info("z", [2])], outputs, weights))
    x, z = np.array([1, 2], "f"), np.array([3, 4], "f")
    joined, stacked, sure = (r.detach().numpy() for r in model(x, z))
    np.testing.assert_array_equal(joined, [1, 2, 3, 4])
    np.testing.assert_array_equal(stacked, [x, z])
    np.testing.assert_array_equal(sure, z)


@pytest.mark.parametrize("name", ["RandomUniform", "RandomNormal"])
def test_random_numbers(name):
    options = {"low": 2.0, "high": 3.0} if "Uniform" in name else {"mean": 2.5, "scale": 0.5}
    nodes = [
        helper.make_node(name, [], ["a"], shape=[1000], **options),
        helper.make_node(f"{name}Like", ["a"], ["b"], **options),
    ]
    model = braze.onnx.load(model_of(nodes, [], [info("a", None), info("b", None)]))
    braze.manual_seed(0)
    a, b = (r.numpy() for r in model())
    assert not np.array_equal(a, b) and a.dtype == np.float32
    for sample in (a, b):
        assert abs(sample.mean() - 2.5) < 0.1
        assert abs(sample.std() - (12**-0.5 if "Uniform" in name else 0.5)) < 0.05


def test_draws_from_logarithms_of_weights():
    nodes = [helper.make_node("Multinomial", ["x"], ["y"], sample_size=2000, dtype=INT64)]
    model = braze.onnx.load(model_of(nodes, [info("x", [1, 3])], [info("y", None, INT64)]))
    braze.manual_seed(0)
    found = model(np.log(np.array([[1, 2, 5]], "f"))).numpy()
    assert found.dtype == np.int64 and found.shape == (1, 2000)
    np.testing.assert_allclose(np.bincount(found[0]) / 2000, [0.125, 0.25, 0.625], atol=0.04)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_pooling_of_powers(p):
    nodes = [helper.make_node("GlobalLpPool", ["x"], ["y"], p=p)]
    model = braze.onnx.load(model_of(nodes, [info("x", [1, 2, 3, 4])], [info("y", None)]))
    x = RNG.standard_normal((1, 2, 3, 4)).astype("f")
    expected = (np.abs(x) ** p).sum((2, 3), keepdims=True) ** (1 / p)
    np.testing.assert_allclose(model(x).detach().numpy(), expected, rtol=1e-5)


# Errors -------------------------------------------------------------------------------------------


def test_all_missing_operators_are_named_before_anything_runs():
    nodes = [
        helper.make_node("FusedThing", ["x"], ["a"], name="first", domain="com.example"),
        helper.make_node("StringNormalizer", ["a"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["y"]),
        helper.make_node("NoSuch", ["b"], ["c"], name="third"),
    ]
    proto = model_of(
        nodes, [info("x", [2])], [info("y", [2])], opsets=[helper.make_opsetid("com.example", 3)]
    )
    with pytest.raises(braze.onnx.UnsupportedOperatorError) as raised:
        braze.onnx.load(proto)
    text = str(raised.value)
    assert "3 operators" in text
    assert "node 'first' (com.example.FusedThing): domain 'com.example', opset version 3" in text
    assert "node 'second' (StringNormalizer): domain 'ai.onnx', opset version 18" in text
    assert "node 'third' (NoSuch)" in text


def test_a_missing_operator_in_a_branch_is_found():
    proto = branching()
    proto.graph.node[0].attribute[0].g.node[0].op_type = "Nothing"
    with pytest.raises(braze.onnx.UnsupportedOperatorError, match="Nothing"):
        braze.onnx.load(proto)


def test_errors_name_the_node():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    proto = model_of(nodes, [info("x", [2, 3])], [info("y", None)], {"w": np.ones((4, 2), "f")})
    with pytest.raises(RuntimeError) as raised:
        braze.onnx.load(proto)(np.ones((2, 3), "f"))
    assert raised.value.__notes__ == ["in node 'product' (MatMul)"]


def test_wrong_arguments():
    model = braze.onnx.load(dense()[0])
    with pytest.raises(ValueError, match=r"input x: f32\[batch,4\] was given f32\[2,5\]"):
        model(braze.zeros(2, 5))
    with pytest.raises(TypeError, match=r"input x: f32\[batch,4\] was given i64\[2,4\]"):
        model(braze.zeros(2, 4, dtype=braze.int64))
    with pytest.raises(TypeError, match=r"inputs are \(x: f32\[batch,4\]\), given 2 in order"):
        model(braze.zeros(2, 4), braze.zeros(2, 4))
    with pytest.raises(TypeError, match=r"given 0 in order, z"):
        model(z=braze.zeros(2, 4))


def test_no_model():
    with pytest.raises(ValueError, match="this is no ONNX model"):
        braze.onnx.load(b"not a model at all")
    with pytest.raises(ValueError, match="this is no ONNX model"):
        braze.onnx.load(b"")
    with pytest.raises(FileNotFoundError):
        braze.onnx.load("nothing/there.onnx")


def test_element_types_that_are_lacking():
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    kind = TensorProto.STRING
    with pytest.raises(TypeError, match="'x' has elements of type STRING; supported are BOOL"):
        braze.onnx.load(model_of(nodes, [info("x", [1], kind)], [info("y", [1], kind)]))


def test_a_shape_that_depends_on_an_input(tmp_path):
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"], name="r")]
    inputs = [info("x", [2, 6]), info("shape", [2], INT64)]
    proto = model_of(nodes, inputs, [info("y", None)])
    model = braze.onnx.load(proto)
    assert model(np.zeros((2, 6), "f"), np.array([3, 4])).shape == (3, 4)
    with pytest.raises(ValueError, match=r"fixed=\{name: value\}") as raised:
        braze.aot.compile(model, [braze.zeros(2, 6), braze.tensor([3, 4])], tmp_path / "m.brz")
    assert raised.value.__notes__ == ["in node 'r' (Reshape)"]
    fixed = braze.onnx.load(proto, fixed={"shape": [4, 3]})
    braze.aot.compile(fixed, braze.zeros(2, 6), tmp_path / "m.brz")
    assert braze.aot.load(tmp_path / "m.brz")(np.zeros((2, 6), "f")).shape == (4, 3)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 18, 21])
def test_versions_of_operators(opset):
    """Squeezed, sliced, reduced, padded and clipped as each version spells it."""
    weights, nodes = {}, []

    def node(op, inputs, output, **named):
        """Operands from the version on in which they are no attributes any more."""
        since = {"Slice": 10, "Squeeze": 13, "ReduceSum": 13, "Pad": 11, "Clip": 11}[op]
        if opset >= since:
            for key, value in named.items():
                weights[f"{output}_{key}"] = np.array(value, "f" if op == "Clip" else np.int64)
            helper_inputs = [*inputs, *(f"{output}_{key}" for key in named)]
            nodes.append(helper.make_node(op, helper_inputs, [output]))
        else:
            nodes.append(helper.make_node(op, inputs, [output], **named))

    node("Slice", ["x"], "a", starts=[0, 1], ends=[1, 9])
    node("Squeeze", ["a"], "b", axes=[0])
    node("ReduceSum", ["b"], "c", axes=[0])
    node("Pad", ["c"], "d", pads=[1, 1])
    node("Clip", ["d"], "y", min=0.0, max=4.0)
    proto = model_of(nodes, [info("x", [2, 4])], [info("y", None)], weights, opset=opset)
    x = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], "f")
    result = braze.onnx.load(proto)(x).detach().numpy()
    np.testing.assert_array_equal(result, [0, 4, 0])
