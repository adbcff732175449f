"""The names at the package's top level that are about types, devices and interchange."""

from __future__ import annotations

from typing import Any

from braze import typed_storage
from braze.devices import device, get_default_device, set_default_device
from braze.dlpack import from_dlpack, to_dlpack
from braze.dtype_info import can_cast, finfo, iinfo
from braze.functions import interchange, tensor_types
from braze.layouts import NAMES as _LAYOUTS
from braze.printing import get_printoptions, set_printoptions


def set_flush_denormal(mode: bool) -> bool:
    """Ask for numbers below the normal range to become zero.

    Returns:
        Whether that is so now: compiled code keeps such numbers, so False if they shall be zero.
    """
    return not mode


def typename(obj: Any) -> str:
    """The name of an object's type; of a tensor, as `Tensor.type` gives it."""
    from braze.tensors import Tensor

    if type(obj) is Tensor or isinstance(obj, Tensor) and obj.is_sparse:
        return str(obj.type())
    kind = obj if hasattr(obj, "__qualname__") else type(obj)
    module = kind.__module__
    return kind.__qualname__ if module in ("", "builtins") else f"{module}.{kind.__qualname__}"


_OWN = (
    can_cast, device, finfo, from_dlpack, get_default_device, get_printoptions, iinfo,
    set_default_device, set_flush_denormal, set_printoptions, to_dlpack, typename,
    tensor_types.set_default_tensor_type, typed_storage.is_storage, typed_storage.TypedStorage,
)  # fmt: skip

NAMES: dict[str, Any] = {
    **{value.__name__: value for value in _OWN},
    **interchange.FUNCTIONS,
    **tensor_types.TYPES,
    **_LAYOUTS,
}
