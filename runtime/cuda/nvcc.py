"""NVIDIA's compiler: from CUDA C to a cubin.

In: a source, and a GPU's target.  Out: machine code. PyCUDA runs the compiler where PyCUDA can be
loaded, which takes a GPU's driver; a machine without one, which makes packages for others, needs
nothing but nvcc itself.
"""

from __future__ import annotations

import functools
import importlib
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from braze.ir.target import Target
from braze.runtime.cuda.driver import CudaError, driver

OPTIONS = ("-std=c++17", "-O3")


def cubin_of(source: str, target: Target) -> bytes:
    """Compile a source for a GPU.

    Raises:
        CudaError: nvcc refuses the code or is missing.
    """
    try:
        refused = driver().CompileError
    except CudaError:
        return _run(source, target)
    compiler: Any = importlib.import_module("pycuda.compiler")
    try:
        # Kept on disk by us, and not by PyCUDA too.
        cubin: bytes = compiler.compile(
            source, options=list(OPTIONS), arch=target.cpu, no_extern_c=True, cache_dir=False
        )
    except refused as error:
        raise _refusal(error) from error
    except OSError as error:
        raise _missing(error) from error
    return cubin


def _run(source: str, target: Target) -> bytes:
    with tempfile.TemporaryDirectory(prefix="braze-nvcc-") as folder:
        given, made = Path(folder, "kernels.cu"), Path(folder, "kernels.cubin")
        given.write_text(source)
        command = ["nvcc", "--cubin", *OPTIONS, f"-arch={target.cpu}", "-o", str(made), str(given)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            raise _refusal(error.stderr) from None
        except OSError as error:
            raise _missing(error) from error
        return made.read_bytes()


@functools.cache
def architectures() -> frozenset[int] | None:
    """The compute capabilities that nvcc makes code for (80 for 8.0); None if it does not say."""
    try:
        command = ["nvcc", "--list-gpu-code"]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    # Those with a letter, as sm_90a, are for one GPU's own instructions.
    return frozenset(map(int, re.findall(r"^sm_(\d+)$", found, re.M))) or None


def _refusal(reason: Any) -> CudaError:
    return CudaError(f"nvcc refuses the generated code: {reason}")


def _missing(error: OSError) -> CudaError:
    return CudaError(
        f"cannot run nvcc ({error}); code for a GPU needs NVIDIA's CUDA toolkit on the PATH"
    )
