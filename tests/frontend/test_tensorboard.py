"""`SummaryWriter`: what the event file holds, read back by the package that wrote it."""

import struct
import sys
import zlib

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.graph_pb2 import GraphDef

import braze
from braze import nn
from braze.utils.tensorboard import SummaryWriter
from braze.utils.tensorboard.pictures import png

pytestmark = pytest.mark.usefixtures("interpret")


def events(folder):
    """The events in a folder's file; each record is a length, a checksum, the data, another."""
    (file,) = folder.glob("events*")
    data, at = file.read_bytes(), 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + size])
        at += 16 + size


def summaries(folder):
    return {v.tag: (e.step, v) for e in events(folder) for v in e.summary.value}


def pixels_of(data):
    """The bytes of a PNG file without filters."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(name + body)
        chunks[name] = body
        at += 12 + size
    width, height = struct.unpack(">2I", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any() and list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    return rows[:, 1:].reshape(height, width, -1)


def test_numbers_texts_and_pictures(tmp_path):
    picture = braze.rand(3, 4, 5)
    with SummaryWriter(tmp_path) as writer:
        assert writer.get_logdir() == writer.log_dir == str(tmp_path)
        writer.add_scalar("loss", braze.tensor(2.5, requires_grad=True), 3)
        writer.add_scalar("lr", 0.5, 4, walltime=12.0)
        writer.add_scalars("both", {"x": braze.tensor(1), "y": 2.0}, 1)
        writer.add_histogram("weights", braze.arange(8, dtype=braze.bfloat16), 1, bins=4)
        writer.add_image("picture", picture, 2)
        writer.add_image("gray", braze.zeros(4, 5, dtype=braze.uint8), dataformats="HW")
        writer.add_images("several", [picture, picture])
        writer.add_text("note", "hello", 2)
        writer.add_pr_curve("curve", braze.tensor([0, 1]), braze.tensor([0.25, 0.75]))
        writer.add_embedding(braze.rand(3, 2), ["a", "b", "c"])
        writer.add_hparams(
            {"lr": 0.1, "n": braze.tensor(3)}, {"acc": braze.tensor(0.5)}, run_name="h"
        )
        writer.flush()
    found = summaries(tmp_path)
    assert found["loss"][0] == 3 and found["loss"][1].simple_value == 2.5
    assert found["lr"][1].simple_value == 0.5
    assert [e.wall_time for e in events(tmp_path) if e.step == 4] == [12.0]
    histogram = found["weights"][1].histo
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (0, 7, 8, 28)
    image = found["picture"][1].image
    assert (image.height, image.width, found["picture"][0]) == (4, 5, 2)
    expected = (picture.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    np.testing.assert_array_equal(pixels_of(image.encoded_image_string), expected)
    assert not pixels_of(found["gray"][1].image.encoded_image_string).any()
    assert found["several"][1].image.width >= 10
    assert b"hello" in found["note/text_summary"][1].tensor.string_val[0]
    assert {"curve"} <= found.keys() and (tmp_path / "projector_config.pbtxt").exists()
    assert summaries(tmp_path / "both" / "x")["both"][1].simple_value == 1.0
    assert summaries(tmp_path / "h")["acc"][1].simple_value == 0.5
    with pytest.raises(RuntimeError, match="Scalar"):
        writer.add_scalar("x", braze.ones(2))
    with pytest.raises(NotImplementedError, match="hparam_domain_discrete"):
        writer.add_hparams({}, {}, {"x": [1]})


def test_the_graph(tmp_path, capsys):
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with SummaryWriter(tmp_path) as writer:
        writer.add_graph(model, braze.ones(4, 3), verbose=True)
        with pytest.raises(TypeError, match="input"):
            writer.add_graph(model)
        with pytest.raises(RuntimeError, match="single graph"):
            writer.add_graph(lambda x: x * x.sum().item(), braze.ones(2))
    (data,) = [e.graph_def for e in events(tmp_path) if e.graph_def]
    nodes = {node.name: node for node in GraphDef.FromString(data).node}
    linear = nodes["Sequential/0/linear_0"]
    assert list(linear.input) == ["data/input", "param/0/weight", "param/0/bias"]
    shape = linear.attr["_output_shapes"].list.shape[0]
    assert [dim.size for dim in shape.dim] == [4, 2]
    assert list(nodes["output/0"].input) == ["Sequential/1/relu_1"]
    assert "linear(%input" in capsys.readouterr().out


def test_a_picture_with_alpha():
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(pixels_of(png(pixels)), pixels)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"braze\[tensorboard\]"):
        SummaryWriter("never")
