"""`braze serve`: a door to the runtime's server, beside `engine`.

A server needs nothing of the front end, so none of it is loaded.
"""

from braze.runtime.serving.command import main

__all__ = ["main"]
