"""C programs around exported models: written, compiled and run, under valgrind if wanted."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

COMPILER = next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)
VALGRIND = shutil.which("valgrind")
ARM_COMPILER, ARM_EMULATOR = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")
_STRICT = ("-std=c99", "-D_DEFAULT_SOURCE", "-g", "-Wall", "-Wextra", "-Werror", "-pedantic")
_CHECKED = ("-q", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=all",
            "--errors-for-leak-kinds=all")  # fmt: skip

# Arrays have exactly their size, so that valgrind sees what lies behind them. A model is called
# twice, since the first call is another way through the code.
_PROGRAM = """
#include "@NAME@.h"
#include <stdio.h>
#include <stdlib.h>

static void *get(const char *path, size_t bytes) {
  FILE *file = fopen(path, "rb");
  void *data = bytes ? malloc(bytes) : NULL;
  if (!file || (bytes && (!data || fread(data, 1, bytes, file) != bytes))) exit(90);
  fclose(file);
  return data;
}

static void put(const char *path, const void *data, size_t bytes) {
  FILE *file = fopen(path, "wb");
  if (!file || (bytes && fwrite(data, 1, bytes, file) != bytes)) exit(91);
  fclose(file);
}

int main(int count, char **words) {
  @NAME@_error error = {0, ""};
  @NAME@_model *model = @NAME@_create(count > 1 ? atoi(words[1]) : 1, &error);
  int code = error.code, call;
  (void)get;
  if (!model) {
    fprintf(stderr, "%s\\n", error.message);
    return code;
  }
  @NAME@_inputs inputs = { @INPUTS@ };
  @NAME@_outputs outputs = { @OUTPUTS@ };
  for (call = 0; call < 2; call++) {
    code = @NAME@_run(model, @SIZE@&inputs, &outputs, &error);
    if (code != error.code) return 92;
    if (code) fprintf(stderr, "%s\\n", error.message);
  }
  @PUT@
  @FREE@
  @NAME@_destroy(model);
  return code;
}
"""


def build(
    folder: Path,
    source: str,
    objects: Sequence[Path],
    name: str = "program",
    compiler: Sequence[str] = (COMPILER or "cc",),
) -> Path:
    """Compile a program, without a warning."""
    code, program = folder / f"{name}.c", folder / name
    code.write_text(source)
    command = [*compiler, *_STRICT, str(code), *map(str, objects), "-pthread", "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def run(
    program: Path, *words: str | int, checked: bool = False, on: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program in its folder; `checked`: under valgrind, which finds no fault; `on`: by an
    emulator."""
    command = [*on, str(program), *map(str, words)]
    if checked:
        assert VALGRIND is not None
        command = [VALGRIND, *_CHECKED, *command]
    done = subprocess.run(command, cwd=program.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode not in (90, 91, 92, 99), done.stderr
    assert done.returncode >= 0, f"signal {-done.returncode}: {done.stderr}"
    return done


def program_for(
    header: Path,
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    size: int | tuple[int, ...] | None = None,
    compiler: Sequence[str] = (COMPILER or "cc",),
) -> Path:
    """A program that runs a model on arrays; `outputs` tells their sizes."""
    name, folder = header.stem, header.parent
    for label, array in inputs.items():
        (folder / f"{label}.in").write_bytes(array.tobytes())
    parts = {
        "NAME": name,
        "SIZE": "".join(f"{n}, " for n in ((size,) if isinstance(size, int) else size or ())),
        "INPUTS": ", ".join(f'.{k} = get("{k}.in", {a.nbytes})' for k, a in inputs.items())
        or ".unused = NULL",
        "OUTPUTS": ", ".join(
            f".{k} = {f'malloc({a.nbytes})' if a.nbytes else 'NULL'}" for k, a in outputs.items()
        ),
        "PUT": "\n  ".join(f'put("{k}.out", outputs.{k}, {a.nbytes});' for k, a in outputs.items()),
        "FREE": "\n  ".join(
            [f"free((void *)inputs.{k});" for k in inputs]
            + [f"free(outputs.{k});" for k in outputs]
        ),
    }
    source = _PROGRAM
    for key, text in parts.items():
        source = source.replace(f"@{key}@", text)
    return build(folder, source, [header.with_suffix(".o")], f"{name}_program", compiler)


def results(folder: Path, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What such a program wrote."""
    return {
        name: np.frombuffer((folder / f"{name}.out").read_bytes(), np.uint8)
        .view(array.dtype)
        .reshape(array.shape)
        for name, array in outputs.items()
    }
