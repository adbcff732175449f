"""What a checkpoint consists of: the leaves of nested dicts, and where their elements are.

In: a state dict.  Out: its leaves by path, tensors as pieces of larger ones. A manifest names them
all, so that another number of ranks, with other pieces, can read what it needs:

    {"format": 1, "files": {name: bytes},
     "tensors": [{"path": [...], "dtype": "f32", "shape": [...],
                  "pieces": [{"file": ..., "name": ..., "offsets": [...], "shape": [...]}]}],
     "values": [{"path": [...], "value": ...}]}

Values are JSON; a tuple is {"tuple": [...]}, a dict {"dict": [[key, value], ...]}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as Folder
from typing import Any

from braze.tensors import Tensor

MANIFEST = "manifest.json"
FORMAT = 1

Path = tuple[Any, ...]
Ints = tuple[int, ...]


class Shard:
    """A piece of a tensor that is larger: what this rank has of it.

    Args:
        tensor: the piece.
        offsets: where it begins in the whole, along each dimension.
        shape: of the whole.

    Raises: ValueError if it reaches beyond the whole.
    """

    def __init__(self, tensor: Tensor, offsets: Sequence[int], shape: Sequence[int]) -> None:
        self.tensor = tensor
        self.offsets: Ints = tuple(offsets)
        self.shape: Ints = tuple(shape)
        own = tuple(tensor.shape)
        if not len(own) == len(self.offsets) == len(self.shape) or any(
            not 0 <= o <= o + n <= s for o, n, s in zip(self.offsets, own, self.shape, strict=True)
        ):
            raise ValueError(
                f"Shard: a piece of shape {own} at {self.offsets} is no part of a tensor of shape "
                f"{self.shape}"
            )


def shard_of(value: Tensor | Shard) -> Shard:
    """A tensor as a piece: all of itself."""
    if isinstance(value, Shard):
        return value
    return Shard(value, (0,) * value.ndim, tuple(value.shape))


def leaves_of(state: Mapping[Any, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The leaves of nested dicts with their paths; a dict without entries is one.

    Raises: TypeError for keys that are neither texts nor integers.
    """
    for key, value in state.items():
        if type(key) not in (str, int):
            raise TypeError(f"checkpoint: keys are texts or integers, given {key!r} in {path}")
        if isinstance(value, Mapping) and value:
            yield from leaves_of(value, (*path, key))
        else:
            yield (*path, key), value


def read_manifest(folder: Folder) -> dict[str, Any]:
    """What a checkpoint consists of.

    Raises:
        FileNotFoundError: there is no complete checkpoint.
        RuntimeError: it is damaged, or of another format.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no complete checkpoint in {folder}: it has no {MANIFEST}"
        ) from None
    except ValueError as error:
        raise RuntimeError(f"{folder / MANIFEST} is damaged: {error}") from None
    if manifest.get("format") != FORMAT:
        raise RuntimeError(
            f"{folder / MANIFEST} has format {manifest.get('format')}, expected {FORMAT}"
        )
    return manifest


def as_json(value: Any, path: Path) -> Any:
    """A value as the manifest has it.  Raises: TypeError if it cannot."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [as_json(item, path) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [as_json(item, path) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": [[as_json(k, path), as_json(v, path)] for k, v in value.items()]}
    raise TypeError(
        f"checkpoint: {named(path)} is a {type(value).__name__}; there may be tensors in dicts, "
        "and numbers, texts, lists, tuples and dicts of these"
    )


def from_json(value: Any) -> Any:
    """The value that `as_json` was given."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if isinstance(value, dict) and "tuple" in value:
        return tuple(from_json(item) for item in value["tuple"])
    if isinstance(value, dict):
        return {from_json(key): from_json(item) for key, item in value["dict"]}
    return value


def named(path: Path) -> str:
    """A path for people."""
    return ".".join(map(str, path))
