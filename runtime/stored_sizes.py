"""Code for many sizes on disk, so that a program's second start does not compile it again.

In: a disk cache, and the key of a family of graphs.  Out: a `Shelf`: the family's codes, each of
which is read once a graph is met that it serves.

An entry of the family lists its codes: the integers of the graphs as functions of the size, and the
sizes that are served. The machine code of each is an entry of its own. Where two processes add to
the list at once, one of them may be forgotten: it is made again then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from braze.ir.polynomials import Point, Polynomial
from braze.runtime.artifact import Artifact, layout_facts, layout_from
from braze.runtime.disk_cache import DiskCache
from braze.runtime.sized_texts import Fit, Text
from braze.runtime.symbolic_code import SymbolicCode, are_within

# What makes an artifact of its facts and objects; raises ValueError if they are of another form.
Reader = Callable[[dict[str, Any], tuple[bytes, ...]], Any]

_CODES_LISTED = 32


@dataclass(frozen=True, slots=True)
class Listed:
    """A code that the disk should have.

    Attributes:
        key: of its entry.
        numbers: the integers of the outline of one of its graphs.
        functions, places, seen, free: as a `Fit` has them.
        lowest, highest: the sizes that it serves.
    """

    key: str
    numbers: tuple[int, ...]
    functions: tuple[Polynomial, ...]
    places: tuple[tuple[int, ...], ...]
    seen: tuple[Point, ...]
    free: tuple[int, ...]
    lowest: Point
    highest: Point

    def fit(self, outline: Text) -> Fit | None:
        """The fit, if it describes a graph of the family of this outline."""
        if len(outline.numbers) != len(self.numbers):
            return None
        own = Text(outline.pieces, outline.form, self.numbers)
        fit = Fit(own, self.functions, self.places, self.seen, self.free)
        return None if fit.sizes_of(outline) is None else fit

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "key": self.key,
            "numbers": self.numbers,
            "functions": [own.terms for own in self.functions],
            "places": self.places,
            "seen": self.seen,
            "free": self.free,
            "lowest": self.lowest,
            "highest": self.highest,
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Listed:
        """What these facts tell.  Raises: ValueError, KeyError, TypeError if they are none."""
        numbers, free = _point(facts["numbers"]), _point(facts["free"])
        lowest, highest = _point(facts["lowest"]), _point(facts["highest"])
        functions = tuple(
            Polynomial(tuple((int(c), _point(exponents)) for c, exponents in terms))
            for terms in facts["functions"]
        )
        places = tuple(map(_point, facts["places"]))
        seen = tuple(map(_point, facts["seen"]))
        dims = len(lowest)
        points = [highest, *seen, *(e for own in functions for _, e in own.terms)]
        if any(len(point) != dims for point in points) or not seen:
            raise ValueError("sizes of different dimensions")
        if any(not 0 <= at < len(numbers) for own in places for at in own) or not all(places):
            raise ValueError("an integer that the graph has not")
        if any(not any(own.is_size(dim) for own in functions) for dim in free):
            raise ValueError("a size that no integer is")
        if len(functions) != len(places) or any(not 0 <= dim < dims for dim in free):
            raise ValueError("functions without places")
        key = str(facts["key"])
        return cls(key, numbers, functions, places, seen, free, lowest, highest)


class Shelf:
    """The codes of a family that the disk has and nobody has read yet.

    Args:
        key: of the family's entry.
        read: of the target's code.
    """

    def __init__(self, disk: DiskCache, key: str, read: Reader) -> None:
        self._disk, self._read = disk, read
        self._listed = _listed(disk, key)

    def take(self, outline: Text) -> tuple[SymbolicCode[Any], Point] | None:
        """Read the code that serves a graph of the family, given its outline; with the graph's
        size, or None if there is none."""
        for listed in list(self._listed):
            fit = listed.fit(outline)
            sizes = None if fit is None else fit.sizes_of(outline)
            if fit is None or sizes is None or not are_within(sizes, listed.lowest, listed.highest):
                continue
            self._listed.remove(listed)
            code = self._code(listed, fit)
            if code is not None:
                return code, sizes
        return None

    def _code(self, listed: Listed, fit: Fit) -> SymbolicCode[Any] | None:
        found = self._disk.load(listed.key)
        if found is None:
            return None
        facts, objects = found
        try:
            artifact, layout = self._read(facts["artifact"], objects), layout_from(facts["layout"])
        except (ValueError, KeyError, TypeError) as error:
            self._disk.discard(listed.key, f"it cannot be loaded: {error}")
            return None
        return SymbolicCode(fit, artifact, layout, listed.lowest, listed.highest, listed.key)


def keep_compiled(
    disk: DiskCache,
    key: str,
    family_key: str,
    artifact: Artifact,
    code: SymbolicCode[Artifact] | None,
) -> None:
    """Keep what compiling a graph came to.

    Args:
        key: of the entry for the graph alone.
        family_key: of its family's.
        artifact: the graph's. code: for other sizes as well, of which the artifact may be an
            instance; it is not for those then who want each size compiled for itself.
    """
    if code is not None:
        keep_code(disk, family_key, code)
    if not artifact.words:
        disk.store(key, artifact.facts(), artifact.objects)


def keep_code(disk: DiskCache, key: str, code: SymbolicCode[Any]) -> None:
    """Add code for many sizes to those of a family.

    Args:
        key: of the family's entry.
    """
    fit, artifact = code.fit.outline or code.fit, code.artifact
    numbers, functions = fit.text.numbers, fit.functions
    own = f"{numbers} {functions} {fit.places} {code.lowest} {code.highest}"
    own_key = f"code of {key} {sha256(own.encode()).hexdigest()}"
    objects = artifact.objects if isinstance(artifact, Artifact) else (artifact.cubin,)
    facts = {"artifact": artifact.facts(), "layout": layout_facts(code.layout)}
    disk.store(own_key, facts, objects)
    ends = code.lowest, code.highest
    made = Listed(own_key, numbers, functions, fit.places, fit.seen, fit.free, *ends)
    others = [
        other
        for other in _listed(disk, key)
        if other.key != own_key and disk.path(other.key).exists()
    ]
    listed = [made, *others][:_CODES_LISTED]
    disk.store(key, {"codes": [each.facts() for each in listed]}, [])


def _listed(disk: DiskCache, key: str) -> list[Listed]:
    """The codes of a family, the latest first."""
    found = disk.load(key)
    if found is None:
        return []
    try:
        return [Listed.from_facts(facts) for facts in found[0]["codes"]]
    except (ValueError, KeyError, TypeError) as error:
        disk.discard(key, f"it cannot be read: {error!r}")
        return []


def _point(plain: Sequence[Any]) -> tuple[int, ...]:
    """Integers.  Raises: TypeError, ValueError."""
    if not all(type(number) is int for number in plain):
        raise ValueError("a size that is no integer")
    return tuple(plain)
