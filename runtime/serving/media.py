"""The kinds of bodies: which one a request has, and which one its answer gets.

JSON, NPY (one array) and NPZ (several). A request may call NPY and NPZ `application/octet-stream`;
its first bytes then say which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from braze.runtime.serving import json_bodies, numpy_bodies
from braze.runtime.serving.faults import RequestFault
from braze.runtime.serving.signature import Signature

JSON = "application/json"
NPY = "application/x-npy"
NPZ = "application/x-npz"
OCTETS = "application/octet-stream"
_KINDS = (JSON, NPY, NPZ, OCTETS)


def kind_of(content_type: str) -> str:
    """The kind of a request's body.  Raises: RequestFault 415."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in _KINDS:
        raise RequestFault(
            415, f"Content-Type must be one of {', '.join(_KINDS)}, given {kind[:80] or 'none'}"
        )
    return kind


def answer_kind(accept: str, request_kind: str, signature: Signature) -> str:
    """The kind of the answer: what `Accept` prefers, else that of the request, where NPY stands for
    NPZ if the results are several.

    Raises: RequestFault 406.
    """
    arrays = NPY if signature.structure == 0 else NPZ
    own = request_kind if request_kind in (JSON, NPZ) else arrays
    if not accept.strip():
        return own
    best, wanted = 0.0, ""
    for part in accept.split(","):
        name, *parameters = (text.strip().lower() for text in part.split(";"))
        weight = _weight(parameters)
        if name in ("*/*", "application/*"):
            name = own
        elif name == OCTETS:
            name = arrays
        if name in (JSON, NPZ, arrays) and weight > best:
            best, wanted = weight, name
    if not wanted:
        offered = ", ".join(dict.fromkeys((JSON, arrays, NPZ)))
        raise RequestFault(406, f"the answer can be {offered}, accepted is {accept[:80]}")
    return wanted


def decoded(body: bytes, kind: str, signature: Signature, most_bytes: int) -> list[np.ndarray]:
    """A request's arrays, in the order of inputs; `most_bytes` after unpacking.

    Raises: RequestFault.
    """
    if kind == OCTETS:
        if body.startswith(numpy_bodies.MAGIC):
            kind = NPY
        elif body.startswith(numpy_bodies.ZIP_MAGIC):
            kind = NPZ
        else:
            raise RequestFault(400, "the body is neither an NPY array nor an NPZ archive")
    if kind == NPY:
        return numpy_bodies.read_npy(body, signature)
    if kind == NPZ:
        return numpy_bodies.read_npz(body, signature, most_bytes)
    return json_bodies.read_json(body, signature)


def encoded(
    results: Sequence[np.ndarray],
    kind: str,
    signature: Signature,
    arrange: Callable[[Sequence[Any]], Any],
) -> bytes:
    """The body of an answer."""
    if kind == NPY:
        return numpy_bodies.write_npy(results[0])
    if kind == NPZ:
        return numpy_bodies.write_npz(results, signature)
    return json_bodies.write_json(results, arrange)


def _weight(parameters: Sequence[str]) -> float:
    for text in parameters:
        name, _, value = text.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
