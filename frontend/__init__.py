"""Braze: deep learning that feels eager and is compiled underneath.

``import braze`` costs next to nothing: a name is loaded when it is first used. Sub-packages such as
`braze.runtime` can therefore be imported without the front end, which is how ahead-of-time packages
run.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = (
    "accelerator amp aot array_api as_torch attached autograd backends bisection capture casting "
    "codegen compiled copying cuda datasets devices distributed distributions dlpack dtype_info "
    "engine fft func functions futures handle hub inspection ir layouts legacy linalg "
    "multiprocessing nn onnx optim passes placing printing public_types random removable "
    "return_types runtime serialization settings shared_updates sharing sites sizes sparse "
    "special strides structure tensors testing tracing trie typed_storage utils version views "
    "wrapped_errors"
).split()


def __getattr__(name: str) -> Any:
    if name == "__array_namespace_info__":
        return importlib.import_module("braze.array_api").__array_namespace_info__
    if name.startswith("__"):
        raise AttributeError(name)
    if name in _MODULES:
        return importlib.import_module(f"braze.{name}")
    api = importlib.import_module("braze.api")
    if name not in api.__all__:
        raise AttributeError(f"module 'braze' has no attribute {name!r}")
    value = getattr(api, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    api = importlib.import_module("braze.api")
    return sorted({*globals(), *_MODULES, *api.__all__})
