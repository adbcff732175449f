"""Writing ONNX models: networks that ONNX Runtime runs with equal results, names, open dimensions,
files and errors."""

import resource
import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import onnx_export as support  # noqa: E402

import braze  # noqa: E402
import braze.onnx  # noqa: E402
from braze import nn  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from benchmarks import models  # noqa: E402

pytestmark = pytest.mark.usefixtures("interpret")

NETWORKS = {
    "mlp": (lambda: models.mlp(braze, 8, 16, 4), (5, 8), {0: "batch"}, [(1, 8), (9, 8)]),
    "cnn": (lambda: models.mnist_network(braze), (2, 1, 28, 28), {0: "batch"}, [(1, 1, 28, 28)]),
    "resnet18": (
        lambda: models.resnet(braze, (2, 2, 2, 2), False, 10),
        (1, 3, 32, 32),
        {0: "batch", 2: "h", 3: "w"},
        [(2, 3, 32, 48)],
    ),
    "resnet50": (
        lambda: models.resnet(braze, (3, 4, 6, 3), True, 10),
        (1, 3, 32, 32),
        {0: "batch"},
        [(2, 3, 32, 32)],
    ),
    "mobilenet_v2": (
        lambda: models.mobile_network(braze, 10),
        (1, 3, 32, 32),
        {0: "batch"},
        [(3, 3, 32, 32)],
    ),
    "encoder": (
        lambda: models.encoder(braze, 16, 4, 32, 2),
        (2, 10, 16),
        {0: "batch", 1: "time"},
        [(1, 17, 16), (3, 4, 16)],
    ),
    "lstm": (
        lambda: nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True),
        (2, 5, 6),
        {0: "batch", 1: "time"},
        [(1, 9, 6), (3, 2, 6)],
    ),
    "gru": (lambda: nn.GRU(6, 8, 2), (5, 2, 6), {0: "time", 1: "batch"}, [(9, 1, 6)]),
    "rnn": (lambda: nn.RNN(6, 8, 1, "relu"), (5, 2, 6), {0: "time", 1: "batch"}, [(9, 1, 6)]),
}


def made(name):
    braze.manual_seed(0)
    net = NETWORKS[name][0]().eval()
    with braze.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):  # not the statistics that it starts with
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.8, 1.2)
    return net


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network(name):
    """ONNX Runtime's results are Braze's, at the example's sizes and at others, and so are those of
    the model that is read back."""
    net, (_, shape, dims, others) = made(name), NETWORKS[name]
    proto = braze.onnx.export(net, braze.randn(*shape), input_names=["x"], dynamic_axes={"x": dims})
    support.check_equal(net, proto, [(braze.randn(*s),) for s in (shape, *others)])
    weights = {t.name for t in proto.graph.initializer}
    used = {k for k in net.state_dict() if "num_batches_tracked" not in k}
    assert used <= weights
    for tensor in proto.graph.initializer:
        if tensor.name in used:
            array = onnx.numpy_helper.to_array(tensor)
            np.testing.assert_array_equal(array, net.state_dict()[tensor.name].numpy())
    declared = [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert declared == [dims.get(i, size) for i, size in enumerate(shape)]


@pytest.mark.parametrize("opset", [16, 17, 18, 19, 20, 21, 22, 23])
def test_versions(opset):
    net = made("encoder")
    x = braze.randn(2, 10, 16)
    proto = braze.onnx.export(
        net, x, opset_version=opset, input_names=["x"], dynamic_axes={"x": [0]}
    )
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", opset)]
    support.check_equal(net, proto, [(x,), (braze.randn(5, 10, 16),)])
    kinds = {node.op_type for node in proto.graph.node}
    assert ("LayerNormalization" in kinds) == (opset >= 17)


def test_no_products_with_unit_matrices():
    """A recurrent layer's weights are handed to ONNX's operator as they are."""
    proto = braze.onnx.export(made("lstm"), braze.zeros(2, 5, 6))
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("LSTM") == 4 and "MatMul" not in kinds and "Gemm" not in kinds
    sizes = {t.dims[0] for t in proto.graph.initializer if len(t.dims) == 2}
    assert sizes == {32}  # weights alone


def test_inputs_in_structures_and_by_name():
    class Net(nn.Module):
        def forward(self, x, pair, *, scale):
            return {"sum": x + pair[0] * scale, "rest": [pair[1] - x]}

    x, y, z, s = (braze.randn(3) for _ in range(4))
    names = ["x", "y", "z", "scale"]
    outputs = ["total", "rest"]
    for args, kwargs in (((x, (y, z), {"scale": s}), None), ((x, (y, z)), {"scale": s})):
        proto = braze.onnx.export(
            Net(), args, input_names=names, output_names=outputs, kwargs=kwargs
        )
        assert [i.name for i in proto.graph.input] == names
        assert [o.name for o in proto.graph.output] == outputs
        total, rest = support.run(proto, [x, y, z, s])
        np.testing.assert_allclose(total, (x + y * s).numpy(), rtol=1e-6)
        np.testing.assert_allclose(rest, (z - x).numpy(), rtol=1e-6)


def test_outputs_that_are_the_same_or_an_input():
    def function(x):
        y = x * 2
        return y, y, x.view(4)

    x = braze.randn(2, 2)
    for result, expected in zip(
        support.run(braze.onnx.export(function, x), [x]), (x * 2, x * 2, x.view(4)), strict=True
    ):
        np.testing.assert_array_equal(result, expected.numpy())


# Open dimensions ----------------------------------------------------------------------------------


def test_sizes_are_computed_in_the_model():
    def function(x):
        n, t, c = x.shape
        y = x.reshape(n * t, c)[1:].reshape(-1)
        half = x[:, : t // 2]
        ramp = braze.arange(t).float() / t
        grid = braze.zeros(t, n, 2) + n
        return y, half, x.mean(1) * n, ramp, grid, x.transpose(0, 1).reshape(t, n, c).flip(0)

    dims = {0: "n", 1: "t"}
    proto = braze.onnx.export(
        function, braze.randn(2, 6, 3), input_names=["x"], dynamic_shapes=(dims,)
    )
    sizes = [(2, 6, 3), (1, 2, 3), (5, 7, 3), (4, 1, 3)]
    support.check_equal(function, proto, [(braze.randn(*s),) for s in sizes])
    found = [
        [d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim]
        for o in proto.graph.output
    ]
    assert found[0] == ["n*t*3 - 3"] and found[5] == ["t", "n", 3]


def test_a_batch_of_one_is_a_special_case_that_is_avoided():
    """Braze captures no expansion where a size is 1 already; the model has to have one."""

    def function(x, y):
        return y.expand(x.shape[0], 3) * 1.0

    x = braze.randn(1, 3)
    y = braze.randn(1, 3)
    axes = {"x": {0: "batch"}}
    proto = braze.onnx.export(function, (x, y), input_names=["x", "y"], dynamic_axes=axes)
    support.check_equal(function, proto, [(x, y), (braze.randn(4, 3), y)])


def test_one_dimension_of_several_inputs():
    def function(x, y):
        return braze.cat([x, y], 1).reshape(x.shape[0], -1, 1)

    x, y = braze.randn(2, 3), braze.randn(2, 4)
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    options = {"input_names": ["x", "y"], "dynamic_axes": axes}
    proto = braze.onnx.export(function, (x, y), **options)
    support.check_equal(function, proto, [(x, y), (braze.randn(5, 3), braze.randn(5, 4))])
    with pytest.raises(ValueError, match="'n' has the sizes 2 and 3"):
        braze.onnx.export(lambda x, y: (x.sum(), y.sum()), (x, braze.randn(3, 4)), **options)


def test_what_is_not_the_same_for_other_sizes_is_refused():
    def structure(x):
        for _ in range(x.shape[0]):
            x = x + 1.0
        return x

    def table(x):
        return x + braze.from_numpy(np.random.rand(x.shape[0]).astype("f"))

    def number(x):
        return x * (1.0 / (x.shape[0] + 0.5))

    def limit(x):
        return x + braze.ones(4)

    for function, text in (
        (structure, "other operations"),
        (table, "a tensor .* that depends on the sizes"),
        (number, "no simple function of the dynamic dimensions"),
        (limit, "n = "),
    ):
        with pytest.raises(ValueError, match=text):
            braze.onnx.export(
                function, braze.ones(4), input_names=["x"], dynamic_axes={"x": {0: "n"}}
            )
        braze.onnx.export(function, braze.ones(4))  # for one size there is a model


def test_sizes_that_are_tried_take_no_memory():
    """Open dimensions multiply; at a hundred times its size, this input would not fit."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    x = braze.zeros(16, 1024, 1024)  # 64 MiB
    axes = {"x": {0: "a", 1: "b", 2: "c"}}
    braze.onnx.export(lambda x: x.relu().sum(1), x, input_names=["x"], dynamic_axes=axes)
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert more < 512 * 1024  # KiB


# Files --------------------------------------------------------------------------------------------


def test_a_file(tmp_path):
    net = made("mlp")
    path = tmp_path / "mlp.onnx"
    path.write_bytes(b"what was there before")
    proto = braze.onnx.export(net, braze.zeros(2, 8), path)
    assert onnx.load(path) == proto
    assert [p.name for p in tmp_path.iterdir()] == ["mlp.onnx"]
    with open(tmp_path / "open.onnx", "wb") as file:
        braze.onnx.export(net, (braze.zeros(2, 8),), file)
    assert (tmp_path / "open.onnx").read_bytes() == path.read_bytes()
    with pytest.raises(RuntimeError):
        braze.onnx.export(lambda x: x * float(x.sum()), braze.ones(2), path)
    assert onnx.load(path) == proto


def test_external_data(tmp_path):
    net = made("mlp")
    path = tmp_path / "mlp.onnx"
    proto = braze.onnx.export(net, braze.zeros(2, 8), path, external_data=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mlp.onnx", "mlp.onnx.data"]
    onnx.checker.check_model(str(path))
    assert not any(t.raw_data for t in onnx.load(path, load_external_data=False).graph.initializer)
    x = braze.randn(2, 8)
    np.testing.assert_array_equal(support.run(str(path), [x])[0], support.run(proto, [x])[0])
    np.testing.assert_allclose(
        braze.onnx.load(path)(x).detach().numpy(), support.run(proto, [x])[0], rtol=1e-5, atol=1e-6
    )


def test_weights_as_inputs():
    net, x = made("mlp"), braze.zeros(2, 8)
    names = list(net.state_dict())
    bare = braze.onnx.export(net, x, export_params=False)
    assert [i.name for i in bare.graph.input] == ["input", *names]
    assert not bare.graph.initializer
    both = braze.onnx.export(net, x, keep_initializers_as_inputs=True)
    assert [i.name for i in both.graph.input] == ["input", *names]
    assert [t.name for t in both.graph.initializer] == names


def test_verbose_prints_the_graph(capsys):
    braze.onnx.export(made("mlp"), braze.zeros(2, 8), verbose=True)
    assert "Gemm" in capsys.readouterr().out


# Modes and errors ---------------------------------------------------------------------------------


def test_modes():
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Dropout(0.5)).train()
    net[2].eval()
    x = braze.randn(2, 3)
    proto = braze.onnx.export(net, x)
    assert [m.training for m in net.modules()] == [True, True, True, False]
    support.check_equal(net[0], proto, [(x,)])
    with pytest.raises(RuntimeError, match="draws random numbers"):
        braze.onnx.export(net, x, training=braze.onnx.TrainingMode.PRESERVE)
    with pytest.raises(ValueError, match="training=TRAINING is not supported"):
        braze.onnx.export(net, x, training=braze.onnx.TrainingMode.TRAINING)


def test_as_a_pytorch_program_calls_it(tmp_path):
    import braze as torch

    class Net(torch.nn.Module):
        def forward(self, x):
            self.seen = torch.onnx.is_in_onnx_export()
            return x.relu()

    net, x = Net(), torch.randn(2, 3)
    net(x)
    assert not net.seen
    torch.onnx.export(
        net,
        (x,),
        tmp_path / "net.onnx",
        export_params=True,
        opset_version=17,
        do_constant_folding=True,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        dynamo=False,
    )
    assert net.seen and not torch.onnx.is_in_onnx_export()
    support.check_equal(net, onnx.load(tmp_path / "net.onnx"), [(x,), (torch.randn(5, 3),)])


def test_operations_that_onnx_lacks_are_all_named():
    def function(x):
        return braze.linalg.svd(x @ x)[1], braze.inverse(x)

    with pytest.raises(braze.onnx.UnsupportedOperatorError) as raised:
        braze.onnx.export(function, braze.eye(3))
    assert "svd at " in str(raised.value) and "inverse at " in str(raised.value)
    assert "test_onnx_export.py" in str(raised.value)


def test_dtypes_that_an_operator_lacks():
    x = braze.ones(2, 2, dtype=braze.uint8)
    with pytest.raises(ValueError, match=r"no such operator .*MatMul.*uint8"):
        braze.onnx.export(lambda x: x @ x, x)


def test_values_that_are_read():
    with pytest.raises(RuntimeError, match="read a tensor's value"):
        braze.onnx.export(lambda x: x if x.sum() > 0 else -x, braze.ones(2))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"opset_version": 12}, "opset_version must be from 16 to 23, given 12"),
        ({"input_names": ["a", "b"]}, "2 input_names were given for 1 tensors"),
        ({"output_names": ["a", "b"]}, "2 output_names were given for 1"),
        ({"dynamic_axes": {"y": [0]}}, "'y', which is neither an input nor an output"),
        ({"dynamic_axes": {"input": {4: "n"}}}, "'input' has 2 dimensions, but 4 is dynamic"),
        ({"output_names": ["input"]}, "output name 'input' is another value's already"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(ValueError, match=text):
        braze.onnx.export(made("mlp"), braze.zeros(2, 8), **options)
