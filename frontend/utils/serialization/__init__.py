"""Files of Torch7."""

from braze.utils.serialization.read_lua_file import load_lua

__all__ = ["load_lua"]
