"""`braze.hub`: saved states from the network, kept in a folder.

A file is downloaded beside its place, checked, and renamed into it: what is in the folder is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from braze.engine import replacing
from braze.serialization.loading import load
from braze.serialization.locations import MapLocation

_CHUNK = 1 << 17
_HASH = re.compile(r"-([a-f0-9]{8,64})\.")
_folder: list[str] = []


def get_dir() -> str:
    """The folder that downloads are kept in: what `set_dir` set, or `$BRAZE_HOME/hub`, where
    BRAZE_HOME is `$XDG_CACHE_HOME/braze` (`~/.cache/braze`) by default."""
    if _folder:
        return _folder[0]
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("BRAZE_HOME") or os.path.join(cache, "braze")
    return os.path.join(os.path.expanduser(home), "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    """Set the folder that downloads are kept in."""
    _folder[:] = [os.path.expanduser(os.fspath(d))]


def download_url_to_file(
    url: str, dst: str | os.PathLike[str], hash_prefix: str | None = None, progress: bool = True
) -> None:
    """Download a file (by http, https, ftp, or from a file: URL).

    Args:
        dst: where to; replaced once the download is whole and right.
        hash_prefix: how the file's SHA-256 must begin, in hexadecimal.
        progress: show it on standard error.

    Raises:
        RuntimeError: the hash is another, or the connection ends too early.
        urllib.error.URLError: it is not there.
    """
    from urllib.request import Request, urlopen

    path = Path(os.path.expanduser(os.fspath(dst)))
    digest = hashlib.sha256()
    with urlopen(Request(url, headers={"User-Agent": "braze.hub"})) as source:
        size = source.headers.get("Content-Length")
        total = int(size) if size else None
        with replacing(path) as file:
            done = 0
            while data := source.read(_CHUNK):
                file.write(data)
                digest.update(data)
                done += len(data)
                _show(progress, path.name, done, total)
            if total is not None and done != total:
                raise RuntimeError(f"{url} ended after {done} of {total} bytes")
            found = digest.hexdigest()
            if hash_prefix is not None and not found.startswith(hash_prefix.lower()):
                raise RuntimeError(f'invalid hash value (expected "{hash_prefix}", got "{found}")')


def _show(progress: bool, name: str, done: int, total: int | None) -> None:
    if progress and sys.stderr.isatty():
        part = f" {100 * done // total}%" if total else ""
        end = "\n" if done == total else ""
        sys.stderr.write(f"\r{name}: {done >> 20} MiB{part}{end}")
        sys.stderr.flush()


def load_state_dict_from_url(
    url: str,
    model_dir: str | None = None,
    map_location: MapLocation = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = True,
) -> Any:
    """Load what is saved at a URL; it is downloaded once.

    Args:
        model_dir: where it is kept; the folder `checkpoints` in `get_dir()` by default.
        map_location, weights_only: as `braze.load`. Unlike PyTorch's function this one does not
            trust what it downloads.
        check_hash: the file's name ends in `-<hash>.<extension>`, the first eight or more digits of
            its SHA-256; check it.
        file_name: what it is called there; by default as in the URL.

    Raises:
        RuntimeError: the hash is another. Also as `download_url_to_file` and `braze.load`.
    """
    folder = os.path.join(get_dir(), "checkpoints") if model_dir is None else model_dir
    with contextlib.suppress(FileExistsError):  # if it is no folder, opening the file says so
        os.makedirs(folder)
    name = file_name or os.path.basename(urlparse(url).path)
    if not name:
        raise ValueError(f"{url} names no file; give file_name")
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        print(f'Downloading: "{url}" to {path}', file=sys.stderr)
        found = _HASH.search(name) if check_hash else None
        download_url_to_file(url, path, found[1] if found else None, progress)
    return load(_unpacked(path), map_location, weights_only=weights_only)


def _unpacked(path: str) -> Any:
    """The only file in an ordinary zip file, as early versions of PyTorch packed them; else the
    path."""
    if not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("data.pkl") for entry in entries):
            return path
        if len(entries) != 1:
            raise RuntimeError("Only one file(not dir) is allowed in the zipfile")
        import io

        return io.BytesIO(archive.read(entries[0]))
