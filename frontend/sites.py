"""Where in the user's program an operation was called: file, line and the path of the layer.

Capturing an operation records only (code object, instruction), which costs a fraction of a
microsecond; files, lines and layer paths are worked out from it when something must be said.
"""

from __future__ import annotations

import linecache
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from braze.ir.graph import Location, Node

Site = tuple[CodeType, int]

# Not resolved: an editable installation may hold links, and code objects name those.
_HERE = str(Path(__file__).absolute().parent)


_thread = threading.local()


def describing() -> bool:
    """Whether this thread is in the middle of an operation and asks a layer for its text."""
    return getattr(_thread, "describing", False)


class _LibraryFiles(dict[str, bool]):
    """File name -> whether it belongs to the front end; computed once a file."""

    def __missing__(self, filename: str) -> bool:
        inside = filename.startswith(_HERE)
        self[filename] = inside
        return inside


is_library = _LibraryFiles()


def treat_as_user_code(filename: str) -> None:
    """Count one of the package's own files, such as the demo, as the user's program."""
    is_library[filename] = False


def user_site(depth: int = 2) -> Site:
    """The user's code object and instruction that led here, at least `depth` callers up.

    Each frame that is looked at costs as much as an object; those that are passed over do not.
    """
    try:
        frame = sys._getframe(depth)
    except ValueError:  # a thread that started in the front end
        frame = sys._getframe(1)
    code = frame.f_code
    while is_library[code.co_filename]:
        caller = frame.f_back
        if caller is None:
            break
        frame = caller
        code = frame.f_code
    return code, frame.f_lasti


class Warned:
    """How many warnings have been about to be given; to see whether a function gives one."""

    count = 0


def user_stacklevel() -> int:
    """The `stacklevel` with which the caller's `warnings.warn` names the user's line."""
    Warned.count += 1
    level, frame = 1, sys._getframe(1)
    while is_library[frame.f_code.co_filename] and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level


def line_of(site: Site) -> int:
    """Source line of an instruction."""
    code, instruction = site
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno


def location_of(site: Site, scope: str = "") -> Location:
    """The `Location` that goes into the graph."""
    return Location(site[0].co_filename, line_of(site), scope)


def location_in_run(node: Node, position: int, sites: Any) -> Location | None:
    """Where a graph's node was called in one of its runs. The node has the place of the run that
    captured it first.

    Args:
        position: the node's, in the graph.
        sites: what the runtime was given for this run: by position, a list or a function; or None.
    """
    first = node.location
    found: Location | None = None
    if sites is not None:
        found = sites(position) if callable(sites) else sites[position]
    if found is None:
        return first
    scope = first.scope if first is not None else ""
    return found if found.scope or not scope else Location(found.file, found.line, scope)


def current_scope() -> str:
    """Path of the innermost layer being called, such as ``net.features.0 (Conv2d(1, 32, ...))``; ""
    outside, and for what a layer computes for its own text."""
    if describing():
        return ""
    frame: FrameType | None = sys._getframe(1)
    modules: list[Any] = []
    while frame is not None:
        # Asking any other frame for its variables would keep what they hold now alive with it.
        if "__braze_module__" in frame.f_code.co_varnames:
            own = frame.f_locals.get("__braze_module__")
            if own is not None:  # a compiled module calls on before it is set
                modules.append(own)
        frame = frame.f_back
    if not modules:
        return ""
    modules.reverse()
    names = [type(modules[0]).__name__]
    for parent, child in zip(modules, modules[1:], strict=False):
        names.append(_name_inside(parent, child))
    _thread.describing = True
    try:
        settings = modules[-1].extra_repr()
    finally:
        _thread.describing = False
    return f"{'.'.join(names)} ({modules[-1]._get_name()}({settings}))"


def _name_inside(parent: Any, child: Any) -> str:
    for name, module in parent.named_modules():
        if module is child:
            return str(name)
    return type(child).__name__


def with_place(error: Exception, site: Site, scope: str) -> Exception:
    """The same error with the user's line, and the layer if there is one, added to its message."""
    location = location_of(site)
    text = linecache.getline(location.file, location.line).strip()
    place = f"{error}\n  at {location.file}:{location.line}" + (f": {text}" if text else "")
    if scope:
        place += f"\n  in {scope}"
    return type(error)(place)
