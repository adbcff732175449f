"""The command line: `braze run`, `braze demo`, `braze inspect`, `braze --version`.

Each command loads only what it needs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import braze

STEP = "step"


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
        "inspect", help="show what the compiler makes of the demo's training step, or a model"
    )
    look.add_argument(
        "what",
        nargs="?",
        default=STEP,
        metavar="WHAT",
        help=f"a package (model.brz), an ONNX model (model.onnx), or {STEP!r}, the demo network's "
        "training step (the default)",
    )
    look.add_argument("--list", action="store_true", help="only the names of the stages")
    look.add_argument("--stage", metavar="NAME", help="only this stage")
    look.add_argument("--batch", type=int, default=64, help="digits in the step")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0, 1 after an error, 2 for a wrong use of the command.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    if args.command == "run" and not args.check:
        return _run(args)
    try:
        return _COMMANDS[args.command](args)
    except (OSError, RuntimeError, ValueError, KeyError, SyntaxError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"braze: {text}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0


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
    if args.what != STEP:
        return _inspect_package(args.what)
    from braze import demo

    found = demo.inspect_step(args.batch)
    if args.list:
        print("\n".join(found.names()))
    elif args.stage is not None:
        print(found[args.stage])
    else:
        print(found)
    return 0


def _inspect_package(path: str) -> int:
    from braze.aot import load

    model = load(path)
    print(f"{path}: {model!r}, written by braze {model.braze_version}\n")
    print(model.graph_text)
    return 0


def _inspect_onnx(path: str) -> int:
    try:
        from braze.onnx import summary
    except ImportError as error:
        print(f"braze: {error}", file=sys.stderr)
        return 1
    print(summary(path))
    return 0


_COMMANDS = {"run": _check, "demo": _demo, "inspect": _inspect}
