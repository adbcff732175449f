"""`braze.utils.model_zoo`: the older name for `braze.hub.load_state_dict_from_url`."""

from __future__ import annotations

from braze.hub import load_state_dict_from_url as load_url

__all__ = ["load_url"]
