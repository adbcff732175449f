"""Build the emulated CUDA driver and PyCUDA, into a cache by content, and say how to run on them.

    environment() -> the variables that a process needs to run PyCUDA on the emulated driver
    activate()    makes this process one that runs on it, before PyCUDA is imported
    why_not()     what is missing on this machine, or None

What is built: the driver's library (`libcuda.so.1`) from driver/, NVIDIA's library of collectives
(`libnccl.so.2`), which stands on it, from nccl/, a folder with the stand-in `nvcc`
and its headers, and PyCUDA from its source on PyPI, unmodified, with the packages that it needs.
CUDA's headers come from NVIDIA's wheels on PyPI, so that nothing of CUDA has to be installed.
All of it lies in $BRAZE_TEST_CACHE, or ~/.cache/braze-tests, and is built once: about two minutes,
most of it PyCUDA, and some 20 seconds after the emulator itself was changed.
"""

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYCUDA = "pycuda==2026.1"
KEPT_SECONDS = 3 * 24 * 3600
HEADERS = (
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-profiler-api==13.0.85",
)


def cache_folder() -> Path:
    return Path(os.environ.get("BRAZE_TEST_CACHE") or Path.home() / ".cache/braze-tests")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Several processes of one test run may want to build: one does, the others wait."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with open(cache_folder() / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def forget_unused(name: str) -> None:
    """Each change of the emulator makes a folder: those that nobody used lately go."""
    for folder in cache_folder().glob(f"{name}-*"):
        if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def built(
    name: str,
    key: str,
    build: Callable[[Path], None],
    finish: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """The folder `name`-`hash of key` of the cache; `build` fills it if it is not there.

    It is filled under another name. `finish` does what depends on its name, and may be missing.
    """
    target = cache_folder() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if target.is_dir():
        os.utime(target)
        return target
    with locked(name):
        if not target.is_dir():
            forget_unused(name)
            partial = Path(tempfile.mkdtemp(prefix=f"{name}-partial-", dir=cache_folder()))
            try:
                build(partial)
                partial.chmod(0o755)
                partial.rename(target)
                finish(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return target


def run(*command: str | Path, **options: object) -> None:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


def pip(*arguments: str | Path, **options: object) -> None:
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, **options)


def download_wheels(requirements: tuple[str, ...], target: Path) -> None:
    """Unpacks the wheels into the folder; they are data here, and are not installed."""
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "--no-deps", "--only-binary", ":all:", "--dest", folder, *requirements)
        for wheel in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(wheel) as file:
                file.extractall(target)


def headers() -> Path:
    """CUDA's include folder."""
    folder = built("cuda-headers", " ".join(HEADERS), lambda to: download_wheels(HEADERS, to))
    return folder / "nvidia/cu13/include"


def sources() -> dict[str, bytes]:
    files = [
        HERE / "build.py",
        HERE / "nvcc.py",
        *(HERE / "driver").rglob("*"),
        *(HERE / "device").rglob("*"),
        *(HERE / "nccl").rglob("*"),
    ]
    return {str(f.relative_to(HERE)): f.read_bytes() for f in sorted(files) if f.is_file()}


def driver() -> Path:
    """A folder with libcuda.so.1, bin/nvcc, and the headers and the script that nvcc uses."""
    files = sources()
    compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True).stdout
    python = os.path.realpath(sys.executable)  # a virtual environment may be gone when it is called

    def build(to: Path) -> None:
        for name, content in files.items():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_bytes(content)
        units = [*sorted((to / "driver").glob("*.cpp")), *sorted((to / "nccl").glob("*.cpp"))]
        command = ["g++", "-std=c++20", "-O2", "-g1", "-fPIC", "-c", "-Wno-deprecated-declarations"]
        jobs = [
            subprocess.Popen([*command, "-isystem", headers(), unit, "-o", unit.with_suffix(".o")])
            for unit in units
        ]
        codes = [job.wait() for job in jobs]
        if any(codes):
            raise RuntimeError("the emulated CUDA driver does not compile")
        objects, nccl = (
            [unit.with_suffix(".o") for unit in units if unit.parent.name == name]
            for name in ("driver", "nccl")
        )
        # Of its own names none may stand in for those of another library.
        exports = to / "exports"
        exports.write_text("{ global: cu*; braze_*; __tsan_*; __ubsan_*; __wrap_*; local: *; };")
        link = ["-shared", "-Wl,-soname,libcuda.so.1", f"-Wl,--version-script={exports}"]
        run("g++", *link, "-o", to / "libcuda.so.1", *objects, "-ldl")
        (to / "libcuda.so").symlink_to("libcuda.so.1")  # the name that PyCUDA's build links
        exports.write_text("{ global: nccl*; local: *; };")
        link[1] = "-Wl,-soname,libnccl.so.2"
        run("g++", *link, "-o", to / "libnccl.so.2", *nccl, "-L", to, "-lcuda", "-lrt")
        (to / "bin").mkdir()
        nvcc = to / "bin/nvcc"
        script = 'exec "{}" -I -S "$(dirname "$0")/../nvcc.py" "$@"'
        nvcc.write_text(f"#!/bin/sh\n{script.format(python)}\n")
        nvcc.chmod(0o755)

    def finish(folder: Path) -> None:
        for checks in "01":
            variables = {"BRAZE_EMULATED_HEADERS": str(headers()), "BRAZE_EMULATED_CHECKS": checks}
            run(folder / "bin/nvcc", "--prepare", env={**os.environ, **variables})

    return built("cuda-driver", repr((files, compiler, HEADERS, python)), build, finish)


def pycuda() -> Path:
    """A folder for sys.path with PyCUDA and what it needs, linked with `libcuda.so.1`."""

    def build(to: Path) -> None:
        with tempfile.TemporaryDirectory() as home:
            # PyCUDA's setup reads its configuration from this file.
            Path(home, ".aksetup-defaults.py").write_text(
                f"CUDA_ROOT = {str(headers().parent)!r}\n"
                "CUDA_ENABLE_CURAND = False\n"
                f"CUDADRV_LIB_DIR = [{str(driver())!r}]\n"
                'CXXFLAGS = ["-O1", "-g0"]\n'
            )
            variables = {**os.environ, "HOME": home}
            pip("wheel", "--no-deps", "--no-binary", "pycuda", "--wheel-dir", home, PYCUDA,
                env=variables)  # fmt: skip
            pip("install", "--target", to, *Path(home).glob("pycuda*.whl"))

    key = f"{PYCUDA} {HEADERS} {sys.version}"
    return built("pycuda", key, build)


def real_gpu() -> bool:
    """Whether the system's own driver works: then nothing is emulated."""
    program = "import ctypes; raise SystemExit(ctypes.CDLL('libcuda.so.1').cuInit(0))"
    variables = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True)
    return done.returncode == 0


def why_not() -> str | None:
    """Why the emulator cannot be built here, or None."""
    for tool in ("g++", "addr2line"):
        if not shutil.which(tool):
            return f"the emulated CUDA driver needs {tool}, which is not installed"
    return None


def environment() -> dict[str, str]:
    """The variables to set for a process that runs PyCUDA on the emulated driver."""
    folder = driver()
    # PyCUDA writes its cache's files in place, so processes that run at once have one each.
    cubins = folder / f"cubins-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    cubins.mkdir(exist_ok=True)
    variables = {
        "BRAZE_EMULATED_HEADERS": str(headers()),
        "BRAZE_EMULATED_LIBRARY": str(folder),
        "BRAZE_EMULATED_VERSION": folder.name,
        "PYCUDA_CACHE_DIR": str(cubins),
    }
    for name, first in (
        ("PATH", folder / "bin"),
        ("LD_LIBRARY_PATH", folder),
        ("PYTHONPATH", pycuda()),
    ):
        before = os.environ.get(name)
        variables[name] = f"{first}{os.pathsep}{before}" if before else str(first)
    return variables


def activate() -> None:
    """Make this process one that runs on the emulated driver. Comes before `import pycuda`."""
    if str(driver()) in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        return  # started by run.py
    variables = environment()
    # A library of this name is loaded already when PyCUDA asks for it, so no path is searched, and
    # the programs that this process starts have no device unless they are given one.
    ctypes.CDLL(str(driver() / "libcuda.so.1"))
    del variables["LD_LIBRARY_PATH"], variables["PYTHONPATH"]
    os.environ.update(variables)
    sys.path.append(str(pycuda()))


if __name__ == "__main__":
    for variable, value in environment().items():
        print(f"export {variable}='{value}'")
