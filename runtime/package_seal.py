"""What ties a package's code to everything that is said of it.

Code trusts whoever calls it: with the wrong shapes, or an arena that is too small, it writes
outside of its arrays.  So each file of machine code ends in a seal, a digest of itself, its name,
the manifest and the hashes of all other entries.  Tools that read objects ignore what lies behind
them.  It is no signature: whoever writes other code can seal it.

In: an entry's bytes and a package's `binding`.  Out: the bytes with their seal, and back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

_MARK = b"braze-seal"
SEAL_BYTES = len(_MARK) + sha256().digest_size
FOLDER = "code/"  # whose entries are sealed


def is_sealed(name: str) -> bool:
    """Whether an entry of this name is machine code."""
    return name.startswith(FOLDER)


def binding(manifest: Mapping[str, Any], hashes: Mapping[str, str | list[str]]) -> bytes:
    """A digest of what code is tied to: the manifest without entries, other entries' hashes."""
    return sha256(json.dumps([manifest, hashes]).encode()).digest()


def sealed(bound: bytes, name: str, code: bytes) -> bytes:
    """Code with its seal behind it."""
    return code + _seal(bound, name, code)


def unsealed(bound: bytes, name: str, data: memoryview) -> memoryview | None:
    """The code of what `sealed` gave, in place; None if it belongs to something else."""
    code, seal = data[:-SEAL_BYTES], data[-SEAL_BYTES:]
    return code if seal == _seal(bound, name, code) else None


def _seal(bound: bytes, name: str, code: bytes | memoryview) -> bytes:
    digest = sha256(bound + len(name).to_bytes(8, "little") + name.encode())
    digest.update(code)
    return _MARK + digest.digest()
