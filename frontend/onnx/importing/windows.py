"""How ONNX places the windows of convolutions and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Windows:
    """Where the windows of an operator lie.

    Attributes:
        kernel, stride, dilation: for each spatial dimension.
        low, high: what is added before and behind; `high` does not count what `ceil_mode` adds.
        out: how many windows there are.
    """

    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    low: list[int]
    high: list[int]
    out: list[int]

    def reach(self, dim: int) -> int:
        """How many elements a window covers."""
        return self.dilation[dim] * (self.kernel[dim] - 1) + 1

    def behind(self, sizes: list[int]) -> list[int]:
        """What must be added behind so that the last windows are whole; negative for what no
        window sees."""
        return [
            (self.out[d] - 1) * self.stride[d] + self.reach(d) - sizes[d] - self.low[d]
            for d in range(len(sizes))
        ]


def windows_of(node: Any, sizes: list[int], kernel: list[int]) -> Windows:
    """The windows of a node on an input of these spatial sizes."""
    rank = len(sizes)
    ones = [1] * rank
    stride = node.get("strides") or ones
    dilation = node.get("dilations") or ones
    pads = node.get("pads") or [0] * (2 * rank)
    low, high = list(pads[:rank]), list(pads[rank:])
    auto = node.get("auto_pad", "NOTSET")
    found = Windows(list(kernel), list(stride), list(dilation), low, high, [0] * rank)
    for d in range(rank):
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            count = -(-sizes[d] // stride[d])
            total = max((count - 1) * stride[d] + found.reach(d) - sizes[d], 0)
            low[d] = total // 2 if auto == "SAME_UPPER" else total - total // 2
            high[d] = total - low[d]
        elif auto == "VALID":
            low[d] = high[d] = 0
        room = sizes[d] + low[d] + high[d] - found.reach(d)
        count = room // stride[d] + 1
        if node.get("ceil_mode", 0) and auto == "NOTSET":
            count = -(-room // stride[d]) + 1
            # The last window begins in the input or in what is added before it.
            if (count - 1) * stride[d] >= sizes[d] + low[d]:
                count -= 1
        found.out[d] = count
    return found
