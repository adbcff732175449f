"""Where a program spends its time: `python -m braze.utils.bottleneck program.py arguments`.

The program runs once under Python's profiler, which shows the time that Python takes, and once
under `autograd.profiler`, which shows the graphs that were compiled and run.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

USAGE = "usage: python -m braze.utils.bottleneck program.py [arguments]"
ROWS = 15


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a program twice and print where the time went.

    Returns:
        The exit status: 2 for a wrong use of the command.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or not Path(given[0]).is_file():
        print(USAGE if not given else f"there is no file {given[0]}", file=sys.stderr)
        return 2
    file = given[0]
    code = compile(Path(file).read_bytes(), file, "exec")
    before, path = sys.argv, list(sys.path)
    sys.argv = given
    sys.path.insert(0, str(Path(file).resolve().parent))
    try:
        _print_environment()
        _title("cProfile output")
        python = cProfile.Profile()
        python.runcall(_run, code, file)
        pstats.Stats(python).sort_stats("tottime").print_stats(ROWS)
        _title("autograd profiler output")
        print(_graphs(code, file))
    finally:
        sys.argv, sys.path[:] = before, path
    return 0


def _run(code: Any, file: str) -> None:
    from braze.capture import flush

    try:
        exec(code, {"__name__": "__main__", "__file__": file})
    except SystemExit as end:
        if end.code:
            raise
    flush()


def _graphs(code: Any, file: str) -> str:
    from braze.autograd import profiler

    with profiler.profile() as found:
        _run(code, file)
    return str(found.key_averages().table(sort_by="cpu_time_total", row_limit=ROWS))


def _print_environment() -> None:
    from braze.utils.collect_env import get_pretty_env_info

    _title("Environment summary")
    print(get_pretty_env_info())


def _title(text: str) -> None:
    print(f"\n{'-' * 80}\n  {text}\n{'-' * 80}")


if __name__ == "__main__":
    sys.exit(main())
