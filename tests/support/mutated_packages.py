"""Load packages with wrong manifests whose hashes are right, and call what loads.

As a program: ``mutated_packages.py PACKAGE COUNT SEED KIND``, in a process of its own, as a package
that is wrongly taken may crash it.  Each line of its output begins with the number of a mutation.
"""

import json
import random
import struct
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np

from braze.runtime import PackageError, load
from braze.runtime.package_format import FORMAT, Archive, write_archive

VALUES = [
    0, 1, -1, 7, 1 << 31, 1 << 46, 1 << 60, 1 << 64, 1.5, "", "7", "x", "f32", "i64", "scalar",
    "data", None, True, [], [0], [-3, 4], [1 << 62, 0], [[]], {}, {"value": 1, "form": ["/", 1, 2]},
    {"value": 3, "form": ["affine", 0, -1, 1]}, {"value": 3, "form": ["//", 1, 0]},
]  # fmt: skip


def places_in(value, path=()):
    """The path of each value within a JSON value."""
    if path:
        yield path
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_in(item, (*path, key))


def mutate(value, rng):
    """Change one place; what was done, for people."""
    path = rng.choice(list(places_in(value)))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    key = path[-1]
    old, action = holder[key], rng.randrange(6)
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(old, list) and old:
        old.pop(rng.choice((0, -1)))
    elif action == 2 and isinstance(old, list) and old:
        old.append(old[-1])
    elif action == 3 and type(old) is int:
        holder[key] = old + rng.choice((1, -1, 64, -64))
    elif action == 4 and len(holder) > 1:
        other = rng.choice(list(holder if isinstance(holder, dict) else range(len(holder))))
        holder[key], holder[other] = holder[other], holder[key]
    else:
        holder[key] = rng.choice(VALUES)
    return f"{'.'.join(map(str, path))}: {str(old)[:60]} (action {action})"


def _place(data):
    """Where the manifest lies, as the file's comment says."""
    *_, offset, size, _ = data[-128:].split(b" ")
    return int(offset), int(size)


def with_manifest(data, manifest, weights=None):
    """A package's bytes with another manifest, or other weights, and hashes that fit these."""
    at, _ = _place(data)
    head, manifest = data[:at], json.loads(json.dumps(manifest))
    if weights is not None:
        head += bytes(-len(head) % 64)
        place = {"offset": len(head), "size": len(weights), "sha256": sha256(weights).hexdigest()}
        manifest["entries"]["weights.safetensors"] = place
        head += weights
    text = json.dumps(manifest).encode()
    comment = f"braze-package {FORMAT:04d} {len(head):016d} {len(text):016d} "
    return head + text + comment.encode() + sha256(text).hexdigest().encode()


def manifest_of(data):
    """What a package's bytes say, where its entries lie included."""
    offset, size = _place(data)
    return json.loads(data[offset : offset + size])


def mutations(data, kind, rng):
    """A package's bytes, wrong in one place, without end.

    kind: "manifest"; "weights" for their header.
    """
    while True:
        manifest, weights = manifest_of(data), None
        if kind == "manifest":
            text = mutate(manifest, rng)
        else:
            place = manifest["entries"]["weights.safetensors"]
            whole = data[place["offset"] :][: place["size"]]
            (length,) = struct.unpack("<Q", whole[:8])
            header = json.loads(whole[8 : 8 + length])
            text = mutate(header, rng)
            new = json.dumps(header, separators=(",", ":")).encode()
            new += b" " * (-(8 + len(new)) % 64)
            weights = struct.pack("<Q", len(new)) + new + whole[8 + length :]
        yield text, with_manifest(data, manifest, weights)


def resealed(archive, path, rng):
    """Write a package whose code was sealed for what is wrong of it."""
    manifest = json.loads(json.dumps(archive.manifest))
    text = mutate(manifest, rng)
    entries = {name: bytes(archive[name]) for name in archive._entries}
    write_archive(path, manifest, entries)
    return text


def main(path, count, seed, kind):
    path, rng = Path(path), random.Random(seed)
    data, file = path.read_bytes(), path.with_suffix(f".{kind}")
    model = load(path)
    given = [np.full(slot.shape, 0.5, slot.dtype.replace("f", "float")) for slot in model.inputs]
    wanted, archive = model(*given), Archive(path)
    made = mutations(data, kind, rng)
    for number in range(count):
        print(number, end=" ", flush=True)
        if kind == "resealed":
            text = resealed(archive, file, rng)
        else:
            text, changed = next(made)
            fresh = file.with_suffix(".new")  # the one before it is still mapped
            fresh.write_bytes(changed)
            fresh.replace(file)
        print(text, end=" ", flush=True)
        try:
            loaded = load(file)
        except PackageError as error:
            assert str(file) in str(error), error
            print("refused")
            continue
        if kind == "resealed":  # code does what it does when it is told it may
            print("taken")
            continue
        assert np.array_equal(loaded(*given), wanted)
        print("harmless")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
