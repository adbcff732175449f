"""The command line of `braze serve`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import fields

from braze.runtime.serving.settings import BATCHING, Settings

_HELP = {
    "max_batch": "rows that are computed as one at most",
    "max_delay_ms": "how long a request waits for others while a worker is free",
    "workers": "threads that run the model; its kernels use several cores anyway",
    "max_queue": "requests that may be read, or wait, at once; more are answered with 503",
    "max_body_bytes": "of a request; longer ones are answered with 413",
    "timeout_s": "from a request's beginning to its answer; later it is 504",
    "grace_s": "how long a stop waits for requests that have begun",
    "max_connections": "that may be open at once",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="braze serve",
        description="Serve a package over HTTP: POST /predict, GET /model, /health, /ready and "
        "/metrics. SIGTERM and SIGINT stop it once the requests that have begun are answered.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("package", metavar="MODEL.brz", help="what braze.aot.compile wrote")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one, which is printed")
    parser.add_argument("--device", help="where the model runs; see braze.runtime.load")
    parser.add_argument("--threads", type=int, help="of the model's kernels (default: all cores)")
    parser.add_argument(
        "--batching",
        choices=BATCHING,
        default=Settings().batching,
        help="compute waiting requests as one: where trials show that rows do not depend on each "
        "other (auto), without trials, or not",
    )
    for field in fields(Settings):
        if field.name in _HELP:
            value = getattr(Settings(), field.name)
            option = "--" + field.name.replace("_", "-")
            about = _HELP[field.name]
            parser.add_argument(option, type=type(value), default=value, help=about)
    parser.add_argument("--finite-only", action="store_true", help="refuse NaN and infinities")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Serve a package until a signal comes.

    Returns:
        The exit status: 0, or 1 where requests were left unanswered.

    Raises:
        RuntimeError: the extra `serve` is not installed.
        PackageError, CudaError, OSError, ValueError: the package cannot be loaded, the port is
            taken, or a setting is out of range.
    """
    args = _parser().parse_args(arguments)
    names = [field.name for field in fields(Settings)]
    settings = Settings(**{name: getattr(args, name) for name in names})
    try:
        from braze.runtime.serving.app import make_app
        from braze.runtime.serving.server import bound, serve
    except ImportError as error:
        raise RuntimeError(
            f"serving needs {error.name}, which is not installed: pip install 'braze[serve]'"
        ) from error
    from braze.runtime.package import load
    from braze.runtime.pool import set_num_threads

    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # First, so that a port that is taken is said at once.
    with bound(args.host, args.port) as at:
        model = load(args.package, args.device)
        if args.threads is not None:
            set_num_threads(args.threads)
        app = make_app(model, settings)
        alone = app.state.service.alone
        if alone is not None:
            logging.getLogger("braze.serving").info("each request is computed alone: %s", alone)
        host, port = at.getsockname()[:2]
        place = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

        def started() -> None:
            print(f"braze: serving {model.name} on {place}", flush=True)

        finished = serve(app, at, settings, started)
    if not finished:
        print("braze: some requests were not answered in time", file=sys.stderr, flush=True)
        # A worker may still compute, and an ordinary exit would wait for it.
        os._exit(1)
    return 0
