"""Measure Braze and its peers side by side: ``python benchmarks/run.py [names or groups]``.

Every peer runs in a process of its own with the same number of threads. They take turns in short
rounds, so that what else the machine does hits all alike; a peer's figure is the minimum over the
rounds' medians, and what is compared are ratios. Peers that are not installed are left out and
named. `docs/performance.md` says how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.measuring import Run
from benchmarks.peers import PEERS
from benchmarks.processes import Setting
from benchmarks.report import report
from benchmarks.suite import CPU, GROUPS, chosen

QUICK_PEERS = ("braze", "braze.compile", "braze.aot", "torch")


def arguments(command: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    groups = "; ".join(f"{name}: {about}" for name, about in GROUPS.items())
    parser.add_argument(
        "names", nargs="*", help=f"workloads, families (conv3x3_64) or groups ({groups}); all"
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, help="default: all that are installed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default=CPU, help="cpu (default), cuda or cuda:N")
    parser.add_argument("--rounds", type=int, help="default 7; 2 with --quick")
    parser.add_argument("--seconds", type=float, help="of each turn; default 0.5, quick 0.1")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--markdown", type=Path, help="where to write the tables as Markdown")
    parser.add_argument("--log", type=Path, help="where to write what the peers print")
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds a workload; no slow compilers"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare results with torch's instead of timing"
    )
    parser.add_argument("--list", action="store_true", help="name the workloads and end")
    parser.add_argument(
        "--resume", action="store_true", help="measure only what the file of --json lacks"
    )
    options = parser.parse_args(command)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", options.device):
        parser.error(f"--device must be cpu, cuda or cuda:N, given {options.device!r}")
    if options.resume and not options.json:
        parser.error("--resume needs --json")
    options.parser = parser
    return options


def write(path: Path | None, run: Run) -> None:
    """Put the figures so far into the file, if there is one, at once."""
    if path is not None:
        beside = path.with_name(f"{path.name}.new")
        beside.write_text(json.dumps(run.results(), indent=1))
        beside.replace(path)


def main(command: list[str] | None = None) -> int:
    """Parse the command line, measure, print the tables, write the files."""
    options = arguments(command)
    try:
        selected = chosen(options.names)
    except ValueError as error:
        options.parser.error(str(error))
    if set(options.names) == {"limits"}:
        selected = []
    selected = [workload for workload in selected if workload.runs_on(options.device)]
    if options.list:
        for workload in selected:
            print(f"{workload.name:28}{workload.about}")
        return 0
    peers = []
    for name in options.peers or (QUICK_PEERS if options.quick else PEERS):
        missing = PEERS[name].missing(options.device)
        if missing:
            print(f"{name} is left out: {missing}", file=sys.stderr)
        else:
            peers.append(name)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        log = open(options.log or Path(folder) / "log", "w")
        setting = Setting(
            threads=options.threads,
            seconds=options.seconds or (0.1 if options.quick else 0.5),
            rounds=options.rounds or (2 if options.quick else 7),
            cache=Path(folder),
            log=log,
            quick=options.quick,
            device=options.device,
        )
        if any(name.startswith("braze") for name in peers):
            setting.make_bytecode()
        run = Run(setting, peers)
        with log:
            if options.check:
                return run.check(selected)
            if options.resume and options.json.exists():
                run.restore(json.loads(options.json.read_text()))
                selected = [w for w in selected if w.name not in run.measured]
            run.limits()
            for number, workload in enumerate(selected, start=1):
                print(f"[{number}/{len(selected)}] {workload.name}", file=sys.stderr, flush=True)
                run.measure(workload)
                write(options.json, run)  # now, in case that a long run is broken off
            run.limits()  # again: the machine's best counts
            run.close()
        write(options.json, run)
        results = run.results()
    print(report(results))
    if options.markdown:
        options.markdown.write_text(report(results, markdown=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
