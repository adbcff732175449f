"""Run a command with PyCUDA on the emulated CUDA driver: `python run.py COMMAND ARGUMENTS...`.

Without a command, only builds what is needed.
"""

import os
import sys

import build


def main() -> None:
    missing = build.why_not()
    if missing:
        sys.exit(missing)
    os.environ.update(build.environment())
    if len(sys.argv) > 1:
        os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
