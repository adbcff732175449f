"""Whether any module has changed: what `braze.compile` asks before it runs what it traced."""

from __future__ import annotations


class Changes:
    """How many attributes of modules were set, registered or deleted: as long as the number stays,
    no module has other parameters, buffers, children or modes than before."""

    count = 0
