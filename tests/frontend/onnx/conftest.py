"""Without the package onnx there is nothing to test here. This folder has its name, so that it must
not be taken for the package."""

import importlib.util

_found = importlib.util.find_spec("onnx")
if _found is None or _found.origin is None:
    collect_ignore_glob = ["test_*"]
