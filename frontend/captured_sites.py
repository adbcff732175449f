"""Where the operations of a trace are in the user's program, in this very run.

The trie has the places of the run that made it first, which may have been another program's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from braze.handle import Handle
from braze.sites import Site

if TYPE_CHECKING:
    from braze.capture import Pending


def sites_of(pending: Pending) -> list[Site]:
    """Of each captured operation, by its number."""
    sites: list[Site] = []
    slot = 0
    for replayed in pending.replayed:
        sites += _sites(pending.handles[slot : replayed.base])
        sites += replayed.operations()
        slot = replayed.end
    sites += _sites(pending.handles[slot:])
    return sites


def _sites(handles: list[Handle]) -> list[Site]:
    # An input that an earlier trace computed has the site of that operation, which does not count.
    return [h.site for h in handles if h.site is not None and h.state.call is not None]
