"""What processes that use shared memory may leave behind."""

import gc
import os
from pathlib import Path


def shared_files() -> set[str]:
    """The shared files of this process and of processes that have ended.

    Those of others that run are none of a test's business: they may be another run of the tests.
    """
    names = (name for name in os.listdir("/dev/shm") if name.startswith("braze-"))
    return {name for name in names if _is_ours(int(name.split("-")[1]))}


def _is_ours(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return pid == os.getpid() or state == "Z"


def descriptors() -> list[str]:
    """What this process has open of shared memory."""
    gc.collect()
    paths = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    found = [os.readlink(path) for path in paths if os.path.lexists(path)]
    return sorted(name for name in found if "braze" in name)


def cleaners(mark: str) -> list[str]:
    """The processes that remove shared files of programs whose environment holds the mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"shared_cleaner" in (folder / "cmdline").read_bytes():
                if mark.encode() in (folder / "environ").read_bytes():
                    found.append(folder.name)
        except OSError:
            continue
    return found
