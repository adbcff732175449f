"""Run many random programs and compare each with its replay; see `tests/support/programs.py`.

    python tests/long_programs.py --count 100000 --jobs 2
    python tests/long_programs.py --first 4711 --count 1      # one program again

Programs are numbered, and a number and `--seed` always give the same program, so that a run can be
stopped and gone on with later (`--first`). A program that fails is shrunk and printed as Python
that can be run by itself. The exit status is 1 if one did.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

CHUNK = 500  # programs of one process: what it keeps of them is given back with it
MOST_STEPS = 18


def genes_of(seed: int, number: int) -> list[bytes]:
    """The genes of a program."""
    from programs import GENES

    rng = random.Random(f"{seed} {number}")
    return [rng.randbytes(GENES) for _ in range(rng.randint(4, MOST_STEPS))]


# One process --------------------------------------------------------------------------------------


def work(seed: int, first: int, count: int) -> int:
    """Check some programs; prints a line for each, and what fails. Returns how many failed."""
    import faulthandler

    sys.path.insert(0, str(Path(__file__).parent / "support"))
    from programs import check_all, make, settings, simplest

    faulthandler.enable()
    failed = 0
    with settings():
        for number in range(first, first + count):
            print(f"at {number}", flush=True)
            genes = genes_of(seed, number)
            error = _error_of(genes, check_all)
            if error is not None:
                failed += 1
                kind = type(error)
                small = simplest(genes, lambda g: type(_error_of(g, check_all)) is kind)  # noqa: B023
                final = _error_of(small, check_all) or error
                source = "" if "The program:" in str(final) else make(small).source()
                print(f"program {number} of seed {seed}: {kind.__name__}: {final}\n{source}")
                print(f"genes: {[gene.hex() for gene in small]}", flush=True)
    return failed


def _error_of(genes: list[bytes], check: object) -> Exception | None:
    try:
        check(genes)  # type: ignore[operator]
    except Exception as error:
        return error
    return None


# All of them --------------------------------------------------------------------------------------


class Run:
    """Hands chunks of programs to processes and counts.

    Attributes:
        done: programs that were checked. failed: those that differ, or end the process.
    """

    def __init__(self, seed: int, first: int, count: int) -> None:
        self.seed, self.end = seed, first + count
        self.next = first
        self.done = self.failed = 0
        self.lock = threading.Lock()
        self.start = time.monotonic()

    def drain(self) -> None:
        """Work on chunks until none are left."""
        while True:
            with self.lock:
                first = self.next
                self.next = min(first + CHUNK, self.end)
                count = self.next - first
            if not count:
                return
            while count:
                reached = self._chunk(first, count)
                first, count = reached, count - (reached - first)
            with self.lock:
                rate = self.done / (time.monotonic() - self.start)
                print(
                    f"{self.done} programs up to number {self.next - 1}, {self.failed} failed, "
                    f"{rate:.1f} a second",
                    flush=True,
                )

    def _chunk(self, first: int, count: int) -> int:
        """One process; returns the number of the program to go on with."""
        command = [sys.executable, "-W", "ignore", __file__, "--work"]
        command += ["--seed", str(self.seed), "--first", str(first), "--count", str(count)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        at = first
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("at "):
                at = int(line[3:])
            else:
                print(line, end="", flush=True)
        status = process.wait()
        died = status not in (0, 1)
        with self.lock:
            self.done += at - first + 1
            self.failed += status != 0
        if died:
            print(f"program {at} of seed {self.seed} ended the process: status {status}")
        return at + 1


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Compare random programs with their replay.")
    parser.add_argument("--count", type=int, default=100_000, help="how many programs")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first program")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return int(work(options.seed, options.first, options.count) > 0)
    run = Run(options.seed, options.first, options.count)
    threads = [threading.Thread(target=run.drain) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{run.done} programs, {run.failed} failures, {time.monotonic() - run.start:.0f} s")
    return int(run.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
