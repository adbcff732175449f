"""MNIST: the 10,000 digits in the package, and the IDX format of MNIST, Fashion-MNIST and others.

Comes in: `mnist-10k.npz` beside this file, or a folder of IDX files.  Goes out: NumPy arrays.
"""

import gzip
import importlib.resources
import math
import os
import zlib
from pathlib import Path

import numpy as np

# Source of the format: the description of the IDX files on MNIST's page.
IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def load_mnist() -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 real MNIST digits that come with the package.

    The order is fixed, and any prefix is class balanced: `images[:8000]` and `images[8000:]`
    make a training and a test set.

    Shape: images [10000, 28, 28] (0 = paper, 255 = ink), labels [10000].
    dtype: both uint8.

    >>> images, labels = load_mnist()
    >>> images.shape, images.dtype.name, labels[:5].tolist()
    ((10000, 28, 28), 'uint8', [0, 6, 2, 8, 7])
    """
    resource = importlib.resources.files("braze.datasets") / "mnist-10k.npz"
    with resource.open("rb") as file, np.load(file) as arrays:
        return arrays["images"], arrays["labels"]


def load_idx(
    directory: str | os.PathLike[str], train: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """One half of a data set in MNIST's own files, as MNIST and Fashion-MNIST are published.

    Args:
        directory: holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two
            `t10k-` files, each with or without `.gz`.
        train: the training set, or else the test set.

    Shape: images [n, height, width], labels [n].
    dtype: both uint8.

    Raises:
        FileNotFoundError: a file is absent; the message names the folder and the names tried.
        ValueError: a file is not IDX, is truncated, or the two do not belong together.
    """
    part = "train" if train else "t10k"
    images_path = _find(Path(directory), f"{part}-images-idx3-ubyte")
    labels_path = _find(Path(directory), f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    for path, array, rank in ((images_path, images, 3), (labels_path, labels, 1)):
        if array.ndim != rank or array.dtype != np.uint8:
            raise ValueError(
                f"{path}: expected {rank} dimensions of uint8, "
                f"found {array.dtype.name}{list(array.shape)}"
            )
    if len(images) != len(labels):
        raise ValueError(
            f"{len(images)} images in {images_path}, {len(labels)} labels in {labels_path}"
        )
    return images, labels


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in one IDX file, gzipped or not, in the machine's byte order.

    Raises:
        ValueError: bad magic number, unknown element type, or not the size the header tells.
    """
    data = _read(Path(path))
    if len(data) < 4 or data[:2] != b"\0\0":
        start = data[:4].hex(" ") or "nothing"
        raise ValueError(f"{path}: not an IDX file (it starts with {start})")
    code, rank = data[2], data[3]
    if code not in IDX_TYPES:
        raise ValueError(f"{path}: unknown IDX element type 0x{code:02x}")
    header = 4 + 4 * rank
    if len(data) < header:
        raise ValueError(f"{path}: truncated, {len(data)} bytes of a header of {header}")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", rank, offset=4))
    dtype = np.dtype(IDX_TYPES[code])
    expected = header + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        fault = "truncated" if len(data) < expected else "too long"
        raise ValueError(f"{path}: {fault}, {len(data)} bytes where {list(shape)} needs {expected}")
    array = np.frombuffer(data, dtype, offset=header).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged or truncated gzip data ({error})") from error


def _find(directory: Path, name: str) -> Path:
    names = (name, f"{name}.gz")
    for candidate in names:
        if (directory / candidate).is_file():
            return directory / candidate
    raise FileNotFoundError(f"no {' or '.join(names)} in {directory}")
