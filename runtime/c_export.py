"""Export a package for programs without Python: a C header, an object file, a shared library.

In: a package.  Out: ``NAME.h`` and ``NAME.o``, or ``NAME.so`` too.  The package's own objects are
used as they are, so a C program computes the same numbers as Python, to the bit. They become one
object with the weights, the thread pool, and the functions of `braze.codegen.llvm.c_driver`; it
needs nothing but the C library and threads.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from braze.ir.errors import said_by_check
from braze.ir.polynomials import Interpolation
from braze.ir.symint import value_at
from braze.ir.target import Target
from braze.runtime.artifact import Artifact, FailureSite, Slot
from braze.runtime.c_header import (
    PARAMETERS,
    Array,
    Header,
    distinct,
    identifier,
    is_identifier,
    output_names,
)
from braze.runtime.cpu import host_target
from braze.runtime.elf_writer import Block, Unit, merge
from braze.runtime.executable import place
from braze.runtime.files import replacing
from braze.runtime.package_codes import (
    Dynamic,
    SizedCode,
    arguments_in,
    code_of,
    require_codes,
    sized_code_of,
)
from braze.runtime.package_facts import require_code, require_manifest, require_structure
from braze.runtime.package_format import UNSOUND, Archive, PackageError
from braze.runtime.package_targets import target_of
from braze.runtime.symbolic_code import are_within
from braze.runtime.weights import unpack_weights

_ALIGNMENT = 64
# Code reaches data by signed 32-bit distances.
_MOST_WEIGHTS = (1 << 31) - (1 << 26)
_COMPILERS = ("cc", "gcc", "clang")


@dataclass(frozen=True, slots=True)
class Exported:
    """The files that were written; `library` is None unless it was asked for."""

    header: Path
    object: Path
    library: Path | None


def export_c(
    package: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    name: str | None = None,
    target: str | None = None,
    shared: bool = False,
) -> Exported:
    """Write a C interface for a package; see `braze.aot.export_c`."""
    path, folder = Path(package), Path(directory)
    name = identifier(path.stem) if name is None else name
    if not is_identifier(name):
        raise ValueError(f"[export_c] name {name!r} is no C identifier")
    archive = Archive(path)
    try:
        contents = _read(archive, target)
    except PackageError:
        raise
    except UNSOUND as error:
        # The hashes are right, so this is how it was written.
        raise PackageError(f"{path} cannot be exported: {error!r}") from error
    header, data = _exported(contents, name)
    folder.mkdir(parents=True, exist_ok=True)
    files = Exported(folder / f"{name}.h", folder / f"{name}.o", None)
    if shared:
        library = folder / f"{name}.so"
        linked = _linked(data, library.name)
        with replacing(library) as file:
            file.write(linked)
        library.chmod(0o755)
        files = replace(files, library=library)
    with replacing(files.object) as file:
        file.write(data)
    with replacing(files.header) as file:
        file.write(header.encode())
    return files


# What of the package is used ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Build:
    """A package's code for a target."""

    target: Target
    codes: list[SizedCode[Artifact]]


@dataclass(frozen=True, slots=True)
class _Contents:
    """What is exported: `names` are those of the arguments, `builds` the best first."""

    model: str
    version: str
    names: list[str]
    structure: str
    dynamic: Dynamic | None
    builds: list[_Build]

    @property
    def codes(self) -> list[SizedCode[Artifact]]:
        return [code for build in self.builds for code in build.codes]


def _read(archive: Archive, wanted: str | None) -> _Contents:
    """Raises: PackageError; KeyError, ValueError and others if the manifest has another form."""
    manifest = archive.manifest
    require_manifest(manifest)
    names: list[str] = manifest["inputs"]
    dynamic = Dynamic.of(manifest["dynamic"], names) if "dynamic" in manifest else None
    weights = dict(unpack_weights(archive["weights.safetensors"]))
    builds = []
    for entry in manifest["targets"]:
        target = target_of(entry)
        if target.is_gpu:
            continue
        if dynamic is not None:
            codes = [sized_code_of(archive, code, weights) for code in entry["codes"]]
            require_codes(codes, dynamic, names)
        else:
            artifact, own = code_of(archive, entry, weights)
            require_code(artifact, names, own)
            codes = [SizedCode((), (), artifact, None, own)]
        builds.append(_Build(target, codes))
    found = _Contents(
        manifest["name"], manifest["braze"], names, manifest["structure"], dynamic,
        _chosen(archive.path, builds, wanted),
    )  # fmt: skip
    require_structure(json.loads(found.structure), len(found.codes[0].artifact.outputs))
    for code in found.codes:
        _require_native(found.model, code.artifact)
    return found


def _chosen(path: Path, builds: list[_Build], wanted: str | None) -> list[_Build]:
    """The one that is wanted, or all for one architecture: this machine's if there are several."""
    names = ", ".join(build.target.name for build in builds) or "GPUs only"
    if wanted is not None:
        chosen = [build for build in builds if build.target.name == wanted]
    else:
        architectures = {build.target.architecture for build in builds}
        if len(architectures) > 1:
            architectures = {host_target().architecture}
        chosen = [build for build in builds if build.target.architecture in architectures]
    if not chosen:
        wanted = wanted or host_target().architecture
        raise PackageError(f"[export_c] {path} has no code for {wanted}, but for {names}")
    # As `braze.runtime.package` chooses: of equals the last.
    chosen.sort(key=lambda b: (b.target.vector_bits, len(b.target.features)))
    return chosen[::-1]


def _require_native(model: str, artifact: Artifact) -> None:
    """Raise PackageError if the code calls NumPy."""
    if not artifact.calls:
        return
    import braze.ir.ops  # noqa: F401  (the parser looks operations up)
    from braze.ir.loops import HostCall
    from braze.ir.loops_parser import parse_kernel

    call = parse_kernel(artifact.calls[0].text)
    assert isinstance(call, HostCall)
    raise PackageError(
        f"[export_c] the model {model} computes {call.op.name} with NumPy, which a program without "
        f"Python has not{place(call.location)}"
    )


# The header and the object ------------------------------------------------------------------------


def _exported(contents: _Contents, name: str) -> tuple[str, bytes]:
    """The header's text and the object's bytes."""
    from braze.codegen.llvm.c_driver import LIBRARY, MOST_THREADS, baseline
    from braze.codegen.llvm.c_reports import CODES, MESSAGE_BYTES
    from braze.codegen.llvm.c_sizes import Dimension
    from braze.codegen.llvm.c_tables import Given, Model, model_text, public_symbols
    from braze.codegen.llvm.compile import compile_object
    from braze.codegen.llvm.pool import POOL_SYMBOLS, pool_object

    weights = _Weights()
    units: list[Unit] = []
    variants = [_variant(build, contents.names, weights, units) for build in contents.builds]
    dims = () if contents.dynamic is None else contents.dynamic.dims
    called = distinct([dim.name for dim in dims], set(PARAMETERS))
    dimensions = [
        Dimension(own, dim.lowest, dim.highest) for own, dim in zip(called, dims, strict=True)
    ]
    taken = {own.lower() for own in called}
    results = output_names(contents.structure, len(contents.codes[0].artifact.outputs))
    inputs = _arrays(distinct(contents.names, taken), contents.codes, arguments_in)
    outputs = _arrays(distinct(results, taken), contents.codes, lambda c: c.artifact.outputs)
    targets = [build.target.name for build in contents.builds]
    header = Header(
        name, contents.model, contents.version, targets, inputs, outputs, CODES, MESSAGE_BYTES,
        MOST_THREADS, dimensions,
    )  # fmt: skip
    takes, gives = (
        [Given(a.name, a.alignment, a.is_empty) for a in own] for own in (inputs, outputs)
    )
    table = Model(name, takes, gives, dimensions, variants)
    plain = baseline(contents.builds[0].target.architecture)
    public = public_symbols(name)
    units.append(Unit([pool_object(plain)], {symbol: symbol for symbol in POOL_SYMBOLS}))
    units.append(Unit([compile_object(model_text(table), plain)], {own: own for own in public}))
    return header.text(), merge(units, [weights.block()], public, LIBRARY)


def _arrays(
    names: Sequence[str],
    codes: Sequence[SizedCode[Artifact]],
    slots_of: Callable[[SizedCode[Artifact]], Sequence[Slot]],
) -> list[Array]:
    """Inputs or outputs, for all sizes."""
    return [
        Array(name, own[0].dtype, _shape([slot.shape for slot in own], codes))
        for name, own in zip(names, zip(*map(slots_of, codes), strict=True), strict=True)
    ]


def _shape(shapes: Sequence[tuple[int, ...]], codes: Sequence[SizedCode]) -> tuple[int, ...]:
    """One shape for all sizes: through those of the codes."""
    spans = [
        range(min(code.lowest[dim] for code in codes), max(code.highest[dim] for code in codes) + 1)
        for dim in range(len(codes[0].lowest))
    ]
    near = Interpolation([span[:3] for span in spans])
    known = {
        sizes: [value_at(extent, sizes) for extent in shape]
        for shape, code in zip(shapes, codes, strict=True)
        for sizes in (*code.corners(), *near.points)
        if are_within(sizes, code.lowest, code.highest)
    }
    extents = []
    for at in range(len(shapes[0])):
        found = near.through([known[sizes][at] for sizes in near.points])
        if found is None or any(found.at(sizes) != own[at] for sizes, own in known.items()):
            raise PackageError(
                f"[export_c] the extents of an array are no simple function of the sizes, as "
                f"{known[near.points[0]][at]} in dimension {at}"
            )
        extents.append(found.symbol(near.points[0]))
    return tuple(extents)


# Tables -------------------------------------------------------------------------------------------


class _Weights:
    """The arrays that code reads, each once, one behind the other."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, int], int] = {}
        self._pieces: list[bytes | memoryview] = []
        self._size = 0

    def offset(self, array: np.ndarray) -> int:
        """Where an array begins."""
        # Arrays of several codes are one if they are one entry of the package.
        key = array.__array_interface__["data"][0], array.nbytes
        found = self._places.get(key)
        if found is None:
            found = self._places[key] = self._size
            data = array.tobytes()
            fill = -len(data) % _ALIGNMENT or (0 if data else _ALIGNMENT)
            self._pieces += [data, bytes(fill)]
            self._size += len(data) + fill
            if self._size > _MOST_WEIGHTS:
                raise PackageError(
                    f"[export_c] the weights take more than {_MOST_WEIGHTS} bytes, which is the "
                    "most that one object can hold"
                )
        return found

    def block(self) -> Block:
        return Block("weights", self._pieces or [bytes(_ALIGNMENT)], _ALIGNMENT)


def _variant(build: _Build, names: Sequence[str], weights: _Weights, units: list[Unit]) -> Any:
    """A build's tables; adds its objects to `units`."""
    from braze.codegen.llvm.c_tables import Code, Variant

    codes = []
    for code in build.codes:
        artifact = code.artifact
        main = f"main{len(units)}"
        units.append(Unit(artifact.objects, {artifact.main: main}))
        sources, given = [], 0
        for slot in artifact.inputs:
            if slot.name in code.weights:
                sources.append(-1 - weights.offset(code.weights[slot.name]))
            else:
                sources.append(given)
                given += 1
        if given != len(names):
            raise ValueError(f"the code takes {given} inputs, the package {len(names)}")
        failures = [_failure(site) for site in artifact.failures]
        memory = artifact.arena_bytes, artifact.scratch_bytes
        codes.append(Code(code.lowest, code.highest, main, sources, code.layout, *memory, failures))
    return Variant(build.target, codes)


def _failure(site: FailureSite) -> Any:
    from braze.codegen.llvm.c_tables import Failure

    text = said_by_check(site.message)
    operation = site.message.partition("!")[0]
    return Failure(text, operation, place(site.location), site.low, site.high)


# A shared library ---------------------------------------------------------------------------------


def _linked(data: bytes, name: str) -> bytes:
    """The object as a shared library, by the system's C compiler.

    Raises: FileNotFoundError: there is none. RuntimeError: it failed; the message has its own.
    """
    given = shlex.split(os.environ.get("CC", ""))
    found = given or [path for path in map(shutil.which, _COMPILERS) if path is not None][:1]
    if not found or shutil.which(found[0]) is None:
        tried = given[0] if given else ", ".join(_COMPILERS)
        raise FileNotFoundError(
            f"[export_c] a shared library needs a C compiler to link it, found none: {tried}; "
            "CC names another"
        )
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "model.o"), Path(folder, name)
        source.write_bytes(data)
        command = [*found, "-shared", "-o", str(made), str(source), "-pthread",
                   f"-Wl,-soname,{name}", "-Wl,-z,defs,-z,text"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"[export_c] {found[0]} cannot link {name}:\n{done.stderr.strip()}")
        return made.read_bytes()
