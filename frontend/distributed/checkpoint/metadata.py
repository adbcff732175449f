"""What a checkpoint has, with PyTorch's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from braze.distributed.checkpoint.pieces import Ints, named
from braze.ir.dtypes import DType, dtype_named


@dataclass(frozen=True)
class ChunkStorageMetadata:
    """A piece of a tensor: where it begins, and its shape."""

    offsets: Ints
    sizes: Ints


@dataclass(frozen=True)
class TensorProperties:
    """What a tensor's elements are."""

    dtype: DType


@dataclass(frozen=True)
class TensorStorageMetadata:
    """A tensor: its elements, its shape, and the pieces that files have."""

    properties: TensorProperties
    size: Ints
    chunks: list[ChunkStorageMetadata]


@dataclass(frozen=True)
class BytesStorageMetadata:
    """A value that is no tensor."""


@dataclass(frozen=True)
class Metadata:
    """Everything in a checkpoint, by its keys with dots between them."""

    state_dict_metadata: dict[str, TensorStorageMetadata | BytesStorageMetadata]


def metadata_of(manifest: Mapping[str, Any]) -> Metadata:
    """What a manifest says."""
    found: dict[str, TensorStorageMetadata | BytesStorageMetadata] = {
        named(tuple(entry["path"])): BytesStorageMetadata() for entry in manifest["values"]
    }
    for entry in manifest["tensors"]:
        chunks = [
            ChunkStorageMetadata(tuple(piece["offsets"]), tuple(piece["shape"]))
            for piece in entry["pieces"]
        ]
        found[named(tuple(entry["path"]))] = TensorStorageMetadata(
            TensorProperties(dtype_named(entry["dtype"])), tuple(entry["shape"]), chunks
        )
    return Metadata(found)
