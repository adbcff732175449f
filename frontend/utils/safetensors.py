"""`braze.utils.safetensors`: named tensors in safetensors files, as `safetensors.torch` does it.

In: a dict of names to tensors, or a module.  Out: files that any safetensors reader takes, or the
tensors. A file is written beside its place and renamed into it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from braze.devices import check_device
from braze.engine import replacing
from braze.ir import dtypes
from braze.ir.ops.strided import last_place
from braze.serialization.sources import real_path
from braze.tensors import Tensor, from_array
from braze.views import is_contiguous, layout_of, root_of

_DTYPES = {
    "BOOL": dtypes.bool_, "U8": dtypes.u8, "I8": dtypes.i8, "U16": dtypes.u16, "I16": dtypes.i16,
    "U32": dtypes.u32, "I32": dtypes.i32, "U64": dtypes.u64, "I64": dtypes.i64, "F16": dtypes.f16,
    "BF16": dtypes.bf16, "F32": dtypes.f32, "F64": dtypes.f64, "C64": dtypes.c64,
}  # fmt: skip


def save_file(
    tensors: dict[str, Tensor], filename: str | os.PathLike[str], metadata: Any = None
) -> None:
    """Save tensors to a file. A sync point.

    Args:
        metadata: names and texts that the file holds besides.

    Raises:
        ValueError: not a dict of tensors, or one is sparse, not contiguous or complex128.
        RuntimeError: some share memory; use `save_model`.
    """
    from safetensors.numpy import save_file as write

    arrays = _arrays(tensors)
    with replacing(real_path(filename)) as file:
        write(arrays, file.name, metadata=metadata)


def save(tensors: dict[str, Tensor], metadata: Any = None) -> bytes:
    """The bytes of such a file.  Raises: as `save_file`."""
    from safetensors.numpy import save as write

    return write(_arrays(tensors), metadata=metadata)


def load_file(filename: str | os.PathLike[str], device: Any = "cpu") -> dict[str, Tensor]:
    """The tensors in a file.

    Raises:
        safetensors.SafetensorError: it is damaged. FileNotFoundError.
    """
    from safetensors import safe_open

    check_device(device)
    with safe_open(os.fspath(filename), framework="np") as file:
        return {name: _tensor(file.get_tensor(name)) for name in file.keys()}


def load(data: bytes) -> dict[str, Tensor]:
    """The tensors in the bytes of a file.

    Raises:
        safetensors.SafetensorError: they are damaged. ValueError: a dtype that Braze has not.
    """
    from safetensors import deserialize

    loaded = {}
    for name, found in deserialize(data):
        if found["dtype"] not in _DTYPES:
            raise ValueError(f"tensor `{name}` has dtype {found['dtype']}, which Braze has not")
        # The dtype comes second: NumPy reads no bfloat16 from a buffer.
        array = np.frombuffer(found["data"], np.uint8).view(_DTYPES[found["dtype"]].numpy)
        loaded[name] = from_array(array.reshape(found["shape"]))
    return loaded


def save_model(
    model: Any,
    filename: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
    force_contiguous: bool = True,
) -> None:
    """Save a module's state; of tensors that are the same one, one is kept, and the metadata says
    which.

    Raises:
        RuntimeError: tensors share memory, and none is all of it.
    """
    state = dict(model.state_dict())
    notes = dict(metadata or {})
    for kept, others in _same(state).items():
        for name in others:
            notes.setdefault(name, kept)
            del state[name]
    if force_contiguous:
        state = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(state, filename, notes or None)


def load_model(
    model: Any, filename: str | os.PathLike[str], strict: bool = True, device: Any = "cpu"
) -> tuple[set[str], list[str]]:
    """Load a module's state from a file that `save_model` wrote.

    Returns:
        Names that the file lacks, and those that the model lacks.

    Raises:
        RuntimeError: there are such names, and `strict`.
    """
    loaded = load_file(filename, device)
    same = _same(model.state_dict(), loaded)
    result = model.load_state_dict(loaded, strict=False)
    missing, unexpected = set(result.missing_keys), list(result.unexpected_keys)
    for name in (name for others in same.values() for name in others):
        if name in missing:
            missing.remove(name)
        else:
            unexpected.append(name)
    if strict and (missing or unexpected):
        text = f"Error(s) in loading state_dict for {type(model).__name__}:"
        for title, names in (("Missing", missing), ("Unexpected", unexpected)):
            if names:
                quoted = ", ".join(f'"{name}"' for name in sorted(names))
                text += f"\n    {title} key(s) in state_dict: {quoted}"
        raise RuntimeError(text)
    return missing, unexpected


def _tensor(array: np.ndarray) -> Tensor:
    return from_array(array if array.flags.writeable else array.copy())


def _arrays(tensors: Any) -> dict[str, np.ndarray]:
    if not isinstance(tensors, dict):
        raise ValueError(f"Expected a dict of [str, Tensor] but received {type(tensors)}")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"Key `{name}` is invalid, expected a Tensor but received {type(tensor)}"
            )
        if tensor.is_sparse:
            raise ValueError(
                f"You are trying to save a sparse tensor: `{name}`, which this format does not "
                "have. You can make it a dense tensor before saving with `.to_dense()`."
            )
        if tensor.dtype is dtypes.c128:
            raise ValueError(f"tensor `{name}` is complex128, which this format does not have")
    shared = [names for names in _groups(tensors) if len(names) > 1]
    if shared:
        raise RuntimeError(
            "Some tensors share memory, this will lead to duplicate memory on disk and potential "
            f"differences when loading them again: {shared}. A potential way to correctly save "
            "your model is to use `save_model`."
        )
    for name, tensor in tensors.items():
        if not is_contiguous(tensor):
            raise ValueError(
                f"You are trying to save a non contiguous tensor: `{name}` which is not allowed; "
                "call `.contiguous()` on it to pack it before saving."
            )
    return {name: tensor.detach()._numpy() for name, tensor in tensors.items()}


def _span(tensor: Tensor) -> tuple[int, int]:
    """Where a tensor's bytes begin and end in its root's."""
    strides, offset = layout_of(tensor)
    size = tensor.dtype.itemsize
    return offset * size, (last_place(tensor.shape, strides, offset) + 1) * size


def _groups(tensors: dict[str, Tensor]) -> list[list[str]]:
    """The names, those of tensors that overlap in memory together."""
    by_root: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            by_root.setdefault(id(root_of(tensor)), []).append(name)
    groups = []
    for names in by_root.values():
        end = -1
        for name in sorted(names, key=lambda name: _span(tensors[name])):
            start, stop = _span(tensors[name])
            if start >= end:
                groups.append([name])
            else:
                groups[-1].append(name)
            end = max(end, stop)
    return groups


def _same(state: dict[str, Tensor], preferred: Iterable[str] = ()) -> dict[str, list[str]]:
    """For each name that is kept, those that show the same memory."""
    wanted = set(preferred)
    kept = {}
    for names in _groups(state):
        if len(names) < 2:
            continue
        whole = [name for name in names if _is_whole(state[name])]
        if not whole:
            raise RuntimeError(
                f"found no suitable name to keep for saving amongst: {set(names)}: none is "
                "covering the entire storage"
            )
        keep = min(whole, key=lambda name: (name not in wanted, name))
        kept[keep] = sorted(name for name in names if name != keep)
    return kept


def _is_whole(tensor: Tensor) -> bool:
    return layout_of(tensor).offset == 0 and tensor.numel() == root_of(tensor).numel()
