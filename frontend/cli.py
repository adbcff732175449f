"""The command line: `braze run`, `demo`, `inspect`, `bisect`, `export`, `serve`, `--version`.

Each command loads only what it needs.
"""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import braze

if TYPE_CHECKING:
    from braze.inspector.report import Report

STEP = "step"
# What `--show` takes: method of a report.
_PARTS = {"summary": "summary", "links": "links", "memory": "memory", "passes": "changes"}
SERVE = "serve"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="braze",
        description="Deep learning that feels eager and is compiled underneath.",
    )
    parser.add_argument("--version", action="version", version=f"braze {braze.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser(
        "run", help="run a PyTorch program as it is, with Braze in PyTorch's place"
    )
    run.add_argument("-m", "--module", action="store_true", help="SCRIPT is a module's name")
    run.add_argument(
        "--check", action="store_true", help="only list the names that it uses and Braze lacks"
    )
    run.add_argument("script", metavar="SCRIPT", help="the program's file")
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="what the program is given")
    demo = commands.add_parser(
        "demo", help="train a network on digits, explain what was compiled, package and run it"
    )
    demo.add_argument("--epochs", type=int, default=None, help="times over the 8,000 digits")
    demo.add_argument("--seed", type=int, default=1, help="of weights, order and dropout")
    demo.add_argument("--package", metavar="FILE", help="keep the compiled package there")
    demo.add_argument("--quick", action="store_true", help="a few steps only")
    look = commands.add_parser(
        "inspect",
        help="show what the compiler makes of a program, of the demo's training step, or a model",
        description="Show what the compiler makes of a program (which is run as `python "
        "program.py` would), of the demo's training step, of a package or of an ONNX model. "
        "Without a form: text.",
        epilog="What the program is given stands behind --, as in: "
        "braze inspect train.py -o r.html -- -n 3",
    )
    look.add_argument(
        "what",
        nargs="?",
        default=STEP,
        metavar="WHAT",
        help="a program (train.py), a package (model.brz), an ONNX model (model.onnx), or "
        f"{STEP!r}, the demo network's training step (the default)",
    )
    look.add_argument("-o", "--html", metavar="FILE", help="write a page on which all is linked")
    look.add_argument("--json", metavar="FILE", help="write the same data as JSON")
    look.add_argument("--dot", metavar="FILE", help="write the kernels as a graph for Graphviz")
    look.add_argument("--trace", metavar="FILE", help="write when kernels ran, for Perfetto")
    look.add_argument(
        "--repro",
        metavar="FILE",
        help="write a program that runs the hottest graph alone; of a package, its first code's",
    )
    look.add_argument(
        "--kernel", metavar="NAME", help="with --repro: this kernel of it, in its place"
    )
    look.add_argument(
        "--show",
        metavar="PART",
        action="append",
        choices=[*_PARTS, "all"],
        default=[],
        help=f"as text: {', '.join(_PARTS)}, or all of these; several times for several",
    )
    look.add_argument(
        "--graphs",
        type=int,
        default=12,
        help="of a program the hottest so many, of a package the first so many codes",
    )
    look.add_argument("--code", metavar="NAME", help="of a package, only this code")
    look.add_argument(
        "--list",
        action="store_true",
        help="only the names of the stages of the step, or of a package's (first) code",
    )
    look.add_argument("--stage", metavar="NAME", help="only this stage of it")
    look.add_argument("--batch", type=int, default=64, help="digits in the step")
    search = commands.add_parser(
        "bisect",
        help="find the stage of the compiler that changes a result of a program",
        description="Run a program as `python program.py` would, and compare every stage of the "
        "compile of each of its graphs with the interpreter, on the graph's first inputs. Status 1 "
        "if a stage changes a result, 2 if there was no graph to look at, or if the program ended "
        "with an error and nothing was found.",
        epilog="What the program is given stands behind --, as in: braze bisect train.py -- -n 3",
    )
    search.add_argument("script", metavar="PROGRAM", help="the program's file")
    search.add_argument("--repro", metavar="FILE", help="write the graph or kernel that is wrong")
    export = commands.add_parser(
        "export",
        help="write a package as a C header and object, for programs without Python",
        description="Write a package as a C library: NAME.h and NAME.o, which need only the C "
        "library and threads.",
    )
    export.add_argument("package", metavar="PACKAGE", help="what braze.aot.compile wrote")
    export.add_argument("-o", "--directory", metavar="DIR", default=".", help="where to (here)")
    export.add_argument("--name", help="what C names begin with (like the package's)")
    export.add_argument("--target", help="only the code for this one, such as x86-64-v3")
    export.add_argument("--shared", action="store_true", help="also NAME.so, by the C compiler")
    commands.add_parser(
        SERVE, add_help=False, help="answer requests over HTTP with a package's results"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0, 1 after an error, 2 for a wrong use of the command.
    """
    parser = _parser()
    given = list(sys.argv[1:] if argv is None else argv)
    arguments: list[str] = []
    if given[:1] in (["inspect"], ["bisect"]) and "--" in given:
        arguments = given[given.index("--") + 1 :]
        given = given[: given.index("--")]
    if given[:1] == [SERVE]:  # it has a parser of its own
        args = argparse.Namespace(command=SERVE, arguments=given[1:])
    else:
        args = parser.parse_args(given)
    if args.command in ("inspect", "bisect"):
        args.arguments = arguments
    if args.command is None:
        parser.print_help()
        return 2
    if args.command == "run" and not args.check:
        return _run(args)
    try:
        return _COMMANDS[args.command](args)
    except BrokenPipeError:  # nobody reads on, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, RuntimeError, ValueError, KeyError, SyntaxError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"braze: {text}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    from braze.as_torch import running

    if not args.module and not os.path.isfile(args.script):
        print(f"braze: there is no file {args.script}", file=sys.stderr)
        return 2
    return running.run(args.script, args.arguments, args.module)


def _check(args: argparse.Namespace) -> int:
    from braze.as_torch import running

    return running.check(args.script, args.module)


def _demo(args: argparse.Namespace) -> int:
    from braze import demo

    demo.run(args.epochs, args.seed, args.package, args.quick)
    return 0


def _inspect(args: argparse.Namespace) -> int:
    if args.what.endswith(".onnx"):
        return _inspect_onnx(args.what)
    if args.what.endswith(".py"):
        return _inspect_script(args)
    if args.what != STEP:
        return _inspect_package(args)
    from braze import demo

    found = demo.inspect_step(args.batch)
    if args.list:
        print("\n".join(found.names()))
    elif args.stage is not None:
        print(found[args.stage])
    elif not _write(found.report, args):
        print(found)
    return 0


def _inspect_script(args: argparse.Namespace) -> int:
    if not os.path.isfile(args.what):
        print(f"braze: there is no file {args.what}", file=sys.stderr)
        return 2
    from braze.inspector.collect import inspect_script, show_error

    keep = args.repro is not None
    report, error = inspect_script(args.what, args.arguments, args.graphs, keep)
    if error is not None:
        show_error(error)
    if not _write(report, args):
        print(report.summary())
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 0 if error is None else 1


def _write(report: Report, args: argparse.Namespace) -> bool:
    """Write the forms that are asked for, and say so, and print the parts; whether there were
    any."""
    forms = (
        (args.html, report.html),
        (args.json, report.json),
        (args.dot, report.write_dot),
        (args.trace, report.chrome_trace),
    )
    for path, write in forms:
        if path:
            write(path)
            print(f"wrote {path}", file=sys.stderr)
    if args.repro:
        report.repro(args.repro, args.kernel)
        print(f"wrote {args.repro}", file=sys.stderr)
    wanted = _PARTS if "all" in args.show else dict.fromkeys(args.show)
    for name in wanted:
        print(getattr(report, _PARTS[name])(), end="\n\n")
    return bool(wanted) or args.repro is not None or any(path for path, _ in forms)


def _bisect(args: argparse.Namespace) -> int:
    if not os.path.isfile(args.script):
        print(f"braze: there is no file {args.script}", file=sys.stderr)
        return 2
    if zipfile.is_zipfile(args.script):
        print(
            f"braze: {args.script} is a package, of which stages are not kept: give the program "
            "that compiled it",
            file=sys.stderr,
        )
        return 2
    from braze.bisection import bisect_script
    from braze.inspector.collect import show_error

    bisector, error = bisect_script(args.script, args.arguments)
    if error is not None:
        show_error(error)
    if bisector.found is None:
        on_gpus = f", {bisector.on_gpus} of them on GPUs" if bisector.on_gpus else ""
        print(f"nothing changed a result of {bisector.count} graphs{on_gpus}", file=sys.stderr)
        for reason in bisector.skipped:
            print(f"one was not looked at, since it raises: {reason}", file=sys.stderr)
        return 0 if bisector.count and error is None else 2
    print(bisector.found)
    if args.repro:
        bisector.repro(args.repro)
        print(f"wrote {args.repro}", file=sys.stderr)
    return 1


def _inspect_package(args: argparse.Namespace) -> int:
    from braze.aot import load

    path = args.what
    model = load(path, device="meta")
    from braze.inspector.packages import package_report

    report = package_report(path, args.graphs, args.code)
    first = report.graphs[0]
    stages = first.insides.stages if args.list or args.stage is not None else []
    if args.list:
        print("\n".join(stage.name for stage in stages))
        return 0
    if args.stage is not None:
        print(_stage(stages, args.stage))
        return 0
    if _write(report, args):
        return 0
    print(f"{path}: {model!r}, written by braze {model.braze_version}")
    print(f"code for {', '.join(model.targets)}\n")
    if model.dynamic is not None:
        print(f"{model.describe_sizes()}\n")
    if model.accuracy is not None:
        print(f"{model.accuracy}\n")
    print(f"{model.graph_text}\n")
    print(report.contents())
    return 0


def _stage(stages: Sequence[Any], name: str) -> str:
    """A stage's text.  Raises: KeyError: there is none of that name."""
    for stage in stages:
        if stage.name == name:
            text: str = stage.text
            return text
    names = ", ".join(stage.name for stage in stages)
    raise KeyError(f"no stage {name!r}; the stages are {names}")


def _export(args: argparse.Namespace) -> int:
    from braze.aot import export_c

    files = export_c(args.package, args.directory, args.name, args.target, args.shared)
    for path in (files.header, files.object, files.library):
        if path is not None:
            print(f"wrote {path}", file=sys.stderr)
    return 0


def _inspect_onnx(path: str) -> int:
    try:
        from braze.onnx import summary
    except ImportError as error:
        print(f"braze: {error}", file=sys.stderr)
        return 1
    print(summary(path))
    return 0


def _serve(args: argparse.Namespace) -> int:
    from braze.serve_command import main

    return main(args.arguments)


_COMMANDS = {
    "run": _check,
    "demo": _demo,
    "inspect": _inspect,
    "bisect": _bisect,
    "export": _export,
    SERVE: _serve,
}
