"""The digits in the package and the reader of IDX files."""

import gzip
import hashlib
import importlib.util
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from braze.datasets import load_idx, load_mnist, read_idx

ROOT = Path(__file__).resolve().parents[2]


def converter():
    path = ROOT / "examples/mnist/convert_data.py"
    spec = importlib.util.spec_from_file_location("convert_data", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def idx_bytes(array: np.ndarray, code: int = 0x08) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def folder(tmp_path):
    """A small data set in MNIST's files: training gzipped, test plain."""
    images = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    labels = np.array([3, 1, 4, 1, 5], dtype=np.uint8)
    compressed = gzip.compress(idx_bytes(images))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(compressed)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(images[:2]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(labels[:2]))
    return tmp_path


def test_the_digits_are_those_that_were_converted():
    images, labels = load_mnist()
    assert images.shape == (10000, 28, 28) and images.dtype == np.uint8
    assert labels.shape == (10000,) and labels.dtype == np.uint8
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert digest in (ROOT / "frontend/datasets/DATA.md").read_text()
    assert tuple(np.bincount(labels)) == converter().CLASS_COUNTS


@pytest.mark.parametrize("size", [100, 5000, 8000])
def test_every_prefix_is_class_balanced(size):
    _, labels = load_mnist()
    share = np.bincount(labels, minlength=10) * size / len(labels)
    assert np.abs(np.bincount(labels[:size], minlength=10) - share).max() <= 1


def test_the_pictures_show_digits():
    """The class means tell the classes apart, so pictures and labels belong together."""
    images, labels = load_mnist()
    flat = images.reshape(len(images), -1).astype(np.float32)
    means = np.stack([flat[:8000][labels[:8000] == digit].mean(axis=0) for digit in range(10)])
    distance = (means**2).sum(axis=1) - 2 * flat[8000:] @ means.T
    assert (distance.argmin(axis=1) == labels[8000:]).mean() > 0.75


def test_conversion_gives_back_the_bytes_of_a_rounded_picture(tmp_path):
    original = np.arange(784, dtype=np.uint8)
    text = json.dumps({"data": [round(float(value) / 255, 3) for value in original]}).encode()
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("package/src/digits/7.json")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    with tarfile.open(tmp_path / "a.tgz") as archive:
        images = converter().read_digit(archive, 7)
    np.testing.assert_array_equal(images, original.reshape(1, 28, 28))


def test_load_idx_reads_gzipped_and_plain_files(folder):
    images, labels = load_idx(folder)
    assert images.shape == (5, 4, 3) and images[4, 3, 2] == 59 and images.flags.writeable
    assert labels.tolist() == [3, 1, 4, 1, 5]
    images, labels = load_idx(folder, train=False)
    assert images.shape == (2, 4, 3) and labels.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x09, np.int8), (0x0B, np.int16), (0x0C, np.int32), (0x0D, np.float32), (0x0E, np.float64)],
)
def test_read_idx_reads_every_element_type(tmp_path, code, dtype):
    array = np.array([[1, -2, 3], [4, 5, 100]], dtype=dtype)
    (tmp_path / "array").write_bytes(idx_bytes(array, code))
    read = read_idx(tmp_path / "array")
    assert read.dtype == dtype and read.dtype.isnative
    np.testing.assert_array_equal(read, array)


GOOD = idx_bytes(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file"),
        (b"PK\3\4" + GOOD, "not an IDX file (it starts with 50 4b 03 04)"),
        (b"\0\0\x07" + GOOD[3:], "unknown IDX element type 0x07"),
        (GOOD[:9], "truncated, 9 bytes of a header of 12"),
        (GOOD[:-1], "truncated, 17 bytes where [2, 3] needs 18"),
        (GOOD + b"\0", "too long, 19 bytes where [2, 3] needs 18"),
        (b"\0\0\x08\3" + b"\xff" * 12, "truncated, 16 bytes"),
        (gzip.compress(GOOD, mtime=0)[:-9], "damaged or truncated gzip data"),
        (b"\x1f\x8b" + GOOD, "damaged or truncated gzip data"),
    ],
)
def test_read_idx_says_what_is_wrong(tmp_path, data, message):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        read_idx(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_load_idx_refuses_files_that_do_not_belong_together(folder):
    labels = folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.zeros(3, dtype=np.uint8)))
    with pytest.raises(ValueError, match="2 images in .* 3 labels in"):
        load_idx(folder, train=False)
    labels.write_bytes(idx_bytes(np.zeros((2, 1), dtype=np.uint8)))
    with pytest.raises(ValueError, match=r"expected 1 dimensions of uint8, found uint8\[2, 1\]"):
        load_idx(folder, train=False)


def test_load_idx_names_the_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train-images-idx3-ubyte or .*\.gz in"):
        load_idx(tmp_path)
