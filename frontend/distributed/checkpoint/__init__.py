"""Checkpoints that all ranks write and read together, each its own part, with PyTorch's names."""

from braze.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    TensorStorageMetadata,
)
from braze.distributed.checkpoint.pieces import Shard
from braze.distributed.checkpoint.reading import load
from braze.distributed.checkpoint.storage import (
    DefaultLoadPlanner,
    DefaultSavePlanner,
    FileSystemReader,
    FileSystemWriter,
)
from braze.distributed.checkpoint.writing import save
from braze.distributed.checkpoint.writing_meanwhile import async_save

__all__ = [
    "BytesStorageMetadata",
    "ChunkStorageMetadata",
    "DefaultLoadPlanner",
    "DefaultSavePlanner",
    "FileSystemReader",
    "FileSystemWriter",
    "Metadata",
    "Shard",
    "TensorStorageMetadata",
    "async_save",
    "load",
    "save",
]
