"""Serve a package over HTTP: `braze serve model.brz`.

    command     the command line                     server      sockets, signals, a graceful stop
    app         routes; what becomes of a request     service     a model, its queue and its limits
    media       kinds of bodies; json_bodies and numpy_bodies read and write them
    signature   what a model takes and gives, and the check of a request's arrays
    rows        which requests may be computed as one, and how; row_trials finds out
    batcher     the queue                            metrics     what is counted

Neither the front end nor a compiler is imported. Starlette, uvicorn and prometheus_client, the
extra `serve`, are imported by `app`, `server` and `metrics` alone.
"""
