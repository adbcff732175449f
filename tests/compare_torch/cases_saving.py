"""Cases of saving and loading: each library reads what it wrote."""

import importlib
import io
import os
import tempfile
from collections import OrderedDict
from pathlib import Path

from compare_cases import DTYPES, VIEWS, case


class Point:
    """What no library allows by itself."""

    def __init__(self, x):
        self.x = x


def _written(m, value, **named):
    memory = io.BytesIO()
    m.save(value, memory, **named)
    memory.seek(0)
    return memory


def _again(m, value, zipped=True, **named):
    return m.load(_written(m, value, _use_new_zipfile_serialization=zipped), **named)


def _placed(m, x):
    return x.detach(), list(x.stride()), x.storage_offset(), len(x.storage()), x.requires_grad


@case("torch.save", "torch.load")
def saving(c, name):
    for dtype in (*DTYPES, "complex64", "complex128"):
        for zipped in (True, False):
            c(lambda m, x, z=zipped: _again(m, x.detach(), z), c.of(dtype, 2, 3), gradients=0)
    for view in VIEWS:
        c(lambda m, x: _placed(m, _again(m, x.detach())), c.f32(2, 3).seen(view), gradients=0)
    c(lambda m, x: _again(m, {"x": x, "steps": [1, 2.5, "a"], "y": (x, None)}), c.f32(2))
    c(lambda m, x: _again(m, OrderedDict(b=x, a=[x[0], {1, 2}, 1 + 2j, b"b"])), c.f32(2))
    c(lambda m, x: _again(m, m.nn.Parameter(x.detach())).requires_grad, c.f32(2))
    c(lambda m: list(_again(m, m.nn.Linear(3, 2).state_dict())))
    for where in ("cpu", {"cpu": "cpu"}, lambda storage, location: storage, lambda *_: None):
        c(lambda m, x, w=where: _again(m, x, map_location=w), c.f32(2))
    c(lambda m, x: _again(m, x, map_location=m.device("cpu")), c.f32(2))
    c(lambda m: _again(m, m.ones(2, requires_grad=True)).requires_grad)
    c(lambda m, x: _again(m, x, weights_only=False), c.f32(2))
    for zipped in (True, False):
        c(lambda m, x, z=zipped: _shared(m, x.detach(), z), c.f32(3, 4), gradients=0)
        c(lambda m, x, z=zipped: _again(m, x.to_sparse(), z).to_dense(), c.f32(2, 3), gradients=0)
    c(lambda m, x: _mapped(m, x), c.f32(3, 4), gradients=0)


def _shared(m, x, zipped):
    """Views share memory again."""
    turned, whole, part = _again(m, [x.t(), x, x[1:]], zipped)
    whole[1, 1] = 9.0
    return turned, whole, part


def _mapped(m, x):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pt"
        m.save(x.detach(), path)
        before = path.read_bytes()
        back = m.load(path, mmap=True)
        back.mul_(2)
        return back.clone(), path.read_bytes() == before


@case("torch.save", "torch.load")
def refusals(c, name):
    c.error(lambda m: m.load("no such file"))
    c.error(lambda m: m.load(3))
    c.error(lambda m: m.save(3))
    c.error(lambda m: m.save(3, 3))
    c.error(lambda m: m.save(3, "no such folder/x"))
    c.error(lambda m: _again(m, Point(1)))
    c.error(lambda m: _again(m, [m.ones(2), m.nn.Linear(2, 2)]))
    c.error(lambda m, x: _again(m, [x, x.view(m.int32)]), c.f32(2))
    c.error(lambda m, x: _again(m, x, map_location="tpu"), c.f32(2))
    c.error(lambda m, x: _again(m, x, map_location="cuda:0"), c.f32(2))
    c.error(lambda m: m.load(io.BytesIO(b"")))
    c.error(lambda m: m.load(io.BytesIO(b"PK\3\4" + b"\0" * 100)))
    c.error(lambda m: m.load(io.BytesIO(b"\x80\x02N.")))
    c.error(lambda m: m.load(_written(m, m.ones(2)), mmap=True))
    for at in (10, -100, -30):
        c.error(lambda m, at=at: m.load(io.BytesIO(_written(m, m.ones(9)).getvalue()[:at])))


@case(
    "torch.serialization.add_safe_globals",
    "torch.serialization.clear_safe_globals",
    "torch.serialization.get_safe_globals",
    "torch.serialization.safe_globals",
)
def safe_globals(c, name):
    c(lambda m: _allowed(m))
    c.error(lambda m: _refused_again(m))
    c(lambda m: _inside(m))
    c.error(lambda m: m.serialization.add_safe_globals(3))


def _allowed(m):
    m.serialization.add_safe_globals([Point])
    try:
        return _again(m, Point(m.ones(2))).x, Point in m.serialization.get_safe_globals()
    finally:
        m.serialization.clear_safe_globals()


def _refused_again(m):
    m.serialization.add_safe_globals([Point])
    m.serialization.clear_safe_globals()
    return _again(m, Point(1))


def _inside(m):
    with m.serialization.safe_globals([(Point, f"{Point.__module__}.Point")]):
        back = _again(m, Point(m.ones(2)))
    return back.x, Point in m.serialization.get_safe_globals()


@case("torch.serialization.get_unsafe_globals_in_checkpoint")
def unsafe_globals(c):
    def named(m, value):
        found = m.serialization.get_unsafe_globals_in_checkpoint(_written(m, value))
        return [n.endswith(".Point") for n in found if "Point" in n], len(found)

    c(lambda m: named(m, [m.ones(2), OrderedDict(a=1)]))
    c(lambda m: named(m, [m.ones(2), Point(1)]))


@case("torch.hub.load_state_dict_from_url", "torch.utils.model_zoo.load_url")
def downloads(c, name):
    def loaded(m, *, name=name, **named):
        with tempfile.TemporaryDirectory() as folder:
            m.save({"x": m.ones(2)}, f"{folder}/net-0123456789.pth")
            module = "hub" if name != "load_url" else "utils.model_zoo"
            load = getattr(importlib.import_module(f"{m.__name__}.{module}"), name)
            url = Path(folder, "net-0123456789.pth").as_uri()
            back = load(url, model_dir=f"{folder}/own", progress=False, **named)
            return back["x"], os.listdir(f"{folder}/own")

    c(lambda m: loaded(m))
    c(lambda m: loaded(m, file_name="other.pth", map_location="cpu"))
    c.error(lambda m: loaded(m, check_hash=True))


@case("torch.hub.download_url_to_file")
def files(c):
    def got(m, name="x", **named):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "x").write_bytes(b"abc")
            m.hub.download_url_to_file(
                Path(folder, name).as_uri(), f"{folder}/y", progress=False, **named
            )
            return Path(folder, "y").read_bytes() == b"abc"

    c(lambda m: got(m))
    c(lambda m: got(m, hash_prefix="ba7816bf"))
    c.error(lambda m: got(m, hash_prefix="00000000"))
    c.error(lambda m: got(m, name="none"))


@case("torch.hub.get_dir", "torch.hub.set_dir")
def folders(c, name):
    def moved(m):
        before = m.hub.get_dir()
        m.hub.set_dir("~/some")
        try:
            return m.hub.get_dir() == os.path.expanduser("~/some"), Path(before).name == "hub"
        finally:
            m.hub.set_dir(before)

    c(moved)
